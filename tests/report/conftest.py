"""Fixtures of the report's tests: a folder for a run, and a browser where there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.report.browser import Browser, why_not
from tests.report.runs import Folder


def pytest_configure(config: pytest.Config) -> None:
    """Names the mark of the tests that need a browser."""
    config.addinivalue_line("markers", "browser: opens the page in Chromium; skipped where there is none")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty folder for a run."""
    return Folder(tmp_path)


@pytest.fixture
def data_of() -> Callable[[Path], dict[str, Any]]:
    """Reads the data that a page's script reads."""

    def read(page: Path) -> dict[str, Any]:
        text = page.read_text(encoding="utf-8")
        inside = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
        return dict(json.loads(inside))

    return read


@pytest.fixture(scope="session")
def started_browser() -> Iterator[Browser]:
    """One browser for all tests."""
    if reason := why_not():
        pytest.skip(reason)
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(started_browser: Browser) -> Browser:
    """The browser with a window of a usual size."""
    started_browser.resize(1360, 900)
    return started_browser
