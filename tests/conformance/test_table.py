"""docs/models.md is what a run found, of the transformers that is installed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from tests.conformance.obstacles import OBSTACLES
from tests.conformance.running import examine
from tests.conformance.table import JSON, MARKDOWN, TYPES, Table
from tests.tiny import ARCHITECTURES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

import pixano_vlm

# transformers 5.23 hands tensors to numpy in an old way in some processors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LEAST_EXACT = 50
NAMED = [
    "llava",
    "llava_next",
    "llava_onevision",
    "vipllava",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "idefics2",
    "idefics3",
    "smolvlm",
    "internvl",
    "gemma3",
    "gemma4",
    "paligemma",
    "mistral3",
    "mllama",
    "florence2",
    "blip",
    "blip-2",
    "instructblip",
    "git",
    "kosmos-2",
    "pix2struct",
    "got_ocr2",
    "glm4v",
    "lfm2_vl",
    "molmo2",
    "paddleocr_vl",
    "janus",
    "llama4",
    "vision-encoder-decoder",
]
"""Types that have to run whatever else does not."""

PLAIN_WORDS = {"git", "shapes"}
"""Names of architectures that mean something else as words."""

RUN_HERE = ("llava", "florence2", "paligemma")
"""Of different kinds, and quick: in flight with a template, an encoder-decoder, and one without a template."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.read()


def test_the_table_has_every_type_of_the_installed_transformers_and_no_other(table: Table) -> None:
    if table.transformers != transformers.__version__:
        pytest.skip(f"the table is of transformers {table.transformers}, this is {transformers.__version__}")
    assert sorted(table.rows) == TYPES


def test_the_page_and_the_data_are_what_the_command_writes(table: Table) -> None:
    assert MARKDOWN.read_text(encoding="utf-8") == table.to_markdown()
    assert JSON.read_text(encoding="utf-8") == table.to_json()


def test_most_types_are_exact_the_named_ones_among_them(table: Table) -> None:
    exact = {name for name, row in table.rows.items() if row.exact}
    assert len(exact) >= LEAST_EXACT
    assert not set(NAMED) - exact


def test_each_type_that_does_not_run_has_its_obstacle(table: Table) -> None:
    missing = {name for name, row in table.rows.items() if not row.runs}
    assert {name: table.rows[name].note for name in missing} == {name: OBSTACLES[name] for name in missing}
    assert set(OBSTACLES) == missing, "no obstacle is told of a type that runs"


@pytest.mark.parametrize("name", RUN_HERE)
def test_a_run_finds_what_the_table_says(name: str, table: Table, tmp_path: Path) -> None:
    found = Table.of([examine(name, tmp_path)]).rows[name]
    assert not Table("", {name: found}).differences(Table("", {name: table.rows[name]}))


def test_a_table_that_says_otherwise_is_stale(table: Table) -> None:
    row = table.rows["llava"]
    rounded = replace(row, tokens=row.tokens + 1)
    assert not Table("", {"llava": rounded}).differences(Table("", {"llava": row}))
    wrong = replace(row, exact=False)
    assert Table("", {"llava": wrong}).differences(Table("", {"llava": row})) == [
        "llava: exact was True, is False"
    ]
    assert Table("", {}).differences(Table("", {"llava": row})) == ["llava is gone"]


def test_the_package_holds_no_names_of_architectures() -> None:
    """Neither as a string by itself, nor as a part of one between other characters, nor in the name of a class."""
    known = {*TYPES, *(builder.name for builder in ARCHITECTURES.values())}
    known |= {name.replace("_", "").replace("-", "") for name in known}
    words = re.compile(
        rf"(?<![a-z0-9])(?:{'|'.join(sorted(map(re.escape, known - PLAIN_WORDS)))})(?![a-z0-9])"
    )
    classes = {name for name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values() if isinstance(name, str)}
    found = []
    for file in Path(pixano_vlm.__file__).parent.rglob("*.py"):
        if "shapes" in file.parts:  # the embedded model: its config names its own type
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documentation = {
            id(statement.value) for statement in ast.walk(tree) if isinstance(statement, ast.Expr)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in documentation
            ):
                if words.search(node.value.lower()) or any(name in node.value for name in classes):
                    found.append(f"{file.name}:{node.lineno} {node.value!r}")
            elif isinstance(node, (ast.Name, ast.Attribute, ast.alias)):
                name = (
                    node.id
                    if isinstance(node, ast.Name)
                    else getattr(node, "attr", getattr(node, "name", ""))
                )
                if name in classes:
                    found.append(f"{file.name}:{node.lineno} {name}")
    assert not found
