"""Answers over real tokenizers: their text is the tokenizer's own, whatever they are cut by, and JSON is JSON."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.tokenizers.families import Family
from tests.tokenizers.texts import SCRIPTS, random_text

from pixano_vlm.batching.answer_decoder import AnswerDecoder
from pixano_vlm.batching.constraint import Grammars
from pixano_vlm.batching.sequence import Prompt, Sequence
from pixano_vlm.batching.stop_criteria import StopCriteria
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import VLMInput, VLMOutput

pytestmark = pytest.mark.tokenizers

TEXTS = 1000
SCHEMA = {
    "type": "object",
    "properties": {"said": {"type": "string"}, "marks": {"type": "array", "items": {"type": "string"}}},
    "required": ["said", "marks"],
    "additionalProperties": False,
}


def asked_for(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"schema": schema}}


@pytest.fixture(scope="module")
def stop(untouched: Any, tokenizer: Any, family: Family) -> StopCriteria:
    end = tokenizer.convert_tokens_to_ids(family.end.strip())
    return StopCriteria(frozenset([end]), AnswerDecoder(untouched, frozenset([end])))


@pytest.fixture(scope="module")
def grammars(tokenizer: Any, stop: StopCriteria) -> Grammars:
    return Grammars(tokenizer, len(tokenizer), stop.end_ids)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return [int(id) for id in tokenizer(text, add_special_tokens=False)["input_ids"]]


def answered(stop: StopCriteria, tokens: list[int], strings: list[str]) -> Sequence:
    """A record that generates the tokens, until it ends."""
    input = VLMInput(prompt="", max_new_tokens=len(tokens), temperature=0, stop=strings)
    sequence = Sequence("a", input, Prompt(np.zeros(0, np.int64), {}, (), 0), len(tokens))
    for token in tokens:
        stop.append(sequence, token)
        if sequence.is_finished:
            break
    return sequence


@pytest.fixture(scope="module")
def texts(family: Family) -> list[str]:
    draw = random.Random(family.name)
    return [random_text(draw) for _ in range(TEXTS)]


def test_a_thousand_texts_come_out_as_the_tokenizer_decodes_them(
    stop: StopCriteria, tokenizer: Any, texts: list[str]
) -> None:
    [end] = stop.end_ids
    for text in [*texts, *SCRIPTS.values()]:
        tokens = ids_of(tokenizer, text)
        sequence = answered(stop, [*tokens, end], ["\ue000never"])
        assert sequence.finish_reason == "stop"
        assert stop.text(sequence) == tokenizer.decode(tokens).strip()


def test_a_thousand_texts_end_before_their_stop_strings(
    stop: StopCriteria, tokenizer: Any, texts: list[str]
) -> None:
    """At the first token that completes the string, and with all that is in front of it."""
    draw = random.Random(1)
    across = 0
    for text in texts:
        tokens = ids_of(tokenizer, text)
        whole = str(tokenizer.decode(tokens))
        start = draw.randrange(len(whole))
        string = whole[start : start + draw.randint(1, 6)]
        grown = [str(tokenizer.decode(tokens[:count])) for count in range(1, len(tokens) + 1)]
        first = next(count for count, said in enumerate(grown, start=1) if string in said)
        across += string not in tokenizer.decode(tokens[first - 1 : first])
        sequence = answered(stop, tokens, [string])
        assert len(sequence.tokens) == first, (text, string)
        assert sequence.finish_reason == "stop"
        assert stop.text(sequence) == whole.partition(string)[0].strip(), (text, string)
    assert across > TEXTS // 10


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_text_that_is_cut_anywhere_is_what_the_tokenizer_decodes(
    stop: StopCriteria, tokenizer: Any, script: str
) -> None:
    tokens = ids_of(tokenizer, SCRIPTS[script])
    for count in range(1, len(tokens) + 1):
        sequence = answered(stop, tokens[:count], ["\ue000never"])
        assert stop.text(sequence) == tokenizer.decode(tokens[:count]).strip()


def test_a_stop_string_may_be_a_special_token(stop: StopCriteria, tokenizer: Any, family: Family) -> None:
    end = family.end.strip()
    image = tokenizer.convert_tokens_to_ids(family.image)
    tokens = [*ids_of(tokenizer, "One, 二"), image, *ids_of(tokenizer, " three")]
    sequence = answered(stop, tokens, [family.image])
    assert sequence.tokens[-1] == image
    assert stop.text(sequence) == "One, 二"
    endless = stop.endless()
    endless.decoder = stop.decoder
    [number] = stop.end_ids
    tokens = [*ids_of(tokenizer, "One"), number, *ids_of(tokenizer, " two")]
    assert endless.text(answered(endless, tokens, [end])) == "One"


def follow(grammars: Grammars, tokenizer: Any, text: str, schema: dict[str, Any]) -> str:
    """Gives a JSON text to its schema token by token, and returns what was accepted."""
    tokens = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    constraint = grammars.constrain(asked_for(schema), 100_000)
    assert constraint is not None
    for place, token in enumerate(tokens):
        assert constraint.allows(token), (text, place, tokenizer.convert_ids_to_tokens(token))
        assert constraint.accept(token, 100_000) == token
    scores = constraint.restrict(torch.zeros(len(tokenizer)))
    ends = set(torch.isfinite(scores).nonzero().flatten().tolist())
    assert constraint.is_complete or ends == set(grammars._end_ids)
    return str(tokenizer.decode(tokens))


def test_a_thousand_texts_follow_a_schema(grammars: Grammars, tokenizer: Any, texts: list[str]) -> None:
    """And come out as they went in; some tokenizers put combining characters together, which is the same text."""
    composes = "NFC" in str(tokenizer.backend_tokenizer.normalizer)
    assert len(texts) == TEXTS
    for text in [*texts, *SCRIPTS.values()]:
        value = {"said": text, "marks": text.split(" ")[:3]}
        written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        said = json.loads(follow(grammars, tokenizer, written, SCHEMA))
        assert said == (json.loads(unicodedata.normalize("NFC", written)) if composes else value)


def test_every_added_token_that_is_text_follows_a_schema(grammars: Grammars, tokenizer: Any) -> None:
    """Gemma 3's tokenizer has thousands of them, such as the tags of tables."""
    added = [
        token.content
        for id, token in tokenizer.added_tokens_decoder.items()
        if not token.special and tokenizer.decode([id]) == token.content
    ]
    for first in range(0, len(added), 50):
        for marks in (
            {"said": "", "marks": added[first : first + 50]},
            {"said": "".join(added[first:][:50])},
        ):
            value = {"said": "", "marks": [], **marks}
            written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            assert json.loads(follow(grammars, tokenizer, written, SCHEMA)) == value


def test_what_a_schema_does_not_allow_is_not(grammars: Grammars, tokenizer: Any, family: Family) -> None:
    constraint = grammars.constrain(asked_for(SCHEMA), 100_000)
    assert constraint is not None
    scores = constraint.restrict(torch.zeros(len(tokenizer)))
    allowed = torch.isfinite(scores).nonzero().flatten().tolist()
    assert allowed
    opening = '{"said":"'
    texts = [tokenizer.decode([id]) for id in allowed]
    assert all(opening.startswith(text) or text.startswith(opening) for text in texts)
    for token in ids_of(tokenizer, '{"said":"'):
        constraint.accept(token, 100_000)
    inside = torch.isfinite(constraint.restrict(torch.zeros(len(tokenizer))))
    special = [id for id, token in tokenizer.added_tokens_decoder.items() if token.special]
    assert not inside[special].any()
    assert int(inside.sum()) > len(tokenizer) // 2


@pytest.fixture(scope="module")
def asked(picture: str) -> list[VLMInput]:
    return [
        VLMInput(prompt=text, images=[picture] * (number % 2), max_new_tokens=1 + number, temperature=0)
        for number, text in enumerate(SCRIPTS.values())
    ]


class TestWithAModel:
    """A tiny model with random weights: it says anything at all, so that characters are cut and mixed."""

    def test_answers_are_what_the_tokenizer_decodes(
        self, model: TransformersVLMModel, tokenizer: Any, asked: list[VLMInput]
    ) -> None:
        stop = model._require().stop
        with stop.recording() as recorded:
            got = dict(model.stream(enumerate(asked)))
        assert len(got) == len(asked)
        for number, answer in got.items():
            assert isinstance(answer, VLMOutput), answer
            assert answer.reasoning is None
            kept = [token for token in recorded[number] if token not in stop.decoder.framing]
            assert answer.generated_text == tokenizer.decode(kept).strip()

    def test_verify_agrees(self, model: TransformersVLMModel) -> None:
        found = model.verify()
        assert found.ok, found.first_difference

    def test_json_is_valid_over_the_whole_vocabulary(
        self, model: TransformersVLMModel, asked: list[VLMInput], figures: Callable[[str], None]
    ) -> None:
        import resource
        import time

        properties = {"a": {"type": "string", "maxLength": 20}, "b": {"type": "integer"}}
        schema = {
            "type": "object",
            "properties": properties,
            "required": ["a", "b"],
            "additionalProperties": False,
        }
        limited = [
            i.model_copy(
                update={
                    "response_format": asked_for(schema),
                    "max_new_tokens": 60,
                    # A model with random weights might think until its tokens are used up.
                    "chat_template_kwargs": {"enable_thinking": False},
                }
            )
            for i in asked
        ]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        first = model.predict(limited[0])
        once = time.process_time() - began
        began = time.process_time()
        answers = [first, *(answer for _, answer in model.stream(enumerate(limited[1:])))]
        seconds = time.process_time() - began
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        tokens = 0
        for answer in answers:
            assert isinstance(answer, VLMOutput), answer
            assert set(answer.parsed) == {"a", "b"}
            assert (
                "\ufffd" not in json.dumps(answer.parsed, ensure_ascii=False)
                or "\ufffd" in answer.generated_text
            )
            tokens += answer.usage.completion_tokens
        vocabulary = len(model._require().tokenizer)
        figures(
            f"{vocabulary:,} tokens: the first answer in JSON {once:.2f} s of CPU time, "
            f"{1000 * seconds / tokens:.1f} ms a token then, {more:.0f} MB more at the peak"
        )


@pytest.fixture(scope="session")
def figures(family: Family, request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Prints a line of figures at the end, whatever pytest captures."""
    lines: list[str] = []
    yield lines.append
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("".join(f"\n{family.name}: {line}" for line in lines))
