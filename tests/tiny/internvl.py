"""Families whose images are cut into squares: InternVL, Aya Vision, GOT-OCR2 and their like."""

from typing import Any

from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, chatml, decoder, encoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    AyaVisionConfig,
    AyaVisionProcessor,
    Cohere2VisionConfig,
    Cohere2VisionProcessor,
    GotOcr2Config,
    GotOcr2Processor,
    InternVLConfig,
    InternVLProcessor,
    Ovis2Config,
    Ovis2Processor,
    QianfanOCRConfig,
    QianfanOCRProcessor,
)

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
SHUFFLED = (IMAGE_SIZE // PATCH_SIZE // 2) ** 2  # tokens of a tile
TILES = {"size": SQUARE, "crop_to_patches": True, "min_patches": 1, "max_patches": 4}


def _contexts(image: str) -> tuple[Any, str]:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    chat = chatml(image, video="<video>\n")
    tokenizer = tiny_tokenizer(
        ["<|im_start|>", "<image>"],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        named=named,
        chat_template=chat,
    )
    return tokenizer, chat


def internvl() -> Parts:
    """InternVL 3: squares and a thumbnail, pixel unshuffle, Qwen2 text."""
    tokenizer, chat = _contexts("<IMG_CONTEXT>\n")
    processor = InternVLProcessor(
        image_processor("GotOcr2", **TILES),
        tokenizer,
        video_processor("InternVL", size=SQUARE),
        image_seq_length=SHUFFLED,
        chat_template=chat,
    )
    config = InternVLConfig(
        vision_config=encoder(image_size=(IMAGE_SIZE, IMAGE_SIZE), patch_size=(PATCH_SIZE, PATCH_SIZE)),
        text_config={"model_type": "qwen2"} | decoder(tokenizer),
        image_token_id=processor.image_token_id,
        image_seq_length=SHUFFLED,
    )
    return Parts(config, processor)


def qianfan_ocr() -> Parts:
    """Qianfan-OCR: InternVL's shape with Qwen3 text; its template's placeholder becomes another token."""
    tokenizer, chat = _contexts("<image>\n")
    processor = QianfanOCRProcessor(
        image_processor("GotOcr2", **TILES), tokenizer, image_seq_length=SHUFFLED, chat_template=chat
    )
    config = QianfanOCRConfig(
        vision_config=encoder(image_size=(IMAGE_SIZE, IMAGE_SIZE), patch_size=(PATCH_SIZE, PATCH_SIZE)),
        text_config={"model_type": "qwen3"} | decoder(tokenizer),
        image_token_id=processor.image_token_id,
        image_seq_length=SHUFFLED,
    )
    return Parts(config, processor)


def cohere2_vision() -> Parts:
    """Command A Vision: as Aya Vision, each tile ended by its own token."""
    named = {
        "image_token": "<|IMG_PATCH|>",
        "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>",
        "img_line_break_token": "<|IMG_LINE_BREAK|>",
    }
    chat = template(
        "<|IMG_PATCH|>",
        start="{{ bos_token }}",
        turn="<|START_OF_TURN_TOKEN|>ROLE:",
        end="<|END_OF_TURN_TOKEN|>",
    )
    tokenizer = tiny_tokenizer(
        ["<|START_OF_TURN_TOKEN|>"],
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        named=named,
        prepend_bos=True,
        chat_template=chat,
    )
    # Its image processor's `patch_size` is the side of a tile in tokens.
    images = image_processor("Cohere2Vision", **TILES, patch_size=IMAGE_SIZE // PATCH_SIZE // 2)
    processor = Cohere2VisionProcessor(images, tokenizer, chat_template=chat)
    config = Cohere2VisionConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False} | encoder(),
        text_config=_cohere2(tokenizer),
        downsample_factor=2,
        alignment_intermediate_size=128,
        image_token_id=processor.image_token_id,
    )
    return Parts(config, processor)


def _cohere2(tokenizer: Any) -> dict[str, Any]:
    windows = {
        "model_type": "cohere2",
        "sliding_window": 24,
        "sliding_window_pattern": 2,
        "logit_scale": 0.25,
    }
    return windows | decoder(tokenizer, num_hidden_layers=4)


def ovis2() -> Parts:
    """Ovis 2: images become weights over a vocabulary of visual words, whose embeddings are mixed."""
    chat = chatml("<image>\n")
    indicators = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    tokenizer = tiny_tokenizer(
        ["<|im_start|>", "<image>", "<IMG_ATOM>", *indicators],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        chat_template=chat,
    )
    tokens = (IMAGE_SIZE // PATCH_SIZE) ** 2
    processor = Ovis2Processor(
        image_processor("Ovis2", **TILES), tokenizer, image_seq_length=tokens, chat_template=chat
    )
    config = Ovis2Config(
        vision_config=encoder(vocab_size=64, hidden_stride=1),
        text_config={"model_type": "qwen2"} | decoder(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(indicators),
        vocab_size=len(tokenizer),
        hidden_size=64,
    )
    return Parts(config, processor)


def aya_vision() -> Parts:
    """Aya Vision: SigLIP and Cohere 2, three of whose four layers have a sliding window."""
    chat = template(
        "<image>", start="{{ bos_token }}", turn="<|START_OF_TURN_TOKEN|>ROLE:", end="<|END_OF_TURN_TOKEN|>"
    )
    tokens = ["<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE"]
    tokens += ["TILE_GLOBAL", "<|START_OF_TURN_TOKEN|>", *(f"TILE_{index}" for index in range(1, 5))]
    tokenizer = tiny_tokenizer(
        tokens, bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>", prepend_bos=True, chat_template=chat
    )
    processor = AyaVisionProcessor(
        image_processor("GotOcr2", **TILES),
        tokenizer,
        patch_size=PATCH_SIZE,
        img_size=IMAGE_SIZE,
        downsample_factor=2,
        chat_template=chat,
    )
    config = AyaVisionConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False} | encoder(),
        text_config=_cohere2(tokenizer),
        downsample_factor=2,
        image_token_index=processor.image_token_id,
    )
    return Parts(config, processor)


def got_ocr2() -> Parts:
    """GOT-OCR2: SAM's encoder, no chat template; a text has to bring its image placeholders."""
    tokens = ["<|im_start|>", "<img>", "</img>", "<imgpad>"]
    tokenizer = tiny_tokenizer(tokens, bos=None, eos="<|im_end|>", pad="<|endoftext|>")
    # The processor gives each image 256 tokens, which no checkpoint's file can change: 64 x 64 patches,
    # shrunk twice.
    places, patch = 256, 2
    side = 64 * patch
    processor = GotOcr2Processor(image_processor("GotOcr2", size={"height": side, "width": side}), tokenizer)
    vision = encoder(
        image_size=side,
        patch_size=patch,
        output_channels=16,
        global_attn_indexes=[],
        window_size=8,
        mlp_dim=48,
    )
    del vision["intermediate_size"]
    config = GotOcr2Config(
        vision_config=vision,
        text_config={"model_type": "qwen2"} | decoder(tokenizer),
        image_token_index=processor.image_token_id,
        image_seq_length=places,
    )
    return Parts(config, processor)
