"""Pixtral's tower, whose images keep their shape, under Mistral and Qwen text."""

from typing import Any

import transformers
from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import PATCH_SIZE, chatml, decoder, encoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    LightOnOcrConfig,
    LightOnOcrProcessor,
    Mistral3Config,
    PixtralProcessor,
)

LARGEST = 64
MERGE = 2
SIDE = {"height": PATCH_SIZE, "width": PATCH_SIZE}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'user' %}[INST]{% elif message.role == 'system' %}[SYSTEM_PROMPT]{% endif %}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}[IMG]{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "{% if message.role == 'user' %}[/INST]{% elif message.role == 'system' %}[/SYSTEM_PROMPT]"
    "{% else %}{{ eos_token }}{% endif %}{% endfor %}"
)


def _pixtral_processor() -> tuple[Any, PixtralProcessor]:
    tokens = ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    tokenizer = tiny_tokenizer(tokens, prepend_bos=True, chat_template=TEMPLATE)
    processor = PixtralProcessor(
        image_processor("Pixtral", size={"longest_edge": LARGEST}, patch_size=SIDE),
        tokenizer,
        patch_size=PATCH_SIZE,
        spatial_merge_size=MERGE,
        chat_template=TEMPLATE,
    )
    return tokenizer, processor


def mistral3() -> Parts:
    """Mistral Small 3.1: image tokens in rows, each row ended by its own token."""
    tokenizer, processor = _pixtral_processor()
    config = Mistral3Config(
        vision_config={"model_type": "pixtral", "head_dim": 16} | encoder(image_size=LARGEST),
        text_config={"model_type": "mistral", "sliding_window": None} | decoder(tokenizer),
        image_token_index=processor.image_token_id,
        spatial_merge_size=MERGE,
    )
    return Parts(config, processor)


def mistral_large4() -> Parts:
    """Mistral Large 4: compressed keys and values, of which an indexer picks 32, experts."""
    tokenizer, processor = _pixtral_processor()
    text = decoder(tokenizer, num_key_value_heads=4, num_hidden_layers=3)
    del text["head_dim"]
    config = transformers.MistralLarge4Config(
        vision_config={"model_type": "pixtral", "head_dim": 16} | encoder(image_size=LARGEST),
        text_config=text
        | {
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 16,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "index_topk": 32,
            "index_head_dim": 16,
            "index_n_heads": 2,
        },
        image_token_index=processor.image_token_id,
        spatial_merge_size=MERGE,
    )
    return Parts(config, processor)


def lighton_ocr() -> Parts:
    """LightOnOCR: the same tower, whose rows are not told apart, under Qwen3."""
    chat = chatml("<|image_pad|>")
    named = {
        "image_token": "<|image_pad|>",
        "image_break_token": "<|vision_pad|>",
        "image_end_token": "<|vision_end|>",
    }
    tokenizer = tiny_tokenizer(
        ["<|im_start|>"], bos=None, eos="<|im_end|>", pad="<|endoftext|>", named=named, chat_template=chat
    )
    size = {"height": PATCH_SIZE * MERGE, "width": PATCH_SIZE * MERGE}
    processor = LightOnOcrProcessor(
        image_processor("Pixtral", size={"longest_edge": LARGEST}, patch_size=size),
        tokenizer,
        patch_size=PATCH_SIZE,
        spatial_merge_size=MERGE,
        chat_template=chat,
    )
    config = LightOnOcrConfig(
        vision_config={"model_type": "pixtral", "head_dim": 16} | encoder(image_size=LARGEST),
        text_config={"model_type": "qwen3"} | decoder(tokenizer),
        image_token_id=processor.image_token_id,
        spatial_merge_size=MERGE,
    )
    return Parts(config, processor)
