"""Readers of pages that see one whole view and tiles of it, and a text model with experts behind them."""

from typing import Any

import transformers
from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import PATCH_SIZE, chatml, decoder, encoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    DeepseekOcr2Config,
    DeepseekOcr2Processor,
    PPChart2TableConfig,
    PPChart2TableProcessor,
    Step3p7Config,
    Step3p7Processor,
)

PATCH = 2
SHRINK = 4
EXPERTS = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
}


def _sam(side: int, **kwargs: Any) -> dict[str, Any]:
    sizes = {"image_size": side, "patch_size": PATCH, "output_channels": 16, "mlp_dim": 48}
    return encoder(window_size=8, global_attn_indexes=[1]) | sizes | kwargs


def _template_tokenizer(*tokens: str, image: str) -> Any:
    return tiny_tokenizer(
        ["<|im_start|>", *tokens],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        chat_template=chatml(image),
    )


def deepseek_ocr2() -> Parts:
    """DeepSeek-OCR 2: queries behind SAM's features, 256 for the whole view and 144 for a tile, whatever the
    config."""
    tokenizer = _template_tokenizer("<image>", image="<image>\n")
    whole, tile = 16 * PATCH * SHRINK, 12 * PATCH * SHRINK
    processor = DeepseekOcr2Processor(
        image_processor("DeepseekOcr2", size={"height": whole, "width": whole}, tile_size=tile),
        tokenizer,
        chat_template=tokenizer.chat_template,
        patch_size=PATCH,
        downsample_ratio=SHRINK,
    )
    sam = _sam(whole, downsample_channels=[24, 32])
    del sam["intermediate_size"]
    queries = decoder(tokenizer, hidden_size=32, intermediate_size=48, num_attention_heads=2)
    config = DeepseekOcr2Config(
        vision_config={"sam_config": sam, "encoder_config": queries},
        text_config=decoder(tokenizer, num_key_value_heads=4)
        | EXPERTS
        | {"mlp_layer_types": ["dense", "sparse"]},
        image_token_id=processor.image_token_id,
    )
    return Parts(config, processor)


def unlimited_ocr() -> Parts:
    """Unlimited OCR: CLIP behind SAM's features; only the last tokens and the image are attended."""
    tokenizer = _template_tokenizer("<image>", image="<image>\n")
    whole, tile = 8 * PATCH * SHRINK, 4 * PATCH * SHRINK
    processor = transformers.UnlimitedOcrProcessor(
        image_processor("UnlimitedOcr", size={"height": whole, "width": whole}, tile_size=tile),
        tokenizer,
        chat_template=tokenizer.chat_template,
        patch_size=PATCH,
        downsample_ratio=SHRINK,
    )
    sam = _sam(whole, downsample_channels=[24, 32])
    del sam["intermediate_size"]
    clip = encoder(image_size=whole, patch_size=PATCH * SHRINK)
    config = transformers.UnlimitedOcrConfig(
        vision_config={"sam_config": sam, "encoder_config": clip},
        text_config=decoder(tokenizer, num_key_value_heads=4)
        | EXPERTS
        | {"sliding_window": 24, "mlp_layer_types": ["dense", "sparse"]},
        image_token_id=processor.image_token_id,
    )
    return Parts(config, processor)


def pp_chart2table() -> Parts:
    """PP-Chart2Table: GOT-OCR2's model under another type, and with a chat template."""
    places = 256
    side = 64 * PATCH
    tokenizer = _template_tokenizer(
        "<img>", "</img>", "<imgpad>", image="<img>" + "<imgpad>" * places + "</img>"
    )
    processor = PPChart2TableProcessor(
        image_processor("PPChart2Table", size={"height": side, "width": side}),
        tokenizer,
        chat_template=tokenizer.chat_template,
    )
    vision = _sam(side, global_attn_indexes=[])
    del vision["intermediate_size"]
    config = PPChart2TableConfig(
        vision_config=vision,
        text_config={"model_type": "qwen2"} | decoder(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<imgpad>"),
        image_seq_length=places,
    )
    return Parts(config, processor)


def step3p7() -> Parts:
    """Step 3.7: one whole view and tiles slid over it, shrunk four times."""
    marks = ("<im_patch>", "<im_start>", "<im_end>", "<patch_start>", "<patch_end>", "<patch_newline>")
    tokenizer = _template_tokenizer(*marks, image="<im_patch>")
    side = 16 * PATCH_SIZE
    images = image_processor(
        "Step3p7",
        size={"height": side, "width": side},
        patch_size=8 * PATCH_SIZE,
        vision_patch_size=PATCH_SIZE,
        downsampler_stride=4,
    )
    processor = Step3p7Processor(images, tokenizer, chat_template=tokenizer.chat_template)
    text = {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "share_expert_dim": 32,
        "mlp_layer_types": ["dense", "sparse"],
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 24,
    }
    vision = encoder(image_size=side, max_position_embeddings=256, mlp_ratio=1.5)
    del vision["intermediate_size"]
    config = Step3p7Config(
        vision_config=vision,
        text_config=decoder(tokenizer) | text,
        image_token_id=processor.image_token_id,
    )
    return Parts(config, processor)
