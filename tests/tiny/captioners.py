"""The captioners: their answer continues a text that the image goes with; none has a chat template."""

from typing import Any

from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import IMAGE_SIZE, decoder, encoder
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    Blip2Config,
    Blip2Processor,
    BlipConfig,
    BlipProcessor,
    GitConfig,
    GitProcessor,
    InstructBlipConfig,
    InstructBlipProcessor,
    Kosmos2_5Config,
    Kosmos2_5Processor,
    Kosmos2Config,
    Kosmos2Processor,
)

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
QUERIES = 4


def _bert_tokenizer() -> Any:
    return tiny_tokenizer(bos="[CLS]", eos="[SEP]", pad="[PAD]", prepend_bos=True, append_eos=True)


def blip() -> Parts:
    """BLIP: a BERT-like decoder with cross-attention; `generate` takes off the prompt's closing [SEP]."""
    tokenizer = _bert_tokenizer()
    processor = BlipProcessor(image_processor("Blip", size=SQUARE), tokenizer)
    config = BlipConfig(
        vision_config=encoder(projection_dim=32),
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "encoder_hidden_size": 32,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "sep_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    return Parts(config, processor, gains={"attention.self.value": 0.7, "attention.output.dense": 0.7})


def git() -> Parts:
    """GIT: image tokens with no place in `input_ids`, before the text's, which see each other both ways."""
    tokenizer = _bert_tokenizer()
    images = image_processor("CLIP", size={"shortest_edge": IMAGE_SIZE}, crop_size=SQUARE)
    processor = GitProcessor(images, tokenizer)
    config = GitConfig(
        vision_config=encoder(),
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Parts(
        config, processor, gains={"attention.self.value": 1.0, "attention.output.dense": 1.0}, end_gain=1.1
    )


def _qformer() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "encoder_hidden_size": 32,
        "cross_attention_frequency": 1,
        "max_position_embeddings": 512,
    }


def _t5(tokenizer: Any) -> dict[str, Any]:
    return {
        "model_type": "t5",
        "vocab_size": len(tokenizer),
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 96,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "decoder_start_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def blip2(text: str) -> Parts:
    """BLIP-2 over OPT or T5 (`text`), the two that its checkpoints have."""
    tokenizer = tiny_tokenizer(bos="</s>", prepend_bos=text == "opt", append_eos=text == "t5")
    processor = Blip2Processor(image_processor("Blip", size=SQUARE), tokenizer, num_query_tokens=QUERIES)
    opt = decoder(tokenizer, ffn_dim=96, word_embed_proj_dim=64, model_type="opt", do_layer_norm_before=True)
    for unknown in ("intermediate_size", "num_key_value_heads", "head_dim"):
        del opt[unknown]
    config = Blip2Config(
        vision_config=encoder(),
        qformer_config=_qformer(),
        text_config=opt if text == "opt" else _t5(tokenizer),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return Parts(config, processor)


def instructblip() -> Parts:
    """InstructBLIP over Llama: the Q-Former reads the prompt too, by a tokenizer of its own."""
    tokenizer = tiny_tokenizer(prepend_bos=True)
    qformer_tokenizer = _bert_tokenizer()
    processor = InstructBlipProcessor(
        image_processor("Blip", size=SQUARE), tokenizer, qformer_tokenizer, num_query_tokens=QUERIES
    )
    config = InstructBlipConfig(
        vision_config=encoder(),
        qformer_config=_qformer() | {"vocab_size": len(qformer_tokenizer)},
        text_config={"model_type": "llama"} | decoder(tokenizer),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return Parts(config, processor)


def _kosmos_text(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 1024,
        "embed_dim": 64,
        "layers": 2,
        "ffn_dim": 96,
        "attention_heads": 4,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def kosmos2() -> Parts:
    """KOSMOS-2: 64 latents in place of the ids after the unknown token's, told by a mask of positions."""
    tokenizer = tiny_tokenizer(unk="<unk>", prepend_bos=True, append_eos=True)
    processor = Kosmos2Processor(
        image_processor("CLIP", size={"shortest_edge": IMAGE_SIZE}, crop_size=SQUARE), tokenizer, 64
    )
    config = Kosmos2Config(
        vision_config=encoder(),
        text_config=_kosmos_text(tokenizer),
        latent_query_num=64,
    )
    # Its image features are normalised to length one, so that little of them would be left otherwise.
    return Parts(config, processor, gains={"image_to_text_projection": 12.0})


def kosmos2_5() -> Parts:
    """KOSMOS-2.5: patches of any image shape, latents in place of <s> tokens, told by a mask of positions."""
    named = {"image_token": "<s>", "boi_token": "<image>", "eoi_token": "</image>"}
    tokenizer = tiny_tokenizer(["<ocr>", "<md>"], named=named)
    patch = {"height": 4, "width": 4}
    processor = Kosmos2_5Processor(
        image_processor("Kosmos2_5", patch_size=patch), tokenizer, num_image_tokens=16
    )
    config = Kosmos2_5Config(
        vision_config={
            "hidden_size": 32,
            "patch_embed_hidden_size": 3 * 4 * 4,
            "intermediate_size": 48,
            "head_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        text_config=_kosmos_text(tokenizer),
        latent_query_num=16,
    )
    return Parts(config, processor, gains={"image_to_text_projection": 12.0})
