"""LFM2-VL: SigLIP 2 at the image's own shape, short convolutions and attention in the decoder."""

import transformers
from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import PATCH_SIZE, chatml, decoder, encoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import Lfm2VlConfig, Lfm2VlProcessor

TILE = 32


def lfm2_vl() -> Parts:
    """LFM2-VL: large images are cut into tiles beside a thumbnail, small ones keep their shape."""
    chat = "{{ bos_token }}" + chatml("<image>")
    tokens = ["<|im_start|>", "<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"]
    tokens += [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = tiny_tokenizer(
        tokens, bos="<|startoftext|>", eos="<|im_end|>", pad="<|pad|>", prepend_bos=True, chat_template=chat
    )
    images = image_processor(
        "Lfm2Vl",
        size={"height": TILE, "width": TILE},
        tile_size=TILE,
        encoder_patch_size=PATCH_SIZE,
        min_image_tokens=2,
        max_image_tokens=8,
        min_tiles=2,
        max_tiles=4,
    )
    processor = Lfm2VlProcessor(images, tokenizer, chat_template=chat)
    vision = {"model_type": "siglip2_vision_model", "vision_use_head": False, "num_patches": 16} | encoder()
    del vision["image_size"]
    text = decoder(tokenizer, num_hidden_layers=4, layer_types=["conv", "full_attention"] * 2)
    del text["head_dim"]
    config = Lfm2VlConfig(
        vision_config=vision,
        text_config={"model_type": "lfm2", "block_auto_adjust_ff_dim": False} | text,
        image_token_id=processor.image_token_id,
        projector_hidden_size=48,
    )
    # A short convolution multiplies three projections, and would drown the attention that reads the rest.
    return Parts(config, processor, gains={"conv.in_proj": 1.0, "conv.out_proj": 0.5})


def lfm3_vl() -> Parts:
    """LFM3-VL: Qwen's image processor, convolutions in the tower too, sliding windows beside convolutions."""
    chat = "{{ bos_token }}" + chatml(
        "<|vision_start|><|image_pad|><|vision_end|>", video="<|vision_start|><|video_pad|><|vision_end|>"
    )
    tokens = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = tiny_tokenizer(
        tokens, bos="<|startoftext|>", eos="<|im_end|>", pad="<|pad|>", prepend_bos=True, chat_template=chat
    )
    pixels = {"shortest_edge": (4 * PATCH_SIZE) ** 2, "longest_edge": (10 * PATCH_SIZE) ** 2}
    sizes = {"patch_size": PATCH_SIZE, "merge_size": 2, "temporal_patch_size": 2, "size": pixels}
    processor = transformers.Lfm3VlProcessor(
        image_processor("Qwen2VL", **sizes),
        tokenizer,
        video_processor("Qwen3VL", **sizes),
        chat_template=chat,
    )
    vision = encoder(num_key_value_heads=1, patch_size=PATCH_SIZE, layer_types=["conv", "full_attention"])
    del vision["image_size"]
    config = transformers.Lfm3VlConfig(
        vision_config=vision,
        text_config={"model_type": "lfm3", "sliding_window": 24}
        | decoder(
            tokenizer,
            num_hidden_layers=4,
            layer_types=["conv", "sliding_attention", "conv", "full_attention"],
        ),
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        vision_start_token_id=processor.vision_start_token_id,
        vision_end_token_id=processor.vision_end_token_id,
        projector_hidden_size=48,
    )
    return Parts(config, processor, gains={"conv.in_proj": 1.0, "conv.out_proj": 0.5})
