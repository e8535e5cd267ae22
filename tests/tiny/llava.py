"""LLaVA and its descendants: a CLIP or SigLIP tower, a small projector, Llama, Mistral or Qwen2 text."""

from typing import Any

from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, chatml, decoder, encoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    LlavaConfig,
    LlavaNextConfig,
    LlavaNextProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    VideoLlavaConfig,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
    VipLlavaConfig,
)

TEMPLATE = template("<image>\n", start="<s>", turn="ROLE: ", end=" ", video="<video>\n")
SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
PINPOINTS = [[32, 64], [64, 32], [64, 64]]


def _clip_vision(**kwargs: Any) -> dict[str, Any]:
    return {"model_type": "clip_vision_model", "projection_dim": 32} | encoder(**kwargs)


def _square_images() -> tuple[Any, LlavaProcessor]:
    tokenizer = tiny_tokenizer(["<image>"], prepend_bos=True, chat_template=TEMPLATE)
    images = image_processor("CLIP", size={"shortest_edge": IMAGE_SIZE}, crop_size=SQUARE)
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return tokenizer, processor


def llava() -> Parts:
    """LLaVA 1.5: every image one square, its class token dropped."""
    tokenizer, processor = _square_images()
    config = LlavaConfig(
        vision_config=_clip_vision(),
        text_config={"model_type": "llama"} | decoder(tokenizer),
        image_token_index=processor.image_token_id,
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
    )
    return Parts(config, processor)


def vipllava() -> Parts:
    """ViP-LLaVA: features of several layers of the tower side by side."""
    tokenizer, processor = _square_images()
    config = VipLlavaConfig(
        vision_config=_clip_vision(num_hidden_layers=3),
        text_config={"model_type": "llama"} | decoder(tokenizer),
        image_token_index=processor.image_token_id,
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        # The latter before 5.23.
        **{name: [-2, -3, 1] for name in ("vision_feature_layer", "vision_feature_layers")},
    )
    return Parts(config, processor)


def llava_next() -> Parts:
    """LLaVA-NeXT: tiles by the image's shape, unpadded, so the number of tokens varies with it."""
    tokenizer = tiny_tokenizer(["<image>"], prepend_bos=True, chat_template=TEMPLATE)
    images = image_processor(
        "LlavaNext", size={"shortest_edge": IMAGE_SIZE}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS
    )
    processor = LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    config = LlavaNextConfig(
        vision_config=_clip_vision(),
        text_config={"model_type": "mistral", "sliding_window": None} | decoder(tokenizer),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=PINPOINTS,
    )
    return Parts(config, processor)


def llava_onevision() -> Parts:
    """LLaVA-OneVision: tiles for one image, plain squares for several; SigLIP tower, Qwen2 text."""
    chat = chatml("<image>\n", video="<video>\n")
    tokenizer = tiny_tokenizer(
        ["<|im_start|>", "<image>", "<video>"],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        chat_template=chat,
    )
    pinpoints = [*PINPOINTS, [32, 32]]
    processor = LlavaOnevisionProcessor(
        image_processor("LlavaOnevision", size=SQUARE, image_grid_pinpoints=pinpoints),
        tokenizer,
        video_processor("LlavaOnevision", size=SQUARE),
        num_image_tokens=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        vision_feature_select_strategy="full",
        chat_template=chat,
    )
    config = LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False} | encoder(),
        text_config={"model_type": "qwen2"} | decoder(tokenizer),
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        image_grid_pinpoints=pinpoints,
    )
    return Parts(config, processor)


def llava_next_video() -> Parts:
    """LLaVA-NeXT-Video, given images."""
    tokenizer = tiny_tokenizer(["<image>", "<video>"], prepend_bos=True, chat_template=TEMPLATE)
    crop = {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": SQUARE}
    processor = LlavaNextVideoProcessor(
        video_processor("LlavaNextVideo", **crop),
        image_processor("LlavaNext", **crop, image_grid_pinpoints=PINPOINTS),
        tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    config = LlavaNextVideoConfig(
        vision_config=_clip_vision(),
        text_config={"model_type": "llama"} | decoder(tokenizer),
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        image_grid_pinpoints=PINPOINTS,
    )
    return Parts(config, processor)


def video_llava() -> Parts:
    """Video-LLaVA, given images: a tower for pictures beside one for videos."""
    tokenizer = tiny_tokenizer(["<image>", "<video>"], prepend_bos=True, chat_template=TEMPLATE)
    crop = {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": SQUARE}
    processor = VideoLlavaProcessor(
        VideoLlavaImageProcessor(**crop),
        video_processor("VideoLlava", **crop),
        tokenizer,
        patch_size=PATCH_SIZE,
        chat_template=TEMPLATE,
    )
    config = VideoLlavaConfig(
        vision_config=_clip_vision(),
        text_config={"model_type": "llama"} | decoder(tokenizer),
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
    )
    return Parts(config, processor)
