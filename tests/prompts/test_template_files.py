"""A chat template is found wherever a published checkpoint keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.embedded import TEMPLATE, change_json, copy_checkpoint, count_right, examples, open_checkpoint

from pixano_vlm.errors import ConfigError
from pixano_vlm.prompts.template_files import find_source

# transformers leaves the files of additional templates to be closed by the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OTHER = "{% for message in messages %}{{ raise_exception('not this one') }}{% endfor %}"


def in_tokenizer_config(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", {"chat_template": TEMPLATE})


def in_tokenizer_config_by_name(folder: Path) -> None:
    named = [{"name": "tool_use", "template": OTHER}, {"name": "default", "template": TEMPLATE}]
    change_json(folder / "tokenizer_config.json", {"chat_template": named})


def in_chat_template_json(folder: Path) -> None:
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}), encoding="utf-8")


def in_processor_config(folder: Path) -> None:
    change_json(folder / "processor_config.json", {"chat_template": TEMPLATE})


def in_preprocessor_config(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"chat_template": TEMPLATE}), encoding="utf-8"
    )


def beside_additional_ones(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(OTHER, encoding="utf-8")


def alone_among_additional_ones(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "vision.jinja").write_text(TEMPLATE, encoding="utf-8")


PLACES: dict[str, Callable[[Path], None]] = {
    "tokenizer_config.json": in_tokenizer_config,
    "tokenizer_config.json (default)": in_tokenizer_config_by_name,
    "chat_template.json": in_chat_template_json,
    "processor_config.json": in_processor_config,
    "preprocessor_config.json": in_preprocessor_config,
    "chat_template.jinja": beside_additional_ones,
    "additional_chat_templates/vision.jinja": alone_among_additional_ones,
}


@pytest.mark.parametrize("place", PLACES)
def test_answers_are_right_wherever_the_template_is(place: str, tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "m", None)
    PLACES[place](folder)
    model = open_checkpoint(folder)
    assert count_right(model, examples()) == 8
    template: Any = model._require().processor.chat_template
    assert find_source(template, folder) == place.removesuffix(" (default)")


def test_the_processors_own_counts_before_the_tokenizers(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "m", tokenizer_config={"chat_template": OTHER})
    assert count_right(open_checkpoint(folder), examples()) == 8


def test_another_of_its_templates_can_be_chosen_by_name_or_file(tmp_path: Path) -> None:
    named = [{"name": "vision", "template": TEMPLATE}, {"name": "default", "template": OTHER}]
    folder = copy_checkpoint(tmp_path / "m", None, tokenizer_config={"chat_template": named})
    assert count_right(open_checkpoint(folder), examples()) == 0
    assert count_right(open_checkpoint(folder, chat_template="vision"), examples()) == 8
    (tmp_path / "mine.jinja").write_text(TEMPLATE, encoding="utf-8")
    assert count_right(open_checkpoint(folder, chat_template=str(tmp_path / "mine.jinja")), examples()) == 8


def test_a_template_that_is_not_there_is_refused_with_those_there_are(tmp_path: Path) -> None:
    named = [{"name": "vision", "template": TEMPLATE}, {"name": "default", "template": OTHER}]
    folder = copy_checkpoint(tmp_path / "m", None, tokenizer_config={"chat_template": named})
    with pytest.raises(
        ConfigError, match=r"'visoin' is neither a file .* The checkpoint has: default, vision"
    ):
        open_checkpoint(folder, chat_template="visoin")


def test_several_without_a_default_ask_for_a_choice(tmp_path: Path) -> None:
    named = [{"name": "a", "template": TEMPLATE}, {"name": "b", "template": OTHER}]
    folder = copy_checkpoint(tmp_path / "m", None, tokenizer_config={"chat_template": named})
    with pytest.raises(ConfigError, match="none named 'default': a, b"):
        open_checkpoint(folder)
