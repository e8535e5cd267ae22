"""Other families with patches at the image's own size: GLM-4V, PaddleOCR-VL."""

from typing import Any

import transformers
from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, decoder, encoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import PaddleOCRVLConfig, PaddleOCRVLProcessor, PreTrainedConfig

MERGE = 2
PIXELS = {"shortest_edge": (2 * PATCH_SIZE * MERGE) ** 2, "longest_edge": (5 * PATCH_SIZE * MERGE) ** 2}


GLM_TEMPLATE = template(
    "<|begin_of_image|><|image|><|end_of_image|>",
    start="[gMASK]<sop>",
    turn="<|ROLE|>\n",
    end="",
    video="<|begin_of_video|><|video|><|end_of_video|>",
)
GLM_TOKENS = (
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|image|>",
    "<|video|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
)
EXPERTS = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
}


def glm(family: str, config_class: type[PreTrainedConfig], images: str = "", **text: Any) -> Parts:
    """A member of the GLM-V line: learned positions resampled to the image's grid, GLM-4 text.

    Args:
        family: whose processors it has, `Glm4v` or `Glm46V`.
        config_class: its config.
        images: whose image and video processors it has, if not the family's.
        text: what its text config has beside the usual sizes.
    """
    tokenizer = tiny_tokenizer(
        GLM_TOKENS, bos=None, eos="<|endoftext|>", pad="<|pad|>", chat_template=GLM_TEMPLATE
    )
    sizes = {"patch_size": PATCH_SIZE, "merge_size": MERGE, "temporal_patch_size": 2, "size": PIXELS}
    processor = getattr(transformers, f"{family}Processor")(
        image_processor(images or family, **sizes),
        tokenizer,
        video_processor(images or family, **sizes),
        chat_template=GLM_TEMPLATE,
    )
    ids = dict(zip(GLM_TOKENS, tokenizer.convert_tokens_to_ids(list(GLM_TOKENS)), strict=True))
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 3, 3],
        "partial_rotary_factor": 1.0,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE,
        "out_hidden_size": 64,
        "intermediate_size": 48,
    }
    config = config_class(
        text_config=decoder(tokenizer, rope_parameters=rope) | text,
        vision_config=vision,
        image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"],
        image_start_token_id=ids["<|begin_of_image|>"],
        image_end_token_id=ids["<|end_of_image|>"],
        video_start_token_id=ids["<|begin_of_video|>"],
        video_end_token_id=ids["<|end_of_video|>"],
    )
    return Parts(config, processor)


def paddleocr_vl() -> Parts:
    """PaddleOCR-VL: NaViT tower, Ernie text with positions on three axes."""
    chat = template(
        "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        start="{{ bos_token }}",
        turn="ROLE: ",
        end="\n",
        capitalize=True,
    )
    tokens = ["<|IMAGE_START|>", "<|IMAGE_END|>", "<|VIDEO_PLACEHOLDER|>"]
    tokenizer = tiny_tokenizer(tokens, named={"image_token": "<|IMAGE_PLACEHOLDER|>"}, chat_template=chat)
    processor = PaddleOCRVLProcessor(
        image_processor("PaddleOCRVL", patch_size=PATCH_SIZE, merge_size=MERGE, size=PIXELS),
        tokenizer,
        chat_template=chat,
    )
    config = PaddleOCRVLConfig(
        vision_config=encoder(),
        text_config=decoder(
            tokenizer,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        ),
        image_token_id=processor.image_token_id,
        video_token_id=tokenizer.convert_tokens_to_ids("<|VIDEO_PLACEHOLDER|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|IMAGE_START|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|IMAGE_END|>"),
    )
    return Parts(config, processor)
