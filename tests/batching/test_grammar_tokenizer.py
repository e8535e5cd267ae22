"""Added tokens that are text may be in the strings of a JSON answer; special tokens and ends may not."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pixano_vlm.batching.constraint import Constraint, Grammars
from pixano_vlm.batching.grammar_tokenizer import tokenizer_text

pytest.importorskip("llguidance")

SCHEMA = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}
TAGS = ("</table>", "<unused7>", "<tool call>", "<表>")
PRINTABLE = [chr(number) for number in range(0x21, 0x7F)]


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """One of single characters and whole tags, two special tokens, and one end that is not special."""
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "byte level" else [*PRINTABLE, "▁"]
    pieces = sorted(alphabet)
    if kind != "byte level":  # as Gemma's: bytes of their own, and the tags among the pieces
        pieces += [f"<0x{byte:02X}>" for byte in range(256)] + list(TAGS)
    model = models.BPE(
        {piece: number for number, piece in enumerate(pieces)}, [], byte_fallback=kind != "byte level"
    )
    made = Tokenizer(model)
    if kind == "byte level":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.decoder = decoders.ByteLevel()
    else:
        made.normalizer = normalizers.Replace(" ", "▁")
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    made.add_special_tokens([AddedToken("<s>")])
    made.add_tokens([AddedToken(tag, normalized=False) for tag in (*TAGS, "<end>")])
    made.add_special_tokens([AddedToken("<image>")])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>")


@pytest.fixture(scope="module", params=["byte level", "byte fallback"])
def made(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return tokenizer(request.param)


def constraint(tokenizer: Any) -> Constraint:
    ends = frozenset([tokenizer.convert_tokens_to_ids("<end>")])
    form = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    found = Grammars(tokenizer, len(tokenizer), ends).constrain(form, 1000)
    assert found is not None
    return found


@pytest.mark.parametrize("text", [*TAGS, "a<unused7>b", "</table></table>", "<表> and é", "<tool call>?"])
def test_a_string_with_an_added_token_in_it_is_answered(made: Any, text: str) -> None:
    said = json.dumps([text], ensure_ascii=False, separators=(",", ":"))
    tokens = made.encode(said, add_special_tokens=False)
    assert {made.convert_tokens_to_ids(tag) for tag in TAGS} & set(tokens)
    state = constraint(made)
    for token in tokens:
        assert state.allows(token), made.convert_ids_to_tokens(token)
        assert state.accept(token, 1000) == token
    end = made.convert_tokens_to_ids("<end>")
    assert state.is_complete or state.allows(end)
    assert json.loads(made.decode(tokens)) == [text]


def test_special_tokens_and_ends_are_never_text(made: Any) -> None:
    state = constraint(made)
    for token in made.encode('["a', add_special_tokens=False):
        state.accept(token, 1000)
    allowed = torch.isfinite(state.restrict(torch.zeros(len(made))))
    for token in ("<s>", "<image>", "<end>"):
        assert not allowed[made.convert_tokens_to_ids(token)], token
    for tag in TAGS:
        assert allowed[made.convert_tokens_to_ids(tag)], tag


def test_ids_and_the_tokens_of_plain_text_stay(made: Any) -> None:
    changed = Tokenizer.from_str(tokenizer_text(made))
    for tag in ("<s>", "<image>"):
        assert changed.token_to_id(tag) == made.convert_tokens_to_ids(tag)
    for tag in TAGS:
        assert changed.decode([made.convert_tokens_to_ids(tag)]) == tag
    plain = 'Where is it? Über "there", 2 < 3 > 1 👍'
    assert changed.encode(plain).ids == made.encode(plain, add_special_tokens=False)
    assert set(changed.get_added_tokens_decoder()) == set(made.convert_tokens_to_ids(["<s>", "<image>"]))
    # The tokenizer itself, which prompts are written with, is left as it was.
    assert len(made.encode("</table>", add_special_tokens=False)) == 1
    assert made.convert_tokens_to_ids("</table>") in made.added_tokens_decoder


def test_one_that_is_decoded_to_other_text_stays_an_added_token() -> None:
    made = tokenizer("byte level")
    made.add_tokens([AddedToken("<é>", normalized=False)])
    assert made.decode(made.encode("<é>", add_special_tokens=False)) != "<é>"
    assert (
        made.convert_tokens_to_ids("<é>")
        in Tokenizer.from_str(tokenizer_text(made)).get_added_tokens_decoder()
    )


def test_a_tokenizer_without_such_tokens_is_given_as_it_is() -> None:
    plain = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    plain.add_special_tokens([AddedToken("<s>")])
    plain.add_tokens([AddedToken("<tag>")])
    made = PreTrainedTokenizerFast(tokenizer_object=plain)
    assert json.loads(tokenizer_text(made)) == json.loads(made.backend_tokenizer.to_str())
