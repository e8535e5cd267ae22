"""Inkling: relative positions and convolutions in place of rotary ones, pictures as squares one token each."""

from typing import Any

import transformers
from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import PATCH_SIZE, chatml, decoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    InklingConfig,
    InklingFeatureExtractor,
    InklingProcessor,
)

SQUARE = {"height": 2 * PATCH_SIZE, "width": 2 * PATCH_SIZE}
ATTENTION = {
    "num_hidden_layers": 4,
    "layer_types": ["hybrid_sliding", "hybrid", "hybrid_sliding", "hybrid"],
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 16,
    "sliding_window_size": 24,
    "d_rel": 8,
    "rel_extent": 64,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "route_scale": 1.0,
}


def _tokenizer(image: str, *tokens: str) -> Any:
    return tiny_tokenizer(
        ["<|im_start|>", *tokens],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        chat_template=chatml(image),
    )


def inkling() -> Parts:
    """Inkling: experts behind a dense layer, pictures and sounds; given pictures."""
    marks = {
        "image_token": "<|image|>",
        "audio_token": "<|audio|>",
        "image_bos_token": "<|content_image|>",
        "audio_bos_token": "<|content_audio|>",
    }
    tokenizer = _tokenizer("<|content_image|><|image|>", *marks.values())
    processor = InklingProcessor(
        InklingFeatureExtractor(feature_size=16),
        image_processor("Inkling", size=SQUARE, rescale_image_max_upscaled_long_edge=64),
        tokenizer,
        chat_template=tokenizer.chat_template,
        **marks,
    )
    text = {
        "unpadded_vocab_size": len(tokenizer),
        "n_shared_experts": 1,
        "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        "logits_mup_width_multiplier": 1.0,
    }
    config = InklingConfig(
        text_config=decoder(tokenizer) | ATTENTION | text,
        vision_config={
            "text_hidden_size": 64,
            "patch_size": 2 * PATCH_SIZE,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        audio_config={"n_mel_bins": 16, "mel_vocab_size": 16, "text_hidden_size": 64},
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in marks.items()},
    )
    return Parts(config, processor)


def inkling2() -> Parts:
    """Inkling 2: relative positions, residual blocks attended to, convolutions, clipped queries and keys."""
    tokenizer = _tokenizer("<|image|>", "<|image|>")
    images = image_processor("Inkling2", size=SQUARE)
    processor = transformers.Inkling2Processor(
        images, tokenizer, chat_template=tokenizer.chat_template, image_token="<|image|>"
    )
    text = {"unpadded_vocab_size": len(tokenizer), "n_layers_per_attn_res_block": 2}
    sizes = decoder(tokenizer) | ATTENTION | text
    del sizes["intermediate_size"]
    config = transformers.Inkling2Config(
        text_config=sizes,
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": PATCH_SIZE,
            "mlp_ratio": 1.5,
            "posemb_grid_size": 8,
            "projection_hidden_dim": 48,
            "text_hidden_size": 64,
        },
        image_token_id=processor.image_token_id,
    )
    return Parts(config, processor)
