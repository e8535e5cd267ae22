"""The benchmark's workload: a model of SmolVLM-256M's shape with random weights, JPEGs, and a manifest.

Knows no engine: it writes files that every peer can load. Everything follows from a seed.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

MAX_NEW_TOKENS = (4, 8, 8, 16, 16, 32, 64)
QUESTIONS = (
    "Describe this picture in one short sentence.",
    "How many people are in this picture?",
    "What is the main colour of the background?",
    "Is there any text to be read in it?",
)
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of one Idefics3 model."""

    vision_layers: int = 12
    vision_hidden: int = 768
    vision_heads: int = 12
    vision_mlp: int = 3072
    image_size: int = 512
    patch_size: int = 16
    scale_factor: int = 4
    text_layers: int = 30
    text_hidden: int = 576
    text_heads: int = 9
    text_kv_heads: int = 3
    text_mlp: int = 1536
    vocabulary: int = 49280

    @property
    def image_tokens(self) -> int:
        """Tokens that one picture takes in the prompt."""
        return (self.image_size // self.patch_size) ** 2 // self.scale_factor**2


SMOLVLM_256M = Shape()
TWO_BILLION = Shape(
    vision_layers=27,
    vision_hidden=1152,
    vision_heads=16,
    vision_mlp=4304,
    image_size=384,
    patch_size=14,
    scale_factor=3,
    text_layers=24,
    text_hidden=2048,
    text_heads=32,
    text_kv_heads=32,
    text_mlp=8192,
    vocabulary=49280,
)


def write_model(folder: Path, shape: Shape = SMOLVLM_256M, dtype: str = "bfloat16", seed: int = 0) -> Path:
    """Writes a model and its processor to `folder`, as `save_pretrained` does; returns the folder."""
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        LlamaConfig,
    )
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = _tokenizer(shape.vocabulary)
    size = {"longest_edge": shape.image_size}
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(do_image_splitting=False, size=size, max_image_size=size),
        tokenizer,
        image_seq_len=shape.image_tokens,
        chat_template=TEMPLATE,
    )
    text = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.text_hidden,
        intermediate_size=shape.text_mlp,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_heads,
        num_key_value_heads=shape.text_kv_heads,
        max_position_embeddings=8192,
        rope_theta=100_000.0,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
        scale_factor=shape.scale_factor,
        vision_config={
            "hidden_size": shape.vision_hidden,
            "intermediate_size": shape.vision_mlp,
            "num_hidden_layers": shape.vision_layers,
            "num_attention_heads": shape.vision_heads,
            "image_size": shape.image_size,
            "patch_size": shape.patch_size,
        },
        text_config=text.to_dict(),
        pad_token_id=2,
    )
    torch.manual_seed(seed)
    model = Idefics3ForConditionalGeneration(config).to(getattr(torch, dtype))
    # No end token: every record of the workload generates exactly its max_new_tokens, in every peer.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 2
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tokenizer(vocabulary: int) -> object:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [
        "<|endoftext|>",
        "<|im_start|>",
        "<end_of_utterance>",
        "<fake_token_around_image>",
        "<image>",
        "<global-img>",
        "<row_1_col_1>",
    ]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*special, *alphabet, *(f"Ġw{i}" for i in range(vocabulary - len(special) - len(alphabet)))]
    # A vocabulary of the right size with nothing to merge but whole words of the questions.
    merges: list[tuple[str, str]] = []
    known = {word: index for index, word in enumerate(words)}
    spare = iter(range(len(special) + len(alphabet), vocabulary))
    for question in QUESTIONS:
        for position, word in enumerate(question.split(" ")):
            letters = list(word if position == 0 else "Ġ" + word)
            while len(letters) > 1:
                pair = (letters[0], letters[1])
                merged = "".join(pair)
                if pair not in merges:
                    merges.append(pair)
                if merged not in known:
                    slot = next(spare)
                    known = {w: i for w, i in known.items() if i != slot}
                    known[merged] = slot
                letters = [merged, *letters[2:]]
    backend = Tokenizer(models.BPE(vocab=known, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<end_of_utterance>",
        unk_token="<|endoftext|>",
        additional_special_tokens=special[3:],
    )


def write_manifest(folder: Path, images: int, questions: int, seed: int = 0) -> Path:
    """Writes JPEGs of 1024x768 and a manifest of `images` x `questions` records; returns the manifest."""
    draw = np.random.default_rng(seed)
    choose = random.Random(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(images):
            name = f"images/{number:05d}.jpg"
            coarse = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((1024, 768), Image.Resampling.BICUBIC).save(
                folder / name, quality=90
            )
            for question in QUESTIONS[:questions]:
                record = {
                    "id": f"{number}-{QUESTIONS.index(question)}",
                    "prompt": question,
                    "images": [name],
                    "max_new_tokens": choose.choice(MAX_NEW_TOKENS),
                    "temperature": 0,
                }
                lines.write(json.dumps(record) + "\n")
    return folder / "manifest.jsonl"
