"""What holds for every dialect of manifest lines: recognised, converted, nothing that was given left out or changed.

A dialect without an example here fails. What each of the tools writes in full is in `test_foreign_forms`.
"""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pixano_vlm.errors import UsageError
from pixano_vlm.inputs.dialects.dialect import Dialect
from pixano_vlm.inputs.dialects.known import DIALECTS, dialect_of
from pixano_vlm.inputs.manifest import Manifest, Request
from pixano_vlm.inputs.open import open_source
from pixano_vlm.inputs.preflight import check_manifest_keys
from pixano_vlm.prompts.messages import image_sources

WHAT = "What is it?"
DATA = "data:image/png;base64,AAAA"
PARTS = [{"type": "text", "text": WHAT}, {"type": "image_url", "image_url": {"url": DATA}}]
ANTHROPIC_PARTS = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    {"type": "text", "text": WHAT},
]

EXAMPLES: dict[str, dict[str, Any]] = {
    "OpenAI Batch": {
        "custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": PARTS}]},
    },
    "Anthropic Message Batches": {
        "custom_id": "1",
        "params": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": ANTHROPIC_PARTS}]},
    },
    "Amazon Bedrock batch inference": {
        "recordId": "1", "modelInput": {"messages": [{"role": "user", "content": ANTHROPIC_PARTS}]},
    },
    "Gemini batch": {
        "key": "1",
        "request": {"contents": [{"role": "user", "parts": [
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}, {"text": WHAT}]}]},
    },
    "Label Studio": {"id": 1, "data": {"image": "a.png"}},
    "preference data without a prompt": {
        "chosen": [{"role": "user", "content": WHAT}], "rejected": [{"role": "user", "content": WHAT}],
        "images": [DATA],
    },
    "chat requests (OpenAI, Ollama)": {
        "id": "1", "model": "m", "messages": [{"role": "user", "content": WHAT, "images": ["AAAA"]}],
    },
    "turns under messages": {
        "id": "1", "images": [DATA],
        "messages": [{"role": "user", "content": "<image>" + WHAT}, {"role": "assistant", "content": "A cat."}],
    },
    "turns under conversations or conversation or dialogue or dialog": {
        "id": "1", "image": DATA,
        "conversations": [{"from": "human", "value": "<image>" + WHAT}, {"from": "gpt", "value": "A cat."}],
    },
    "turns under texts (the Cauldron, FineVision)": {
        "id": "1", "images": [DATA], "texts": [{"user": WHAT, "assistant": "A cat."}],
    },
    "prompt and completion (TRL)": {
        "id": "1", "images": [DATA], "prompt": [{"role": "user", "content": WHAT}],
        "completion": [{"role": "assistant", "content": "A cat."}],
    },
    "Ollama's generate": {"id": "1", "model": "m", "prompt": WHAT, "images": ["AAAA"], "stream": False},
    "query and response (ms-swift)": {
        "id": "1", "query": "<image>" + WHAT, "response": "A cat.", "images": [DATA],
    },
    "instruction, input and output (Alpaca, LLaMA-Factory)": {
        "id": "1", "instruction": WHAT, "input": "", "output": "A cat.", "images": [DATA],
    },
    "OpenAI Responses": {
        "id": "1", "model": "m", "input": [{"role": "user", "content": [
            {"type": "input_text", "text": WHAT}, {"type": "input_image", "image_url": DATA}]}],
    },
    "a system message beside the prompt": {"id": "1", "system": "Be brief.", "prompt": WHAT, "images": [DATA]},
}  # fmt: skip
"""Dialect -> a line of it that asks WHAT of one image."""


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return request.param  # type: ignore[no-any-return]


def read(line: dict[str, Any]) -> Request:
    (request,) = Manifest(None, stream=io.BytesIO(json.dumps(line).encode()))
    return request


def said(request: Request) -> tuple[str, int]:
    """All text of a request, and how many images it has in all."""
    assert request.input is not None, request.error
    prompt = request.input.prompt
    if isinstance(prompt, str):
        return prompt, len(request.input.images or ())
    texts = []
    for turn in prompt:
        parts = turn["content"]
        if isinstance(parts, str):
            parts = [{"type": "text", "text": parts}]
        texts += [part["text"] for part in parts if part.get("type") == "text"]
    return "".join(texts), len(request.input.images or ()) + len(list(image_sources(prompt)))


def test_every_dialect_has_an_example() -> None:
    assert EXAMPLES.keys() == {dialect.name for dialect in DIALECTS}


def test_its_line_is_recognised_as_it_and_as_no_other_before_it(dialect: Dialect) -> None:
    line = EXAMPLES[dialect.name]
    assert not dialect.keys.isdisjoint(line)
    assert dialect_of(line) is dialect


def test_a_line_of_our_own_is_none_of_it(dialect: Dialect) -> None:
    assert not dialect.matches({"id": "1", "prompt": WHAT, "images": ["a.png"], "metadata": {}})


def test_the_record_asks_what_the_line_asks_and_the_line_stays_as_it_was(dialect: Dialect) -> None:
    line = EXAMPLES[dialect.name]
    before = copy.deepcopy(line)
    request = read(line)
    assert line == before
    if dialect.refusal is not None:
        assert request.error is not None
        return
    text, images = said(request)
    assert request.id == "1"
    assert WHAT in text
    assert images == 1
    assert "A cat." not in text  # what a model is to learn to say is not sent
    if "A cat." in json.dumps(line):
        assert (request.metadata or {})["reference"] == "A cat."


@pytest.mark.parametrize("key", ["image", "images", "image_url", "Image", "img", "photo"])
def test_an_image_beside_it_is_looked_at_or_kept_or_refused(dialect: Dialect, key: str) -> None:
    if key in EXAMPLES[dialect.name]:
        return
    request = read({**EXAMPLES[dialect.name], key: "b.png"})
    assert request.error is not None or said(request)[1] == 2 or key in (request.metadata or {})


def test_a_table_with_its_keys_as_columns_is_read_as_the_line_is(dialect: Dialect, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    line = EXAMPLES[dialect.name]
    path = tmp_path / "m.parquet"
    pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist([line]), path)
    try:
        (request,) = Manifest(path, rows=open_source([str(path)]).rows)
    except UsageError as error:
        assert error.hint  # noqa: PT017 - refused whole, with what to do
        return
    if dialect.refusal is None and request.error is None:
        assert (said(request), request.id) == (said(read(line)), "1")


def test_lines_that_are_never_records_are_refused_before_a_model_is_loaded(
    dialect: Dialect, tmp_path: Path
) -> None:
    if dialect.refusal is None:
        return
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(EXAMPLES[dialect.name]) + "\n")
    with pytest.raises(UsageError) as caught:
        check_manifest_keys(path)
    assert dialect.refusal[0] in caught.value.message
    assert caught.value.hint == dialect.refusal[1]
