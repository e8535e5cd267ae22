"""One byte-level BPE tokenizer for all the tiny models, with the special tokens and the template a family
needs.

It knows nothing of images or models: a family passes the special tokens that its real checkpoints have, and
may name some of them (`image_token`, `boi_token`, ...) as the processors of that family read them from the
tokenizer.
"""

from collections.abc import Mapping, Sequence
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 600  # 256 bytes and 344 merges; special tokens come after these

CORPUS = """
The picture shows a red circle above a blue square, and a small green triangle to the left of them.
Describe the image in one sentence. What colour is the largest shape? How many shapes are there in the picture?
Is there a yellow star in the image? Answer with yes or no. Read the text on the sign, line by line.
A photograph of two people walking along the river in the evening, with a dog running ahead of them on the path.
The table has four columns: name, date, amount and total. Write the table as comma separated values.
Where is the cat? The cat is sitting on the chair, next to the window; behind it one sees the garden and a tree.
Compare the first image with the second image, and say what changed between them: position, colour, size, number.
Un carré rouge à côté d'un cercle bleu. Combien de formes y a-t-il ? Décris l'image en une phrase, s'il te plaît.
Ein rotes Quadrat über einem blauen Kreis. Wie viele Formen sind auf dem Bild? Beschreibe das Bild in einem Satz.
0 1 2 3 4 5 6 7 8 9 10 11 12 20 24 32 48 64 100 128 256 512 1024 2024 2025 2026 3.14 50% $25.00 #ff0000
"""


@cache
def _trained() -> str:
    """The merges, learned once a process from the text above, as the JSON of a `tokenizers.Tokenizer`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    return str(tokenizer.to_str())


def tiny_tokenizer(
    special_tokens: Sequence[str] = (),
    *,
    bos: str | None = "<s>",
    eos: str = "</s>",
    pad: str = "<pad>",
    unk: str | None = None,
    named: Mapping[str, str] | None = None,
    chat_template: str | None = None,
    prepend_bos: bool = False,
    append_eos: bool = False,
    side: str = "left",
) -> PreTrainedTokenizerFast:
    """Build the tokenizer of one family.

    Args:
        special_tokens: those the family's text or processor uses beside the four below, never split.
        bos: the beginning of a text; None where the family has none.
        eos: the end of a turn, at which generation ends.
        pad: what fills a batch.
        unk: the unknown token; bytes make it unreachable, but some processors ask for its name.
        named: tokens that the processor reads as attributes of the tokenizer, such as `image_token`.
        chat_template: the Jinja template, or None for a family without chat.
        prepend_bos: whether encoding puts `bos` first, as Llama's and Gemma's tokenizers do.
        append_eos: whether encoding puts `eos` last, as BART's and T5's tokenizers do.
        side: where padding goes; decoders want "left", encoders "right".
    """
    core = Tokenizer.from_str(_trained())
    named = dict(named or {})
    specials = [token for token in (pad, bos, eos, unk) if token is not None]
    specials += [token for token in (*special_tokens, *named.values()) if token not in specials]
    core.add_special_tokens(list(dict.fromkeys(specials)))
    before = [bos] if prepend_bos and bos is not None else []
    after = [eos] if append_eos else []
    if before or after:
        core.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(
                    single=[*before, "$A", *after],
                    pair=[*before, "$A", *after, "$B:1", *(f"{token}:1" for token in after)],
                    special_tokens=[(token, core.token_to_id(token)) for token in before + after],
                ),
            ]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        unk_token=unk,
        extra_special_tokens=named,
        chat_template=chat_template,
        padding_side=side,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=2048,
    )
