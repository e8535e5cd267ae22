"""docs/reference/models.md is what a run found, of the transformers that is installed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
from tests.conformance.findings import Finding
from tests.conformance.obstacles import OBSTACLES
from tests.conformance.running import examine
from tests.conformance.table import JSON, MARKDOWN, TYPES, Table
from tests.tiny import ARCHITECTURES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

import pixano_vlm

# transformers 5.23 hands tensors to numpy in an old way in some processors.
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

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

PLAIN_WORDS = {"git"}
"""Names of architectures that mean something else as words."""

RUN_HERE = ("llava", "florence2", "paligemma")
"""Of different kinds, and quick: in flight with a template, an encoder-decoder, and one without a template."""


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


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


def test_the_page_states_what_it_was_made_with(table: Table) -> None:
    assert table.versions["transformers"] == table.transformers
    assert {"Python", "torch", "torchvision", "pillow"} <= table.versions.keys()
    page = MARKDOWN.read_text(encoding="utf-8")
    assert all(f"{package} {version}" in page for package, version in table.versions.items())


def test_two_environments_with_different_versions_are_both_told() -> None:
    found = [
        Finding("a", "llava", [], True, True, True, versions={"torch": torch, "Python": "3.11.7"})
        for torch in ("2.13.0", "2.6.0", "2.13.0")
    ]
    assert Table.of(found).made_with == "Made with Python 3.11.7, torch 2.13.0 and 2.6.0."


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
    known = {*TYPES, *(builder.name for builder in ARCHITECTURES.values())}
    found = [
        f"{where} {text!r}" for where, text in strings(Path(pixano_vlm.__file__).parent) if text in known
    ]
    assert not found


@pytest.mark.parametrize("part", ["batching", "engines"])
def test_the_way_to_a_model_names_no_architecture_in_any_spelling(part: str) -> None:
    """Neither within a longer text, nor without its underscores, nor by the name of a class."""
    known = {*TYPES, *(builder.name for builder in ARCHITECTURES.values())} - PLAIN_WORDS
    known |= {name.replace("_", "").replace("-", "") for name in known}
    spelled = "|".join(sorted(map(re.escape, known)))
    named = re.compile(rf"(?<![a-z0-9])(?:{spelled})(?![a-z0-9])", re.IGNORECASE)
    classes = {name for name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values() if isinstance(name, str)}
    folder = Path(pixano_vlm.__file__).parent / part
    found = [f"{where} {text!r}" for where, text in strings(folder) if named.search(text)]
    for file in folder.rglob("*.py"):
        words = set(re.findall(r"\w+", file.read_text(encoding="utf-8")))
        found += [f"{file.name} {name}" for name in sorted(classes & words)]
    assert not found


def strings(folder: Path) -> Iterator[tuple[str, str]]:
    """The strings of a package's code with their places, docstrings left out."""
    for file in folder.rglob("*.py"):
        if "shapes" in file.parts:  # the embedded model: its config names its own type
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in documentation:
                yield f"{file.name}:{node.lineno}", node.value
