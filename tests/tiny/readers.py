"""Encoders of an image alone whose decoder is given the prompt, if any: Pix2Struct, TrOCR, Donut, PP-FormulaNet."""

from typing import Any

from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, encoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    DonutProcessor,
    Pix2StructConfig,
    Pix2StructProcessor,
    PPFormulaNetConfig,
    PPFormulaNetProcessor,
    TrOCRProcessor,
    VisionEncoderDecoderConfig,
)

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}


def pix2struct() -> Parts:
    """Pix2Struct: patches of any image shape, a T5 decoder whose first tokens are the prompt."""
    tokenizer = tiny_tokenizer(append_eos=True, side="right")
    processor = Pix2StructProcessor(
        image_processor("Pix2Struct", patch_size={"height": 4, "width": 4}), tokenizer
    )
    width = {"hidden_size": 64, "d_kv": 16, "d_ff": 96}
    config = Pix2StructConfig(
        vision_config=width
        | {
            "patch_embed_hidden_size": 3 * 4 * 4,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "seq_len": 4096,
        },
        text_config=width
        | {
            "vocab_size": len(tokenizer),
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "use_cache": True,
        },
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Parts(config, processor, {"decoder_start_token_id": tokenizer.pad_token_id})


def _bart_like(tokenizer: Any, **kwargs: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "d_model": 64,
        "decoder_layers": 2,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 96,
        "max_position_embeddings": 256,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": None,
        "is_decoder": True,
        "add_cross_attention": True,
    } | kwargs


def _pair(vision: dict[str, Any], text: dict[str, Any], processor: Any, start: int) -> Parts:
    tokenizer = processor.tokenizer
    ids = {"decoder_start_token_id": start, "pad_token_id": tokenizer.pad_token_id}
    config = VisionEncoderDecoderConfig(
        encoder=vision, decoder=text, tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id, **ids
    )
    return Parts(config, processor, ids, gains={"attn.v_proj": 0.7, "attn.out_proj": 0.7})


def trocr() -> Parts:
    """TrOCR: ViT and a BART-like decoder; its processor gives a prompt no place but training's labels."""
    tokenizer = tiny_tokenizer(prepend_bos=True, append_eos=True, side="right")
    processor = TrOCRProcessor(image_processor("ViT", size=SQUARE), tokenizer)
    vision = {"model_type": "vit"} | encoder()
    text = {"model_type": "trocr", "cross_attention_hidden_size": 32} | _bart_like(tokenizer)
    return _pair(vision, text, processor, tokenizer.eos_token_id)


def donut() -> Parts:
    """Donut: Swin and MBART; the prompt is a task token and text that the decoder starts from."""
    tokenizer = tiny_tokenizer(
        ["<s_docvqa>", "<s_question>", "</s_question>", "<s_answer>"], append_eos=True, side="right"
    )
    processor = DonutProcessor(
        image_processor("Donut", size={"height": 64, "width": 64}, do_align_long_axis=False), tokenizer
    )
    vision = {
        "model_type": "donut-swin",
        "image_size": [64, 64],
        "patch_size": 4,
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    }
    text = {"model_type": "mbart", "scale_embedding": True, "add_final_layer_norm": True}
    return _pair(vision, text | _bart_like(tokenizer), processor, tokenizer.bos_token_id)


def pp_formulanet() -> Parts:
    """PP-FormulaNet: a SAM tower with windows, an mBART decoder; its processor takes no prompt at all."""
    tokenizer = tiny_tokenizer(append_eos=True, side="right")
    side = 8 * PATCH_SIZE
    size = {"height": side, "width": side}
    processor = PPFormulaNetProcessor(image_processor("PPFormulaNet", size=size), tokenizer)
    text = _bart_like(tokenizer) | {"encoder_layers": 2, "encoder_attention_heads": 4, "dropout": 0.0}
    start = {"decoder_start_token_id": tokenizer.bos_token_id, "forced_eos_token_id": None}
    config = PPFormulaNetConfig(
        text_config=text | start,
        vision_config={
            "hidden_size": 32,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": side,
            "patch_size": PATCH_SIZE,
            "window_size": 4,
            "global_attn_indexes": [1],
            "mlp_dim": 48,
            "post_conv_in_channels": 16,
            "post_conv_mid_channels": 32,
            "post_conv_out_channels": 64,
            "decoder_hidden_size": 64,
        },
        decoder_start_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Parts(config, processor, {"decoder_start_token_id": tokenizer.bos_token_id})
