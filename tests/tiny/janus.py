"""Janus and DeepSeek-VL: a SigLIP-like tower whose every image is one square of a fixed number of tokens."""

from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, decoder, encoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    DeepseekVLConfig,
    DeepseekVLHybridConfig,
    DeepseekVLHybridProcessor,
    DeepseekVLProcessor,
    JanusConfig,
    JanusProcessor,
)

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2
TEMPLATE = template(
    "<image_placeholder>\n", start="{{ bos_token }}", turn="<|ROLE|>: ", end="\n\n", capitalize=True
)


def janus() -> Parts:
    """Janus, used to read images; its other half, which draws them, is there and unused."""
    named = {
        "image_token": "<image_placeholder>",
        "boi_token": "<begin_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = tiny_tokenizer(named=named, prepend_bos=True, chat_template=TEMPLATE)
    processor = JanusProcessor(
        image_processor("Janus", size=SQUARE), tokenizer, chat_template=TEMPLATE, num_image_tokens=TOKENS
    )
    vision = encoder(projection_dim=64, mlp_ratio=2.0, num_image_tokens=TOKENS, depth=2)
    config = JanusConfig(
        vision_config=vision,
        text_config={"model_type": "llama"} | decoder(tokenizer),
        vq_config={
            "num_embeddings": 16,
            "latent_channels": 8,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "num_patches": TOKENS,
            "projection_dim": 64,
            "image_token_embed_dim": 64,
        },
        image_token_id=tokenizer.image_token_id,
    )
    return Parts(config, processor)


def deepseek_vl() -> Parts:
    """DeepSeek-VL."""
    tokenizer = tiny_tokenizer(
        named={"image_token": "<image_placeholder>"}, prepend_bos=True, chat_template=TEMPLATE
    )
    processor = DeepseekVLProcessor(
        image_processor("DeepseekVL", size=SQUARE), tokenizer, chat_template=TEMPLATE, num_image_tokens=TOKENS
    )
    config = DeepseekVLConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False} | encoder(),
        text_config={"model_type": "llama"} | decoder(tokenizer),
        image_token_id=processor.image_token_id,
    )
    return Parts(config, processor)


def deepseek_vl_hybrid() -> Parts:
    """DeepSeek-VL 7B: a second tower, SAM's, sees the image larger; the two are joined place by place."""
    tokenizer = tiny_tokenizer(
        named={"image_token": "<image_placeholder>"}, prepend_bos=True, chat_template=TEMPLATE
    )
    large = 2 * IMAGE_SIZE
    processor = DeepseekVLHybridProcessor(
        image_processor("DeepseekVLHybrid", size=SQUARE, high_res_size={"height": large, "width": large}),
        tokenizer,
        chat_template=TEMPLATE,
        num_image_tokens=TOKENS,
    )
    high = encoder(image_size=large, output_channels=8, global_attn_indexes=[1], window_size=4, mlp_dim=48)
    del high["intermediate_size"]
    config = DeepseekVLHybridConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False} | encoder(),
        high_res_vision_config={"model_type": "sam_vision_model"} | high,
        text_config={"model_type": "llama"} | decoder(tokenizer),
        image_token_id=processor.image_token_id,
    )
    return Parts(config, processor)
