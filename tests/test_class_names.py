"""One name is one thing: no two classes of the package share theirs."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "pixano_vlm"


def used_twice(source: Path) -> dict[str, list[str]]:
    """Names of classes, private and inner ones too -> the files that define them, where there are several."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(file.relative_to(source)))
    return {name: files for name, files in found.items() if len(files) > 1}


def test_no_class_name_is_used_for_two_things() -> None:
    assert used_twice(SOURCE) == {}


def test_a_planted_second_use_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class Form: ...\nclass Other:\n    class _Inner: ...\n")
    (tmp_path / "b.py").write_text("def f():\n    class Form: ...\nclass _Inner: ...\n")
    assert used_twice(tmp_path) == {"Form": ["a.py", "b.py"], "_Inner": ["a.py", "b.py"]}
