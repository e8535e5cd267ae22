"""Regions on the page, without a browser: the data that the script draws from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.report.runs import Folder, answer
from tests.report.test_page import HOSTILE

REGION = {"label": HOSTILE, "box": [5.0, 5.0, 50.0, 50.5], "image": 0}


def test_a_record_has_its_regions_and_the_sizes_that_they_are_in(
    folder: Folder, data_of: Callable[[Path], dict[str, Any]]
) -> None:
    folder.image("a.png", (200, 100))
    sizes = [{"width": 200, "height": 100, "model_width": 56, "model_height": 28, "tokens": 2}]
    line = answer("1", regions=[REGION], image_sizes=sizes)
    page, _ = folder.report(folder.run("a", [line], [{"prompt": "x", "images": ["a.png"]}]))
    (shown,) = data_of(page)["records"][0]["answers"]
    assert shown["regions"] == [REGION]
    assert shown["sizes"] == [[200, 100]]
    assert "more" not in shown
    assert page.read_text("utf-8").count("alert(1)") == 1


def test_a_record_without_regions_has_no_keys_for_them(
    folder: Folder, data_of: Callable[[Path], dict[str, Any]]
) -> None:
    page, _ = folder.report(folder.run("a", [answer("1")]))
    assert not {"regions", "sizes"} & data_of(page)["records"][0]["answers"][0].keys()
