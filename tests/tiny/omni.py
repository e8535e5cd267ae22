"""Families that hear as well as see, given images: the thinkers of Qwen2.5-Omni and Qwen3-Omni, Dots 3
Note, Nemotron-H Omni.
"""

from typing import Any

import transformers
from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import PATCH_SIZE, chatml, decoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    NemotronH_Omni_Reasoning_V3_Config,
    NemotronH_Omni_Reasoning_V3Processor,
    ParakeetFeatureExtractor,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerConfig,
    WhisperFeatureExtractor,
)

MERGE = 2
PIXELS = {"shortest_edge": (2 * PATCH_SIZE * MERGE) ** 2, "longest_edge": (5 * PATCH_SIZE * MERGE) ** 2}
LONG = 4096
"""The processors of both thinkers enlarge frames to a size of their own."""
SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
HEARING = {
    "num_mel_bins": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "d_model": 32,
    "output_dim": 64,
}
SEEING = {
    "patch_size": PATCH_SIZE,
    "spatial_merge_size": MERGE,
    "temporal_patch_size": 2,
    "num_heads": 2,
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "out_hidden_size": 64,
}


def _processor(kind: Any) -> Any:
    named = {
        "image_token": "<|IMAGE|>",
        "audio_token": "<|AUDIO|>",
        "video_token": "<|VIDEO|>",
        "vision_bos_token": "<|vision_bos|>",
        "vision_eos_token": "<|vision_eos|>",
        "audio_bos_token": "<|audio_bos|>",
        "audio_eos_token": "<|audio_eos|>",
    }
    chat = chatml(
        "<|vision_bos|><|IMAGE|><|vision_eos|>",
        system="You are a helpful assistant.",
        video="<|vision_bos|><|VIDEO|><|vision_eos|>",
    )
    tokenizer = tiny_tokenizer(
        ["<|im_start|>"], bos=None, eos="<|im_end|>", pad="<|endoftext|>", named=named, chat_template=chat
    )
    sizes = {"patch_size": PATCH_SIZE, "merge_size": MERGE, "temporal_patch_size": 2, "size": PIXELS}
    return kind(
        image_processor("Qwen2VL", **sizes),
        video_processor("Qwen2VL", **sizes),
        WhisperFeatureExtractor(feature_size=HEARING["num_mel_bins"]),
        tokenizer,
        chat_template=chat,
    )


def qwen2_5_omni_thinker() -> Parts:
    """Qwen2.5-Omni: Qwen2.5-VL beside a Whisper encoder."""
    processor = _processor(Qwen2_5OmniProcessor)
    tokenizer = processor.tokenizer
    config = Qwen2_5OmniThinkerConfig(
        text_config=decoder(tokenizer, max_position_embeddings=LONG) | {"rope_parameters": SECTIONS},
        vision_config=SEEING | {"window_size": 4 * PATCH_SIZE, "fullatt_block_indexes": [1]},
        audio_config=HEARING,
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        audio_token_index=processor.audio_token_id,
        audio_start_token_id=tokenizer.convert_tokens_to_ids("<|audio_bos|>"),
        audio_end_token_id=tokenizer.convert_tokens_to_ids("<|audio_eos|>"),
    )
    # Its positions find images by the token before them.
    config.vision_start_token_id = tokenizer.convert_tokens_to_ids("<|vision_bos|>")
    config.vision_end_token_id = tokenizer.convert_tokens_to_ids("<|vision_eos|>")
    return Parts(config, processor)


def qwen3_omni_moe_thinker() -> Parts:
    """Qwen3-Omni: Qwen3-VL with experts, DeepStack features, beside an audio encoder."""
    processor = _processor(Qwen3OmniMoeProcessor)
    tokenizer = processor.tokenizer
    text = {
        "rope_parameters": SECTIONS | {"mrope_interleaved": True},
        "num_hidden_layers": 3,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    }
    config = Qwen3OmniMoeThinkerConfig(
        text_config=decoder(tokenizer, max_position_embeddings=LONG) | text,
        vision_config=SEEING | {"num_position_embeddings": 36, "deepstack_visual_indexes": [0, 1]},
        audio_config=HEARING | {"downsample_hidden_size": 8, "n_window_infer": 100},
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        audio_token_id=processor.audio_token_id,
        audio_start_token_id=tokenizer.convert_tokens_to_ids("<|audio_bos|>"),
    )
    config.vision_start_token_id = tokenizer.convert_tokens_to_ids("<|vision_bos|>")
    config.vision_end_token_id = tokenizer.convert_tokens_to_ids("<|vision_eos|>")
    config.audio_end_token_id = tokenizer.convert_tokens_to_ids("<|audio_eos|>")
    return Parts(config, processor)


def dots3_note() -> Parts:
    """Dots 3 Note: compressed keys and values, attention that picks its keys beside sliding windows, experts."""
    chat = chatml("<|img|><|imgpad|><|endofimg|>", video="<|video_pad|>")
    tokenizer = tiny_tokenizer(
        ["<|im_start|>", "<|img|>", "<|imgpad|>", "<|endofimg|>", "<|video_pad|>", "<|audio_comp_pad|>"],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        chat_template=chat,
    )
    sizes = {"patch_size": PATCH_SIZE, "merge_size": MERGE, "temporal_patch_size": 1, "size": PIXELS}
    processor = transformers.Dots3NoteProcessor(
        image_processor("Qwen2VL", **sizes),
        tokenizer,
        video_processor("Qwen2VL", **sizes),
        transformers.Dots3NoteFeatureExtractor(feature_size=16),
        chat_template=chat,
    )
    latent = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "v_head_dim": 16, "head_dim": 16}
    text = {
        "num_hidden_layers": 4,
        "num_key_value_heads": 4,
        "sliding_window": 24,
        "qk_rope_head_dim": 8,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "shared_experts_intermediate_size": 32,
        "index_topk": 24,
        "index_head_dim": 16,
        "index_n_heads": 2,
    }
    sliding = {f"swa_{name}": size for name, size in latent.items()}
    heads = {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4}
    config = transformers.Dots3NoteConfig(
        text_config=decoder(tokenizer) | latent | text | sliding | heads,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": PATCH_SIZE,
            "moe_intermediate_size": 16,
            "pyramid_num_routed": [-1, 4],
            "adapter_in_dim": 32,
            "adapter_out_dim": 64,
        },
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "feature_size": 16,
            "downsample_hidden_size": 8,
            "adapter_input_size": 32,
            "adapter_out_dim": 64,
        },
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        audio_token_id=processor.audio_token_id,
    )
    return Parts(config, processor)


def nemotron_h_omni() -> Parts:
    """Nemotron-H Omni: a RADIO tower, recurrent layers beside attention and experts."""
    chat = chatml("<image>", video="<video>")
    marks = ("<image>", "<video>", "<so_embedding>", "<so_start>", "<so_end>", "<img>", "</img>")
    tokenizer = tiny_tokenizer(
        ["<|im_start|>", *marks], bos=None, eos="<|im_end|>", pad="<|endoftext|>", chat_template=chat
    )
    images = {"patch_size": PATCH_SIZE}
    family = "NemotronH_Omni_Reasoning_V3"
    processor = NemotronH_Omni_Reasoning_V3Processor(
        image_processor(family, **images, min_num_patches=16, max_num_patches=64),
        video_processor(family, **images, video_target_num_patches=16),
        tokenizer,
        ParakeetFeatureExtractor(feature_size=16),
        chat_template=chat,
    )
    text = {
        "model_type": "nemotron_h",
        "layers_block_type": ["mamba", "attention", "moe", "mamba", "attention", "moe"],
        "ssm_state_size": 16,
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "chunk_size": 16,
        "n_routed_experts": 4,
        "moe_intermediate_size": 32,
        "moe_shared_expert_intermediate_size": 32,
    }
    sizes = decoder(tokenizer) | text
    del sizes["num_hidden_layers"]
    config = NemotronH_Omni_Reasoning_V3_Config(
        text_config=sizes,
        vision_config={
            "model_type": "radio",
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mlp_ratio": 1.5,
            "patch_size": PATCH_SIZE,
            "image_size": 4 * PATCH_SIZE,
            "max_img_size": 16 * PATCH_SIZE,
            "video_temporal_patch_size": 2,
        },
        audio_config={
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "subsampling_conv_channels": 8,
            "num_mel_bins": 16,
            "projection_hidden_size": 32,
            "projection_bias": False,
        },
        vision_hidden_size=32,
        projector_hidden_size=48,
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        audio_token_id=processor.audio_token_id,
    )
    return Parts(config, processor)
