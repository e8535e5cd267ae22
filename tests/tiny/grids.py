"""Recent families that see a picture as a grid of patches merged two by two, as Qwen2-VL does, each over a
text model of its own.
"""

from collections.abc import Mapping
from typing import Any

import transformers
from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import PATCH_SIZE, chatml, decoder, encoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    CohereCompassConfig,
    CohereCompassProcessor,
    Cosmos3EdgeConfig,
    Cosmos3EdgeProcessor,
    Glm5NextConfig,
    Glm5NextProcessor,
    MiniMaxM3VLConfig,
    MiniMaxM3VLProcessor,
    MuseGlimmerConfig,
    MuseGlimmerProcessor,
)

MERGE = 2
PIXELS = {"shortest_edge": (2 * PATCH_SIZE * MERGE) ** 2, "longest_edge": (5 * PATCH_SIZE * MERGE) ** 2}
SIZES = {"patch_size": PATCH_SIZE, "merge_size": MERGE, "temporal_patch_size": 2, "size": PIXELS}
VISION = {"patch_size": PATCH_SIZE, "spatial_merge_size": MERGE, "temporal_patch_size": 2}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "depth": 2, "num_heads": 2}
EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1}


def _tokenizer(image: str, video: str, *tokens: str) -> Any:
    """A tokenizer with these special tokens, and a template that writes `image` for an image, `video` for a video."""
    return tiny_tokenizer(
        ["<|im_start|>", *tokens],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        chat_template=chatml(image, video=video),
    )


def _processor(kind: Any, family: str, tokenizer: Any, sizes: Mapping[str, Any] = SIZES) -> Any:
    return kind(
        image_processor=image_processor(family, **sizes),
        tokenizer=tokenizer,
        video_processor=video_processor(family, **sizes),
        chat_template=tokenizer.chat_template,
    )


def cohere_compass() -> Parts:
    """Cohere Compass: DeepStack features, sliding windows, positions on three axes."""
    marks = ("<|VISION_START|>", "<|VISION_END|>", "<|IMAGE_PAD|>", "<|VIDEO_PAD|>")
    tokenizer = _tokenizer(
        "<|VISION_START|><|IMAGE_PAD|><|VISION_END|>", "<|VISION_START|><|VIDEO_PAD|><|VISION_END|>", *marks
    )
    processor = _processor(CohereCompassProcessor, "CohereCompass", tokenizer)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    text = {
        "num_hidden_layers": 4,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {"sliding_attention": rope, "full_attention": None},
    }
    vision = {"out_hidden_size": 64, "num_position_embeddings": 36, "deepstack_visual_indexes": [0, 1]}
    config = CohereCompassConfig(
        text_config=decoder(tokenizer) | text,
        vision_config=VISION | TOWER | vision,
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        vision_start_token_id=processor.vision_start_token_id,
        vision_end_token_id=processor.vision_end_token_id,
    )
    return Parts(config, processor)


def cosmos3_edge() -> Parts:
    """Cosmos 3 Edge: SigLIP 2 over patches merged two by two, positions on three axes.

    Its processor gives the token types that its `generate` insists on only when asked for them.
    """
    marks = ("<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>")
    tokenizer = _tokenizer(
        "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>", *marks
    )
    processor = _processor(
        Cosmos3EdgeProcessor, "Cosmos3Edge", tokenizer, dict(SIZES) | {"temporal_patch_size": 1}
    )
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    vision = encoder(num_patches=36, spatial_merge_size=MERGE)
    del vision["image_size"]
    config = Cosmos3EdgeConfig(
        text_config=decoder(tokenizer) | {"rope_parameters": rope},
        vision_config=vision,
        projector_hidden_size=48,
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        vision_start_token_id=processor.vision_start_token_id,
        vision_end_token_id=processor.vision_end_token_id,
    )
    return Parts(config, processor)


def glm5_next() -> Parts:
    """GLM-5-Next: several residual streams, recurrent layers beside attention that picks its keys."""
    kinds = ("image", "video")
    marks = [f"<|{place}_of_{kind}|>" for kind in kinds for place in ("begin", "end")]
    tokenizer = _tokenizer(
        "<|begin_of_image|><|image|><|end_of_image|>",
        "<|begin_of_video|><|video|><|end_of_video|>",
        "<|image|>",
        "<|video|>",
        *marks,
    )
    sizes = dict(SIZES) | {"min_image_tokens": 4, "max_image_tokens": 25}
    del sizes["size"]
    processor = _processor(Glm5NextProcessor, "Glm5Next", tokenizer, sizes)
    latent = {
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "index_topk": 16,
        "index_head_dim": 16,
        "index_n_heads": 2,
        "index_kpool": 4,
        "linear_head_dim": 16,
        "linear_num_heads": 4,
        "num_hidden_layers": 4,
        "hc_mult": 2,
        "topk_group": 1,
    }
    text = decoder(tokenizer, num_key_value_heads=4)
    del text["head_dim"]
    config = Glm5NextConfig(
        text_config=text | latent | EXPERTS,
        vision_config=VISION
        | TOWER
        | {"out_hidden_size": 64, "projection_intermediate_size": 48, "image_size": 4 * PATCH_SIZE},
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        **{
            f"{kind}_{end}_token_id": tokenizer.convert_tokens_to_ids(f"<|{mark}_of_{kind}|>")
            for kind in kinds
            for end, mark in (("start", "begin"), ("end", "end"))
        },
    )
    return Parts(config, processor)


def minimax_m3_vl() -> Parts:
    """MiniMax M3: experts, and attention to chosen blocks of keys."""
    kinds = ("image", "video", "start of image", "end of image")
    tokenizer = _tokenizer("]<]image[>[", "]<]video[>[", *(f"]<]{kind}[>[" for kind in kinds))
    processor = _processor(MiniMaxM3VLProcessor, "MiniMaxM3VL", tokenizer)
    text = {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "intermediate_size": 32,
        "dense_intermediate_size": 96,
        "shared_intermediate_size": 32,
        "rotary_dim": 8,
        "num_hidden_layers": 4,
        "layer_types": ["full_attention", *["minimax_m3_sparse"] * 3],
        "index_n_heads": 2,
        "index_head_dim": 16,
        "index_block_size": 8,
        "index_topk_blocks": 3,
    }
    vision = encoder(temporal_patch_size=2, spatial_merge_size=MERGE)
    config = MiniMaxM3VLConfig(
        text_config=decoder(tokenizer) | text,
        vision_config=vision,
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        projector_hidden_size=48,
    )
    return Parts(config, processor, end_gain=0.7)


def muse(config_class: Any, processor_class: Any, *ears: Any, **more: Any) -> Parts:
    """A Muse: norms before and after, soft-capped logits, sliding windows.

    Args:
        config_class: The family's config.
        processor_class: The family's processor.
        ears: Its feature extractor, where it hears.
        more: Further fields of the config; `text` adds to those of its text.
    """
    marks = ("<|patch|>", "<|image_start|>", "<|image_end|>", "<|video|>", "<|vid_frame_separator|>")
    sounds = ("<|audio|>", "<|soft_audio_start|>", "<|soft_audio_end|>") if ears else ()
    tokenizer = _tokenizer("<|patch|>", "<|video|>", *marks, "<|vid_start|>", "<|vid_end|>", *sounds)
    sizes = dict(SIZES) | {"max_image_tokens": 25}
    del sizes["size"]
    heard = {"feature_extractor": ears[0]} if ears else {}
    processor = processor_class(
        image_processor=image_processor("MuseGlimmer", **sizes),
        tokenizer=tokenizer,
        video_processor=video_processor("MuseGlimmer", **sizes),
        chat_template=tokenizer.chat_template,
        **heard,
    )
    vision = encoder(pos_emb_height=8, pos_emb_width=8, merge_size=MERGE, max_position_embeddings=64)
    del vision["image_size"]
    if ears:
        more["audio_token_id"] = processor.audio_token_id
    config = config_class(
        text_config=decoder(tokenizer)
        | {"num_hidden_layers": 4, "sliding_window": 24}
        | more.pop("text", {}),
        vision_config=vision,
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        out_hidden_size=32 * MERGE**2,
        projector_hidden_size=48,
        **more,
    )
    return Parts(config, processor)


def muse_glimmer() -> Parts:
    """Muse Glimmer: no experts, no ears."""
    return muse(MuseGlimmerConfig, MuseGlimmerProcessor)


def muse_spark() -> Parts:
    """Muse Spark: experts, and an audio tower."""
    experts = {
        "moe_intermediate_size": 32,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "moe_hidden_size": 32,
    }
    audio = {
        "patch_sizes": (4, 2),
        "hidden_sizes": (16, 32),
        "depths": (1, 1),
        "num_hidden_layers": 2,
        "out_hidden_size": 64,
    }
    return muse(
        transformers.MuseSparkConfig,
        transformers.MuseSparkProcessor,
        transformers.MuseSparkFeatureExtractor(),
        text=experts,
        audio_config=audio,
    )
