"""Regions in Chromium: drawn where they are in the image, labels in colours of their own, hostile ones as text."""

from __future__ import annotations

from typing import Any

import pytest
from tests.report.browser import Browser
from tests.report.runs import Folder, answer
from tests.report.test_page import HOSTILE

pytestmark = pytest.mark.browser

IMAGE = ".stage .frame img"
PLACES = """
    const image = document.querySelector('.stage .frame img').getBoundingClientRect();
    return [...document.querySelectorAll('.regions .outline')].map((shape) => {
      const box = shape.getBoundingClientRect();
      return [box.left - image.left, box.top - image.top, box.right - image.left, box.bottom - image.top];
    }).concat([[image.width, image.height]]);
"""


def found(label: str | None, **values: Any) -> dict[str, Any]:
    return {"image": 0, **({} if label is None else {"label": label}), **values}


def with_regions(folder: Folder, *regions: dict[str, Any], name: str = "a") -> Any:
    folder.image("a.png", (200, 100))
    line = answer("1", regions=list(regions), image_sizes=[{"width": 200, "height": 100}])
    return folder.run(name, [line], [{"prompt": "x", "images": ["a.png"]}])


def open_record(browser: Browser, page: Any) -> None:
    browser.open(page, "#record=1")
    browser.wait(f"return document.querySelector('{IMAGE}').complete")
    assert browser.complaints() == []


def test_a_box_is_drawn_where_it_is_in_the_image(folder: Folder, browser: Browser) -> None:
    page, _ = folder.report(with_regions(folder, found("cat", box=[50, 25, 150, 75])))
    open_record(browser, page)
    (left, top, right, bottom), (width, height) = browser.run(PLACES)
    # The image is fitted into its pane, half as high as wide.
    share = min(width / 200, height / 100)
    x, y = (width - 200 * share) / 2, (height - 100 * share) / 2
    wanted = [x + 50 * share, y + 25 * share, x + 150 * share, y + 75 * share]
    assert max(abs(a - b) for a, b in zip((left, top, right, bottom), wanted, strict=True)) <= 2.5


def test_labels_have_colours_of_their_own_and_hide_their_regions(folder: Folder, browser: Browser) -> None:
    page, _ = folder.report(
        with_regions(
            folder,
            found("cat", box=[5, 5, 50, 50]),
            found("dog", point=[90, 40]),
            found("cat", box=[1, 1, 9, 9]),
        )
    )
    open_record(browser, page)
    colours = browser.run(
        "return [...document.querySelectorAll('.regions .outline')].map((shape) => getComputedStyle(shape).stroke)"
    )
    assert len(colours) == 3
    labels = "return [...document.querySelectorAll('.stage .label')].map((label) => label.textContent)"
    assert browser.run(labels) == ["cat", "dog"]
    browser.click(".stage .label")
    visible = (
        "return [...document.querySelectorAll('.regions .region')].map((g) => getComputedStyle(g).visibility)"
    )
    assert browser.run(visible) == ["hidden", "visible"]


def test_a_hostile_label_appears_as_text(folder: Folder, browser: Browser) -> None:
    page, _ = folder.report(with_regions(folder, found(HOSTILE, box=[5, 5, 50, 50])))
    open_record(browser, page)
    assert browser.run("return document.querySelector('.regions text').textContent") == HOSTILE
    assert browser.run("return document.querySelectorAll('.stage script, .stage [onerror]').length") == 0


def test_both_runs_regions_are_drawn_in_a_comparison(folder: Folder, browser: Browser) -> None:
    first = with_regions(folder, found("cat", box=[5, 5, 50, 50]))
    second = with_regions(folder, found("cat", box=[8, 8, 60, 60]), name="b")
    page, _ = folder.report(first, second)
    open_record(browser, page)
    style = "(shape) => getComputedStyle(shape).strokeDasharray"
    solid, dashed = browser.run(f"return [...document.querySelectorAll('.regions .outline')].map({style})")
    assert solid == "none"
    assert dashed != "none"
