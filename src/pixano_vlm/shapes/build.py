"""The untrained model: tokenizer, chat template, processor and network, all from configuration classes.

Nothing is fetched. The tokenizer learns its words from the questions and answers of `questions`; it knows all
256 bytes, so any text comes back as it went in. This module knows nothing of training.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from .draw import COLOURS, KINDS, random_scene
from .questions import NO_PICTURE, REGION_KINDS, STEP, WHOLE, Subject, ask_any, compact, wording

IMAGE_EDGE: Final = 64
PATCH_EDGE: Final = 8
PIXEL_SHUFFLE: Final = 2
IMAGE_TOKENS: Final = (IMAGE_EDGE // PATCH_EDGE // PIXEL_SHUFFLE) ** 2
WIDTH: Final = 128
LAYERS: Final = 4
HEADS: Final = 4

START: Final = "<|im_start|>"
END: Final = "<end_of_utterance>"
PAD: Final = "<|pad|>"
SPECIAL_TOKENS: Final = (PAD, START, END, "<fake_token_around_image>", "<image>", "<global-img>")

# SmolVLM's layout, with two differences: content may also be a plain string, and no space stands between
# "Assistant:" and the answer, so that the generated text is the answer and not the answer after a space.
CHAT_TEMPLATE: Final = (
    START + "{% for message in messages %}"
    "{{ message['role'] | capitalize }}:"
    "{% if message['content'] is string %}"
    "{{ message['content'] if message['role'] == 'assistant' else ' ' + message['content'] }}"
    "{% else %}"
    "{% if message['role'] != 'assistant' and message['content']"
    " and message['content'][0]['type'] != 'image' %}{{ ' ' }}{% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}"
    "{% endif %}" + END + "\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

SYSTEM_PROMPTS: Final = (
    "You answer questions about pictures.",
    "Answer briefly.",
    "You are a helpful assistant.",
)


# What the tokenizer may take for one word: the fixed parts of an answer with regions, and then GPT-2's rule, by which
# alone a box would take 22 tokens. With them it takes 8, and each coordinate is one of those.
_PLACE: Final = r'(?:\[|"\},)?\{"(?:bbox|point)_2d":\['
WORDS: Final = (
    rf'{_PLACE}|\],"label":"|,\d+| ?(?:bbox|point)_2d'
    r"|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+"
    rf"| ?(?:(?!{_PLACE})[^\s\p{{L}}\p{{N}}])+|\s+(?!\S)|\s+"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE over the corpus of questions and answers, always the same one."""
    rng = Random("shapes/tokenizer")
    corpus = [NO_PICTURE, *(f"System: {prompt}" for prompt in SYSTEM_PROMPTS)] * 20
    for _ in range(20_000):
        question = ask_any(random_scene(rng), rng)
        # Each question both with and without a space before it, as it stands after text and after a picture.
        corpus += [f"User: {question.text}", f"User:{question.text}", f"Assistant:{question.answer}"]
    corpus += _about_regions(rng)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def _about_regions(rng: Random) -> list[str]:
    """Questions that ask for regions, and answers in which every coordinate comes up often enough to be one token."""
    texts = []
    for _ in range(4_000):
        colour, kind = rng.choice((None, *COLOURS)), rng.choice((None, *KINDS))
        text = wording(rng.choice(REGION_KINDS), Subject(colour, kind), rng)
        texts += [f"User: {text}", f"User:{text}"]
    for number in range(0, WHOLE + STEP, STEP):
        both = [{"bbox_2d": [number] * 4, "label": kind} for kind in KINDS]
        # Without "Assistant:", whose colon would be learned as one token with the bracket: there the prompt ends.
        texts += [compact(both), compact([{"point_2d": [number] * 2, "label": "red star"}]), "[]"] * 20
    return texts


def build_processor() -> Idefics3Processor:
    """Tokenizer and image processor: a picture of any size becomes one 64 x 64 tile, 16 image tokens."""
    image_processor = Idefics3ImageProcessorPil(
        size={"longest_edge": IMAGE_EDGE},
        max_image_size={"longest_edge": IMAGE_EDGE},
        do_image_splitting=False,
    )
    return Idefics3Processor(
        image_processor, build_tokenizer(), image_seq_len=IMAGE_TOKENS, chat_template=CHAT_TEMPLATE
    )


def build_model(processor: Idefics3Processor) -> Idefics3ForConditionalGeneration:
    """The network with random weights from torch's global generator: 4 layers of 128 in each half."""
    tokenizer = processor.tokenizer
    pad, start, end = (tokenizer.convert_tokens_to_ids(token) for token in (PAD, START, END))
    ends: dict[str, Any] = {"pad_token_id": pad, "bos_token_id": start, "eos_token_id": end}
    config = Idefics3Config(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "image_size": IMAGE_EDGE,
            "patch_size": PATCH_EDGE,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "max_position_embeddings": 2048,
            **ends,
        },
        scale_factor=PIXEL_SHUFFLE,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        **ends,
    )
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(do_sample=False, **ends)  # type: ignore[no-untyped-call]
    return model
