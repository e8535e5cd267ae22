"""Florence-2: a DaViT tower before a BART encoder; the encoder reads the prompt, the decoder answers."""

from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import IMAGE_SIZE
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import Florence2Config, Florence2Processor

SQUARE = {"height": 2 * IMAGE_SIZE, "width": 2 * IMAGE_SIZE}
TOKENS = 5  # one mean token and (64 / 4 / 2 / 2 / 2) ** 2 places


def florence2() -> Parts:
    """Florence-2, whose processor puts the image first and takes exactly one."""
    tokenizer = tiny_tokenizer(
        named={"image_token": "<image>"}, append_eos=True, prepend_bos=True, side="right"
    )
    images = image_processor("CLIP", size=SQUARE, crop_size=SQUARE)
    images.image_seq_length = TOKENS
    processor = Florence2Processor(images, tokenizer)
    config = Florence2Config(
        vision_config={
            "depths": [1, 1, 1, 1],
            "embed_dim": [8, 16, 16, 32],
            "num_heads": [1, 2, 2, 2],
            "num_groups": [1, 2, 2, 2],
            "window_size": 4,
            "projection_dim": 64,
            "drop_path_rate": 0.0,
        },
        text_config={
            "model_type": "bart",
            "vocab_size": len(tokenizer),
            "d_model": 64,
            "encoder_layers": 3,
            "decoder_layers": 3,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 512,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "decoder_start_token_id": tokenizer.eos_token_id,
            "forced_eos_token_id": None,
        },
        image_token_id=tokenizer.image_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
    )
    generation = {"decoder_start_token_id": tokenizer.eos_token_id, "forced_eos_token_id": None}
    return Parts(
        config, processor, generation, gains={"attn.v_proj": 0.7, "attn.out_proj": 0.7}, end_gain=2.5
    )
