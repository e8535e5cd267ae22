"""Filters by metadata in Chromium: choices where a key has few values, a search in its text where it has many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.report.browser import Browser
from tests.report.runs import Folder, answer

pytestmark = pytest.mark.browser

SHOWN = "#rows .row .id"


def page_of(folder: Folder, *metadata: dict[str, Any]) -> Path:
    """A report of records with this metadata, numbered from 1."""
    answers = [answer(str(number), metadata=values) for number, values in enumerate(metadata, 1)]
    return folder.report(folder.run("a", answers))[0]


def choose(browser: Browser, key: str, words: str) -> None:
    """Chooses a value of a metadata key as a reader does, by its words."""
    browser.run(
        "const select = document.querySelector(`#${CSS.escape('filter-metadata ' + arguments[0])}`);"
        "select.selectedIndex = [...select.options].findIndex(o => o.textContent.startsWith(arguments[1] + ' ('));"
        "if (select.selectedIndex < 0) throw new Error([...select.options].map(o => o.textContent));"
        "select.dispatchEvent(new Event('change'))",
        key,
        words,
    )


@pytest.mark.parametrize(
    ("key", "words", "expected"),
    [
        ("kind", "cat", ["1", "2"]),
        ("kind", "No value", ["4"]),
        ("page", "2", ["2", "3"]),
        ("checked", "true", ["1"]),
        ("checked", "null", ["4"]),
        ("tags", "new", ["1", "3"]),
        ("tags", "old", ["3"]),
        ("tags", "No value", ["2", "4"]),
        ("__proto__", "y", ["2"]),
        ("constructor", "No value", ["1", "2", "3"]),
        ("constructor", "toString", ["4"]),
    ],
)
def test_a_key_with_few_values_is_a_choice(
    browser: Browser, folder: Folder, key: str, words: str, expected: list[str]
) -> None:
    page = page_of(
        folder,
        {"kind": "cat", "page": 1, "checked": True, "tags": ["new"], "__proto__": "x"},
        {"kind": "cat", "page": 2, "checked": False, "tags": [], "__proto__": "y"},
        {"kind": "dog", "page": 2, "checked": False, "tags": ["new", "old"]},
        {"checked": None, "constructor": "toString"},
    )
    browser.open(page)
    browser.click("#metadata > summary")
    choose(browser, key, words)
    assert browser.texts(SHOWN) == expected
    assert browser.text("#metadata-set") == "1"
    browser.click("#clear")
    assert len(browser.texts(SHOWN)) == 4
    assert browser.text("#metadata-set") == ""
    assert browser.complaints() == []


def test_filters_of_several_keys_hold_together(browser: Browser, folder: Folder) -> None:
    browser.open(page_of(folder, *({"a": a, "b": b} for a in "xy" for b in "xy")))
    choose(browser, "a", "y")
    choose(browser, "b", "x")
    assert browser.texts(SHOWN) == ["3"]


def test_keys_with_many_or_long_values_are_searched_as_text(browser: Browser, folder: Folder) -> None:
    metadata = [
        {
            "file": f"photo-{number}.JPG",
            "size": {"width": number},
            "text": "long " * 30 + str(number % 2),
            "set": "a",
        }
        for number in range(1, 41)
    ]
    browser.open(page_of(folder, *metadata))
    assert browser.texts("#metadata-filters select") == []  # `set` has one value: there is nothing to choose
    assert browser.texts("#metadata-key option") == ["file", "size", "text"]
    browser.click("#metadata > summary")
    for key, text, expected in (
        ("file", "o-12.jpg", ["12"]),
        ("size", '"width": 7', ["7"]),
        ("text", "long 1", [str(number) for number in range(1, 41, 2)]),
    ):
        browser.choose("#metadata-key", key)
        browser.type("#metadata-text", text)
        assert browser.texts(SHOWN)[:10] == expected[:10]
        assert browser.text("#count") == f"{len(expected)} of 40 records"


def test_without_metadata_there_is_no_menu_for_it(browser: Browser, folder: Folder) -> None:
    browser.open(page_of(folder, {}, {}))
    assert browser.run("return document.getElementById('metadata').hidden")


def test_a_menu_closes_by_escape_and_by_a_click_elsewhere(browser: Browser, folder: Folder) -> None:
    browser.open(page_of(folder, {"a": 1}, {"a": 2}))
    is_open = "return document.getElementById('metadata').open"
    browser.click("#metadata > summary")
    assert browser.run(is_open)
    browser.press("escape")
    assert not browser.run(is_open)
    assert browser.run("return document.activeElement.parentElement.id") == "metadata"
    browser.click("#metadata > summary")
    browser.click("h1")
    assert not browser.run(is_open)
