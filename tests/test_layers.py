"""The folders import each other one way, as docs/explanation/architecture.md says, in no circle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "explanation" / "architecture.md"
SOURCE = REPOSITORY / "src" / "pixano_vlm"
EVERYWHERE = {file.stem for file in SOURCE.glob("*.py") if not file.stem.startswith("__")} | {"__version__"}


@cache
def table() -> dict[str, set[str]]:
    """Folder -> what it may import, as the page says; `engines/transformers` stands for that folder alone."""
    rows = re.findall(
        r"^\| `([\w/]+)` \| ((?:`[\w/]+`(?:, )?)*) ?\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {folder: set(re.findall(r"`([\w/]+)`", names)) for folder, names in rows}


def imports(file: Path) -> Iterator[str]:
    """The modules of this package that a file imports, those inside functions and for types included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("pixano_vlm.") for name in names if name.startswith("pixano_vlm."))


def violations(source: Path) -> list[str]:
    """Every import against the table."""
    may, found = table(), []
    for file in sorted(source.rglob("*.py")):
        *folders, name = file.relative_to(source).with_suffix("").parts
        part = folders[0] if folders else name
        if part in {"__init__", "__main__", "shapes"}:  # `shapes` uses the public names, as any user would
            continue
        exact = "/".join(folders[:2])
        allowed = may[exact] if exact in may else may.get(part, set())  # a single file knows no folder
        for imported in imports(file):
            if imported.split(".")[0] not in allowed | EVERYWHERE | {part}:
                found.append(f"{file.relative_to(source)} imports {imported}")
    return found


def circles(source: Path) -> list[str]:
    """Files that import themselves through others, at import time or later."""
    modules = {
        ".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): file
        for file in source.rglob("*.py")
    }
    edges: dict[str, set[str]] = {}
    for name, file in modules.items():
        targets = set()
        for imported in imports(file):
            target = imported if imported in modules else imported.rpartition(".")[0]
            if target in modules and target != name:
                targets.add(target)
        edges[name] = targets
    found, done = [], set[str]()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
            return
        if name not in done:
            done.add(name)
            for target in sorted(edges[name]):
                walk(target, [*path, name])

    for name in sorted(edges):
        walk(name, [])
    return found


def test_no_folder_imports_what_its_row_does_not_name() -> None:
    assert violations(SOURCE) == []


def test_no_file_imports_itself_in_a_circle() -> None:
    assert circles(SOURCE) == []


def test_every_folder_has_a_row() -> None:
    folders = {file.name for file in SOURCE.iterdir() if (file / "__init__.py").exists()}
    assert folders == {name for name in table() if "/" not in name}


def test_an_engine_and_the_inputs_know_nothing_of_outputs() -> None:
    assert "outputs" not in table()["engines"] | table()["engines/transformers"] | table()["inputs"]
    assert "inputs" not in table()["outputs"]


@pytest.mark.parametrize("folder", sorted(table().keys() - {"shapes"}))
def test_a_planted_import_against_the_table_is_found(folder: str, tmp_path: Path) -> None:
    everything = {name for name in table() if "/" not in name}
    planted = sorted(everything - table()[folder] - EVERYWHERE - {folder.split("/")[0], "shapes"})
    file = tmp_path / folder / "planted.py"
    file.parent.mkdir(parents=True)
    for other in planted:
        file.write_text(f"from pixano_vlm import {other}\nfrom pixano_vlm.{other} import anything\n")
        assert any(f"imports {other}" in line for line in violations(tmp_path)), (
            f"{folder} may import {other}?"
        )


def test_a_single_file_at_the_top_imports_no_folder(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text("from pixano_vlm.models.vlm import VLMInput\n")
    assert violations(tmp_path) == ["errors.py imports models.vlm.VLMInput"]


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from pixano_vlm.b import x\n")
    (tmp_path / "b.py").write_text("def f():\n    from pixano_vlm.a import y\n")
    assert circles(tmp_path) == ["a -> b -> a"]


def test_the_pages_list_of_modules_is_current() -> None:
    command = [sys.executable, str(REPOSITORY / "scripts" / "draw_layout.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run: python scripts/draw_layout.py"


def test_the_files_that_the_life_of_a_record_names_are_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    steps = text[text.index("## The life of one record") : text.index("## Which folder")]
    named = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", steps)
    assert len(named) > 15
    assert [name for name in named if not (SOURCE / name).exists()] == []
