"""The Qwen-VL line: patches at the image's own size, merged two by two, and positions on three axes."""

from typing import Any

from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import PATCH_SIZE, chatml, decoder, encoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    Cosmos3OmniConfig,
    Exaone4_5_Config,
    Exaone4_5_Processor,
    HyperCLOVAXVisionV2Config,
    HyperCLOVAXVisionV2Processor,
    Kimi_K25Config,
    Kimi_K25Processor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLProcessor,
    Qwen3_5Config,
    Qwen3_5MoeConfig,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
    Qwen3VLProcessor,
    Qwen4ExpConfig,
    VideoLlama3Config,
    VideoLlama3Processor,
)

MERGE = 2
PIXELS = {"shortest_edge": (2 * PATCH_SIZE * MERGE) ** 2, "longest_edge": (5 * PATCH_SIZE * MERGE) ** 2}
TEMPLATE = chatml(
    "<|vision_start|><|image_pad|><|vision_end|>",
    system="You are a helpful assistant.",
    video="<|vision_start|><|video_pad|><|vision_end|>",
)
SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}


def _tokenizer() -> Any:
    tokens = [
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
        "<|im_start|>",
    ]
    return tiny_tokenizer(tokens, bos=None, eos="<|im_end|>", pad="<|endoftext|>", chat_template=TEMPLATE)


def _assemble(
    processor_class: Any,
    config_class: Any,
    family: str,
    text: dict[str, Any],
    vision: dict[str, Any],
) -> Parts:
    tokenizer = _tokenizer()
    sizes = {"patch_size": PATCH_SIZE, "merge_size": MERGE, "temporal_patch_size": 2, "size": PIXELS}
    processor = processor_class(
        image_processor("Qwen2VL", **sizes),
        tokenizer,
        video_processor(family, **sizes),
        chat_template=TEMPLATE,
    )
    config = config_class(
        text_config=decoder(tokenizer) | text,
        vision_config={
            "patch_size": PATCH_SIZE,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "num_heads": 2,
            "depth": 2,
        }
        | vision,
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return Parts(config, processor)


def qwen2_vl() -> Parts:
    """Qwen2-VL: full attention in the tower."""
    text = {"rope_parameters": SECTIONS, "use_sliding_window": False}
    vision = {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    return _assemble(Qwen2VLProcessor, Qwen2VLConfig, "Qwen2VL", text, vision)


def qwen2_5_vl() -> Parts:
    """Qwen2.5-VL: windows in the tower, one layer of full attention."""
    text = {"rope_parameters": SECTIONS, "use_sliding_window": False}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 64,
        "window_size": 4 * PATCH_SIZE,
        "fullatt_block_indexes": [1],
    }
    return _assemble(Qwen2_5_VLProcessor, Qwen2_5_VLConfig, "Qwen2VL", text, vision)


def _qwen3_vision(**kwargs: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 64,
        "num_position_embeddings": 36,
        "deepstack_visual_indexes": [0, 1],
    } | kwargs


def qwen3_vl() -> Parts:
    """Qwen3-VL: features of several tower layers are added inside the decoder (DeepStack)."""
    text = {"rope_parameters": SECTIONS | {"mrope_interleaved": True}, "num_hidden_layers": 3}
    return _assemble(Qwen3VLProcessor, Qwen3VLConfig, "Qwen3VL", text, _qwen3_vision())


def qwen3_vl_moe() -> Parts:
    """Qwen3-VL with experts."""
    text = {
        "rope_parameters": SECTIONS | {"mrope_interleaved": True},
        "num_hidden_layers": 3,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "tie_word_embeddings": False,
    }
    return _assemble(Qwen3VLProcessor, Qwen3VLMoeConfig, "Qwen3VL", text, _qwen3_vision())


def qwen3_5(experts: bool = False) -> Parts:
    """Qwen3.5: three layers of gated delta rule, recurrent, to one of attention."""
    text = {
        "rope_parameters": SECTIONS | {"mrope_section": [1, 1, 2], "mrope_interleaved": True},
        "partial_rotary_factor": 0.5,
        "num_hidden_layers": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    }
    vision = _qwen3_vision()
    del vision["deepstack_visual_indexes"]
    if experts:
        text |= {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
        }
    return _assemble(
        Qwen3VLProcessor, Qwen3_5MoeConfig if experts else Qwen3_5Config, "Qwen3VL", text, vision
    )


def exaone4_5() -> Parts:
    """EXAONE 4.5: Qwen2.5-VL's tower with grouped keys, EXAONE 4 text with sliding windows."""
    text = {
        "model_type": "exaone4",
        "num_hidden_layers": 4,
        "sliding_window": 24,
        "sliding_window_pattern": 4,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 64,
        "window_size": 4 * PATCH_SIZE,
        "fullatt_block_indexes": [1],
        "num_key_value_heads": 1,
    }
    return _assemble(Exaone4_5_Processor, Exaone4_5_Config, "Qwen2VL", text, vision)


def video_llama_3() -> Parts:
    """VideoLLaMA 3: SigLIP with rotary positions, Qwen2 text with plain positions."""
    tokenizer = _tokenizer()
    sizes = {"patch_size": PATCH_SIZE, "merge_size": 1, "temporal_patch_size": 1, "size": PIXELS}
    processor = VideoLlama3Processor(
        image_processor("VideoLlama3", **sizes),
        tokenizer,
        video_processor("VideoLlama3", **sizes),
        chat_template=TEMPLATE,
    )
    vision = encoder()
    del vision["image_size"]
    config = VideoLlama3Config(
        text_config={"model_type": "qwen2"} | decoder(tokenizer),
        vision_config=vision,
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
    )
    return Parts(config, processor)


def hyperclovax_vision_v2() -> Parts:
    """HyperCLOVA X: Qwen2.5-VL's tower, a text model with scaled residuals and plain positions."""
    text = {"model_type": "hyperclovax"}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 64,
        "window_size": 4 * PATCH_SIZE,
        "fullatt_block_indexes": [1],
    }
    return _assemble(HyperCLOVAXVisionV2Processor, HyperCLOVAXVisionV2Config, "Qwen2VL", text, vision)


def kimi_k25() -> Parts:
    """Kimi K2.5: MoonViT, and DeepSeek V3's text, whose keys and values are compressed."""
    chat = chatml("<|media_pad|>", video="<|kimi_k25_video_placeholder|>")
    tokens = [
        "<|im_start|>",
        "<|media_pad|>",
        "<|kimi_k25_video_placeholder|>",
        "<|media_begin|>",
        "<|media_end|>",
    ]
    tokenizer = tiny_tokenizer(tokens, bos=None, eos="<|im_end|>", pad="[PAD]", chat_template=chat)
    sizes = {"patch_size": PATCH_SIZE, "merge_size": MERGE, "max_patches": 32}
    processor = Kimi_K25Processor(
        image_processor("Kimi_K25", **sizes),
        tokenizer,
        video_processor("Kimi_K25", **sizes),
        chat_template=chat,
    )
    text = decoder(tokenizer, num_key_value_heads=4, model_type="deepseek_v3", num_hidden_layers=3)
    del text["head_dim"]
    latent = {
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
    }
    experts = {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 1,
    }
    vision = encoder(pos_emb_height=8, pos_emb_width=8)
    del vision["image_size"]
    config = Kimi_K25Config(
        text_config=text | latent | experts,
        vision_config=vision,
        projection_hidden_size=32,
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|media_begin|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|media_end|>"),
    )
    return Parts(config, processor)


def qwen4_exp() -> Parts:
    """Qwen4-Exp: several residual streams, n-gram embeddings, recurrent layers, attention that picks its keys."""
    text = {
        "rope_parameters": SECTIONS
        | {"mrope_section": [1, 1, 2], "mrope_interleaved": True, "partial_rotary_factor": 0.5},
        "num_hidden_layers": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
        "hc_count": 2,
        "hc_lowrank": 8,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 32,
        "indexer_compress_ratio": 4,
    }
    vision = _qwen3_vision()
    del vision["deepstack_visual_indexes"]
    return _assemble(Qwen3VLProcessor, Qwen4ExpConfig, "Qwen3VL", text, vision)


def cosmos3_omni() -> Parts:
    """Cosmos 3 Omni: Qwen3-VL's parts and its processor under another type."""
    text = {"rope_parameters": SECTIONS | {"mrope_interleaved": True}, "num_hidden_layers": 3}
    return _assemble(Qwen3VLProcessor, Cosmos3OmniConfig, "Qwen3VL", text, _qwen3_vision())
