"""What holds for every quality flag: one example has it, it is in the line and the summary, and the page explains it.

A flag without an example here fails, so that a new one cannot be forgotten in one of these places.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.fakes import FakeModel, run

from pixano_vlm.models import UsageInfo, VLMInput, VLMOutput
from pixano_vlm.runs import flags, image_flags
from pixano_vlm.runs.flags import flags_of, other_settings

FLAGS = sorted(
    getattr(module, name) for module in (flags, image_flags) for name in module.__all__ if name.isupper()
)
"""Every flag there is."""
OF_IMAGES = {getattr(image_flags, name) for name in image_flags.__all__ if name.isupper()}

SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "a", "schema": {"type": "object", "required": ["n"]}},
}


LEAST = 0.5
"""Answers of less confidence are flagged."""


def said(text: str, **fields: Any) -> VLMOutput:
    usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    return VLMOutput(**{"generated_text": text, "usage": usage, "finish_reason": "stop", **fields})


def pages(path: Path) -> None:
    page = Image.new("L", (8, 8))
    page.save(path, "TIFF", save_all=True, append_images=[page, page])


def twelve_bits(path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 64).save(path, "PNG")


@dataclass(frozen=True)
class Example:
    """An answer that has the flag, or an image whose answers have it."""

    answer: VLMOutput | None = None
    response_format: dict[str, Any] | None = None
    image: Callable[[Path], None] | None = None
    others: tuple[str, ...] = ()
    """Flags that such an answer has besides."""
    is_asked_again: bool = True
    """Whether other settings may help."""


EXAMPLES: dict[str, Example] = {
    "cut_off": Example(said("a cat", finish_reason="length")),
    "repetition": Example(said("a cat " * 30)),
    "empty": Example(said(" \n")),
    "only_thinking": Example(said("", reasoning="Let me see"), others=("empty",)),
    "invalid_json": Example(said("five"), SCHEMA),
    "low_confidence": Example(
        said("a cat", confidence=0.2), is_asked_again=False
    ),  # greedy: it would say the same
    "wrapped_json": Example(said('```json\n{"n": 5}\n```'), SCHEMA, is_asked_again=False),
    "pages_not_read": Example(image=pages, is_asked_again=False),
    "colours_guessed": Example(image=twelve_bits, is_asked_again=False),
}


class Scripted(FakeModel):
    """Opens the images, and gives one answer to everything."""

    def __init__(self, answer: VLMOutput | None) -> None:
        super().__init__()
        self.answer = answer

    def predict(self, input: VLMInput) -> VLMOutput:
        opened = super().predict(input)
        return self.answer or opened


def test_every_flag_has_an_example() -> None:
    assert sorted(EXAMPLES) == FLAGS


def test_a_normal_answer_has_none() -> None:
    assert flags_of(said("a cat")) == flags_of(said('{"n": 5}'), SCHEMA) == ()


@pytest.mark.parametrize("name", sorted(set(FLAGS) - OF_IMAGES))
def test_it_is_found_in_the_answer_alone(name: str) -> None:
    example = EXAMPLES[name]
    assert example.answer is not None
    assert set(flags_of(example.answer, example.response_format, LEAST)) == {name, *example.others}


@pytest.mark.parametrize("name", FLAGS)
def test_it_is_in_the_line_and_counted_and_a_clean_neighbour_is_not(
    name: str, tmp_path: Path, write_lines: Callable[..., Path]
) -> None:
    example = EXAMPLES[name]
    record: dict[str, Any] = {"prompt": "What?", "response_format": example.response_format}
    if example.image is not None:
        example.image(tmp_path / "a.img")
        record["images"] = ["a.img"]
    manifest = write_lines("m.jsonl", [json.dumps(record)])
    summary = run(manifest, tmp_path / "out.jsonl", Scripted(example.answer), least_confidence=LEAST)
    (line,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert set(line["flags"]) == {name, *example.others}
    assert summary.flags == dict.fromkeys((name, *example.others), 1)
    assert (summary.ok, summary.failed) == (1, 0)
    manifest.write_text('{"prompt": "What?"}\n')
    assert not run(manifest, tmp_path / "clean.jsonl", Scripted(None)).flags


@pytest.mark.parametrize("name", FLAGS)
def test_asked_again_on_request_it_is_with_settings_that_may_help_or_left_as_it_is(
    name: str, tmp_path: Path, write_lines: Callable[..., Path]
) -> None:
    example = EXAMPLES[name]
    input = VLMInput(prompt="What?", max_new_tokens=8, temperature=0, response_format=example.response_format)
    if name not in OF_IMAGES and example.answer is not None:
        found = flags_of(example.answer, example.response_format, LEAST)
        assert (other_settings(input, found, 100) is not None) == example.is_asked_again
    record: dict[str, Any] = {"prompt": "What?", "temperature": 0, "response_format": example.response_format}
    if example.image is not None:
        example.image(tmp_path / "a.img")
        record["images"] = ["a.img"]
    model = Scripted(example.answer)
    manifest = write_lines("m.jsonl", [json.dumps(record)])
    run(manifest, tmp_path / "out.jsonl", model, retry_flagged=True, least_confidence=LEAST)
    assert len(model.asked) == 1 + example.is_asked_again


@pytest.mark.parametrize("name", FLAGS)
def test_the_page_explains_it(name: str, repository: Path) -> None:
    assert f"| `{name}` |" in (repository / "docs/reference/cli.md").read_text(encoding="utf-8")
