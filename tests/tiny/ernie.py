"""ERNIE 4.5 VL: experts of their own for words and for patches, token types that say which is which."""

import tempfile
from functools import cache
from pathlib import Path

from PIL import ImageFont
from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import PATCH_SIZE, chatml, decoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import Ernie4_5_VLMoeConfig, Ernie4_5_VLMoeProcessor

MERGE = 2
PIXELS = {"shortest_edge": (2 * PATCH_SIZE * MERGE) ** 2, "longest_edge": (5 * PATCH_SIZE * MERGE) ** 2}


@cache
def _font() -> str:
    """Pillow's own font as a file: the video processor writes times into frames, so a checkpoint brings one."""
    font = ImageFont.load_default(12)
    assert isinstance(font, ImageFont.FreeTypeFont)
    file = Path(tempfile.mkdtemp(prefix="tiny-font-")) / "font.ttf"
    file.write_bytes(font.font_bytes)
    return str(file)


def ernie4_5_vl_moe() -> Parts:
    """A resampler over merged patches, positions on three axes, two sets of experts a layer."""
    named = {
        "image_token": "<|IMAGE_PLACEHOLDER|>",
        "image_start_token": "<|IMAGE_START|>",
        "image_end_token": "<|IMAGE_END|>",
        "video_token": "<|VIDEO_PLACEHOLDER|>",
        "video_start_token": "<|VIDEO_START|>",
        "video_end_token": "<|VIDEO_END|>",
    }
    chat = chatml(
        "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        video="<|VIDEO_START|><|VIDEO_PLACEHOLDER|><|VIDEO_END|>",
    )
    tokenizer = tiny_tokenizer(
        ["<|im_start|>"], bos=None, eos="<|im_end|>", pad="<|endoftext|>", named=named, chat_template=chat
    )
    sizes = {"patch_size": PATCH_SIZE, "merge_size": MERGE, "size": PIXELS}
    processor = Ernie4_5_VLMoeProcessor(
        image_processor("Ernie4_5_VLMoe", **sizes),
        tokenizer,
        video_processor("Ernie4_5_VLMoe", **sizes, font=_font()),
        chat_template=chat,
    )
    text = {
        "num_hidden_layers": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]},
        "moe_k": 2,
        "moe_num_experts": 4,
        "moe_num_shared_experts": 1,
        "moe_intermediate_size": [32, 16],
    }
    config = Ernie4_5_VLMoeConfig(
        text_config=decoder(tokenizer) | text,
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": PATCH_SIZE,
            "spatial_merge_size": MERGE,
        },
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in named.items()},
    )
    return Parts(config, processor)
