"""PaliGemma and the Gemma 3 line: SigLIP towers, Gemma text, attention both ways over prefix or images."""

from typing import Any

import transformers
from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, decoder, encoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    Gemma3Config,
    Gemma3Processor,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4UnifiedAudioFeatureExtractor,
    Gemma4UnifiedConfig,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    T5Gemma2Config,
)

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2
GEMMA3_TEMPLATE = template(
    "<start_of_image>",
    start="{{ bos_token }}",
    turn="<start_of_turn>ROLE\n",
    end="<end_of_turn>\n",
    answer="model",
)


def _siglip_vision(**kwargs: Any) -> dict[str, Any]:
    return {"model_type": "siglip_vision_model", "vision_use_head": False} | encoder(**kwargs)


def paligemma() -> Parts:
    """PaliGemma: no chat, every image token first, the whole prompt seen from everywhere in it."""
    tokenizer = tiny_tokenizer(bos="<bos>", eos="<eos>")
    images = image_processor("Siglip", size=SQUARE)
    images.image_seq_length = IMAGE_TOKENS
    processor = PaliGemmaProcessor(images, tokenizer)
    config = PaliGemmaConfig(
        vision_config=_siglip_vision(),
        text_config={"model_type": "gemma", "num_key_value_heads": 1}
        | decoder(tokenizer, num_key_value_heads=1),
        image_token_index=processor.image_token_id,
        projection_dim=64,
        hidden_size=64,
        vocab_size=len(tokenizer),
    )
    return Parts(config, processor)


def _gemma3_processor() -> tuple[Any, Gemma3Processor]:
    named = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = tiny_tokenizer(
        ["<start_of_turn>"],
        bos="<bos>",
        eos="<end_of_turn>",
        named=named,
        prepend_bos=True,
        chat_template=GEMMA3_TEMPLATE,
    )
    processor = Gemma3Processor(
        image_processor("Gemma3", size=SQUARE, image_seq_length=IMAGE_TOKENS // 4),
        tokenizer,
        image_seq_length=IMAGE_TOKENS // 4,
        chat_template=GEMMA3_TEMPLATE,
    )
    return tokenizer, processor


def gemma3() -> Parts:
    """Gemma 3: windows of 24 tokens on two layers of three, images seen from everywhere in themselves."""
    tokenizer, processor = _gemma3_processor()
    config = Gemma3Config(
        vision_config=_siglip_vision(),
        # A query scalar of 1 sharpens attention, which normalised queries and keys would leave flat.
        text_config=decoder(
            tokenizer,
            num_hidden_layers=3,
            sliding_window=24,
            query_pre_attn_scalar=1,
            sliding_window_pattern=3,
        ),
        mm_tokens_per_image=IMAGE_TOKENS // 4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    return Parts(config, processor)


def _gemma4_tokenizer() -> tuple[Any, str]:
    chat = template(
        "<|image|>",
        start="{{ bos_token }}",
        turn="<|turn>ROLE\n",
        end="<turn|>\n",
        answer="model",
        video="<|video|>",
    )
    named = {
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    tokenizer = tiny_tokenizer(
        ["<|turn>", "<|video|>"],
        bos="<bos>",
        eos="<turn|>",
        named=named,
        prepend_bos=True,
        chat_template=chat,
    )
    return tokenizer, chat


def _gemma4_ids(tokenizer: Any) -> dict[str, int]:
    return {
        "boi_token_id": tokenizer.boi_token_id,
        "eoi_token_id": tokenizer.eoi_token_id,
        "image_token_id": tokenizer.image_token_id,
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video|>"),
        "audio_token_id": tokenizer.audio_token_id,
    }


def gemma4() -> Parts:
    """Gemma 4: images at their own shape, inputs for each layer, last layers that reuse keys and values."""
    tokenizer, chat = _gemma4_tokenizer()
    sizes = {"patch_size": 4, "max_soft_tokens": 70, "pooling_kernel_size": 2}
    processor = transformers.Gemma4Processor(  # before 5.21 its module needs torchvision
        Gemma4AudioFeatureExtractor(),
        image_processor("Gemma4", **sizes),
        tokenizer,
        video_processor("Gemma4", **sizes),
        image_seq_length=70,
        chat_template=chat,
    )
    text = decoder(
        tokenizer,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=24,
        global_head_dim=32,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=len(tokenizer),
        num_kv_shared_layers=2,
    )
    vision = encoder(
        patch_size=4, num_key_value_heads=2, head_dim=16, pooling_kernel_size=2, position_embedding_size=128
    )
    del vision["image_size"]
    config = Gemma4Config(
        text_config=text,
        vision_config=vision,
        **_gemma4_ids(tokenizer),
    )
    return Parts(config, processor)


def t5gemma2() -> Parts:
    """T5Gemma 2: Gemma 3's parts as encoder and decoder, whose attention reads both at once."""
    tokenizer, processor = _gemma3_processor()
    text = decoder(
        tokenizer,
        num_hidden_layers=3,
        sliding_window=24,
        query_pre_attn_scalar=1,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    )
    ids = {"image_token_index": tokenizer.image_token_id, "eoi_token_index": tokenizer.eoi_token_id}
    config = T5Gemma2Config(
        encoder={
            "text_config": text,
            "vision_config": _siglip_vision(),
            "mm_tokens_per_image": IMAGE_TOKENS // 4,
            "boi_token_index": tokenizer.boi_token_id,
            **ids,
        },
        decoder=text,
        decoder_start_token_id=tokenizer.bos_token_id,
        **ids,
    )
    return Parts(config, processor, {"decoder_start_token_id": tokenizer.bos_token_id})


def gemma4_unified() -> Parts:
    """Gemma 4 without towers: patches go to the decoder through one projection."""
    tokenizer, chat = _gemma4_tokenizer()
    sizes = {"patch_size": 4, "max_soft_tokens": 70, "pooling_kernel_size": 2}
    processor = transformers.Gemma4UnifiedProcessor(
        Gemma4UnifiedAudioFeatureExtractor(),
        image_processor("Gemma4Unified", **sizes),
        tokenizer,
        video_processor("Gemma4Unified", **sizes),
        image_seq_length=70,
        chat_template=chat,
    )
    text = decoder(
        tokenizer,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=24,
        global_head_dim=32,
    )
    config = Gemma4UnifiedConfig(
        text_config=text,
        vision_config={
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "mm_embed_dim": 64,
            "mm_posemb_size": 128,
            "output_proj_dims": 64,
        },
        **_gemma4_ids(tokenizer),
    )
    return Parts(config, processor)
