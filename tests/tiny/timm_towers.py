"""Families whose vision tower is one of timm's: FastVLM, Gemma 3n, Perception LM.

Its weights are drawn as all others are; nothing is fetched.
"""

from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import chatml, decoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    FastVlmConfig,
    Gemma3nAudioFeatureExtractor,
    Gemma3nConfig,
    Gemma3nProcessor,
    LlavaProcessor,
    PerceptionLMConfig,
    PerceptionLMProcessor,
)

SIDE = 128
STRIDE = 64
TILE = 56
PATCH = 14
POOLING = 2


def fast_vlm() -> Parts:
    """FastVLM: a FastViT tower, whose maps of 64 pixels to the token are the image's tokens; Qwen2 text."""
    chat = chatml("<image>\n")
    tokenizer = tiny_tokenizer(
        ["<|im_start|>", "<image>"], bos=None, eos="<|im_end|>", pad="<|endoftext|>", chat_template=chat
    )
    square = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        image_processor("CLIP", size=square, crop_size=square),
        tokenizer,
        patch_size=STRIDE,
        vision_feature_select_strategy="full",
        chat_template=chat,
    )
    widths = (8, 16, 16, 32, 32)
    config = FastVlmConfig(
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "fastvit_mci3",
            "do_pooling": True,
            "hidden_size": 64,
            "model_args": {
                "inference_mode": True,
                "layers": (1, 1, 1, 1, 1),
                "embed_dims": widths,
            },
        },
        text_config={"model_type": "qwen2"} | decoder(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // STRIDE) ** 2,
    )
    return Parts(config, processor)


def perception_lm() -> Parts:
    """Perception LM: tiles and a thumbnail through a PE-Core tower, pooled two by two; Llama text."""
    chat = chatml("<|image|>", video="<|video|>")
    named = {"image_token": "<|image|>", "video_token": "<|video|>"}
    tokenizer = tiny_tokenizer(
        ["<|im_start|>"], bos=None, eos="<|im_end|>", pad="<|endoftext|>", named=named, chat_template=chat
    )
    size = {"height": TILE, "width": TILE}
    processor = PerceptionLMProcessor(
        video_processor("PerceptionLM", size=size),
        image_processor("PerceptionLM", tile_size=TILE, max_num_tiles=4, size=size),
        tokenizer,
        patch_size=PATCH,
        pooling_ratio=POOLING,
        chat_template=chat,
    )
    config = PerceptionLMConfig(
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "vit_pe_core_large_patch14_336",
            "do_pooling": True,
            "num_features": 64,
            "model_args": {
                "embed_dim": 64,
                "depth": 2,
                "num_heads": 2,
                "img_size": (TILE, TILE),
                "global_pool": "",
                "use_post_transformer_norm": False,
                "init_values": 0.1,
                "ref_feat_shape": (TILE // PATCH, TILE // PATCH),
            },
        },
        text_config={"model_type": "llama"} | decoder(tokenizer),
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        projector_pooling_ratio=POOLING,
    )
    return Parts(config, processor)


def gemma3n() -> Parts:
    """Gemma 3n: a MobileNetV5 tower, several residual streams, inputs at every layer, shared keys and values."""
    named = {
        "boi_token": "<start_of_image>",
        "boa_token": "<start_of_audio>",
        "image_token": "<image_soft_token>",
        "eoi_token": "<end_of_image>",
        "audio_token": "<audio_soft_token>",
        "eoa_token": "<end_of_audio>",
    }
    chat = template(
        "<image_soft_token>",
        start="{{ bos_token }}",
        turn="<start_of_turn>ROLE\n",
        end="<end_of_turn>\n",
        answer="model",
    )
    tokenizer = tiny_tokenizer(
        ["<start_of_turn>"],
        bos="<bos>",
        eos="<end_of_turn>",
        named=named,
        prepend_bos=True,
        chat_template=chat,
    )
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    tokens = 4 * 4
    processor = Gemma3nProcessor(
        Gemma3nAudioFeatureExtractor(feature_size=32),
        image_processor("Siglip", size={"height": SIDE, "width": SIDE}),
        tokenizer,
        chat_template=chat,
        image_seq_length=tokens,
        audio_seq_length=4,
    )
    text = {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 24,
        "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": ids["image_token"],
        "hidden_size_per_layer_input": 16,
        "laurel_rank": 8,
        "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    }
    config = Gemma3nConfig(
        text_config=decoder(tokenizer) | text,
        vision_config={
            "model_args": {"channel_multiplier": 0.0625, "msfa_output_resolution": 4},
            "vocab_size": 2,
            "vocab_offset": ids["image_token"],
        },
        audio_config={
            "vocab_size": 2,
            "vocab_offset": ids["audio_token"],
            "input_feat_size": 32,
            "hidden_size": 32,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 1,
            "sscp_conv_channel_size": (8, 8),
        },
        vision_soft_tokens_per_image=tokens,
        audio_soft_tokens_per_image=4,
        **{f"{name}_id": number for name, number in ids.items()},
    )
    return Parts(config, processor)
