"""Each row of the threat model and each promise names a test, and that test exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    "SECURITY.md": ROOT / "SECURITY.md",
    "reliability.md": ROOT / "docs" / "explanation" / "reliability.md",
}
NAME = re.compile(r"`(?:([\w/]+\.py)::)?(test_\w+?)(?:_?\.\.\.)?`")


@cache
def existing() -> dict[str, list[str]]:
    """File, from `tests/` on -> the tests in it."""
    return {
        path.relative_to(ROOT / "tests").as_posix(): re.findall(
            r"^ *(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE
        )
        for path in (ROOT / "tests").rglob("test_*.py")
    }


def is_there(file: str | None, name: str) -> bool:
    """Whether a test of that name, or whose name begins so, is in a file that is called so."""
    return any(
        test.startswith(name)
        for path, found in existing().items()
        if file is None or path == file or path.endswith("/" + file)
        for test in found
    )


def rows(page: Path) -> list[str]:
    """The rows of the tables that have a column of tests."""
    found, has_tests = [], False
    for line in page.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            has_tests = False
        elif line.rstrip(" |").endswith("test"):
            has_tests = True
        elif has_tests and not line.startswith("|---"):
            found.append(line)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = NAME.findall(PAGES[page].read_text("utf-8"))
    assert len(named) > 20
    assert [name for file, name in named if not is_there(file or None, name)] == []


def test_every_row_of_the_threat_model_names_a_test() -> None:
    found = rows(PAGES["SECURITY.md"])
    assert len(found) > 25
    assert [row for row in found if not NAME.search(row.rsplit("|", 2)[1])] == []


def test_every_promise_names_a_test_or_a_file_of_tests() -> None:
    found = rows(PAGES["reliability.md"])
    assert len(found) > 20
    for row in found:
        cell = row.rsplit("|", 2)[1]
        files = re.findall(r"`([\w/]+\.py)", cell)
        assert NAME.search(cell) or "property test" in cell or files, row
        assert all(any(path == file or path.endswith("/" + file) for path in existing()) for file in files), (
            row
        )
