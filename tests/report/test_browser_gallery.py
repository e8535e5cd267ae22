"""The gallery in Chromium, and the page on a telephone's width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.report.browser import Browser
from tests.report.runs import Folder, answer

pytestmark = pytest.mark.browser

TILES = "#rows .tile-record"
OUTSIDE = """
const outside = (inner, outer) => {
  const a = inner.getBoundingClientRect(), b = outer.getBoundingClientRect();
  return a.width && (a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1);
};
return [...document.querySelectorAll('#rows > *')].flatMap(record =>
  [...record.querySelectorAll('.badge, .id, img, .missing')]
    .filter(e => outside(e, record) || e.matches('.badge') && outside(e, e.parentElement)).map(e => e.outerHTML));
"""
OVERLAPPING = """
const boxes = record => [...record.querySelectorAll('.outcome, .answer p, .id')].map(e => e.getBoundingClientRect());
return [...document.querySelectorAll('#rows > *')].filter(record => boxes(record).some((a, n, all) =>
  all.some((b, m) => m > n && a.width && b.width
    && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)))
  .map(record => record.innerText);
"""
PHONE = (360, 640)


def hard(folder: Folder, name: str = "a", **values: Any) -> Path:
    """An output whose every record has long texts, many flags and a missing image among two."""
    long = "a very long answer that needs more room than a telephone has " * 6
    flags = [
        "repetition",
        "invalid_json",
        "an_unusually_long_flag_name_that_has_no_place_to_break" * 2,
        "empty",
        "x",
    ]
    answers = [
        answer(f"{'record-with-a-long-id-' * 6}{n}", long + name, flags=flags, **values) for n in range(8)
    ]
    asked = [
        {
            "id": one["id"],
            "prompt": f"{one['id'][-1]}: what is this? " * 20,
            "images": [folder.image("a.png", (300, 900)), "gone.png"],
        }
        for one in answers
    ]
    asked[1]["images"].reverse()
    answers[2] |= {"status": "error", "generated_text": None, "error": {"type": flags[2], "message": long}}
    return folder.run(name, answers, asked)


class TestGallery:
    def test_it_shows_images_answers_and_opens_records(self, browser: Browser, folder: Folder) -> None:
        browser.open(folder.report(hard(folder))[0])
        browser.click("[data-view=gallery]")
        assert len(browser.texts(TILES)) == 8
        assert "a very long answer" in browser.texts(f"{TILES} .answer")[0]
        assert browser.run(f"return document.querySelector('{TILES} img').clientWidth") > 200
        browser.click(f"{TILES}:nth-child(3) .answer")
        assert browser.text("#detail-title").endswith("2")
        browser.back()
        browser.wait("return !document.getElementById('detail').open")
        assert len(browser.texts(TILES)) == 8
        assert browser.complaints() == []

    def test_arrows_go_in_two_directions(self, browser: Browser, folder: Folder) -> None:
        browser.open(folder.report(folder.run("a", [answer(str(n)) for n in range(40)]))[0], "#view=gallery")
        across = browser.run(
            f"const tops = [...document.querySelectorAll('{TILES}')].map(e => e.getBoundingClientRect().top);"
            "return tops.filter(top => top === tops[0]).length"
        )
        assert across > 2
        for key in ("down", "down", "right", "down", "left", "up"):
            browser.press(key)
        assert browser.texts(".active .id") == [str(across)]

    def test_it_is_found_again_at_its_address_and_v_leaves_it(self, browser: Browser, folder: Folder) -> None:
        page, _ = folder.report(folder.run("a", [answer("1"), answer("2")]))
        browser.open(page)
        browser.press("v")
        assert browser.run("return location.hash") == "#view=gallery"
        browser.open(page, "#view=gallery&record=2")
        assert browser.text("#detail-title") == "2"
        browser.press("escape")
        browser.wait("return location.hash === '#view=gallery'")
        assert len(browser.texts(TILES)) == 2
        browser.press("v")
        assert browser.texts(TILES) == []
        assert browser.run("return location.hash") == ""

    def test_it_is_sorted_and_filtered_like_the_list(self, browser: Browser, folder: Folder) -> None:
        page, _ = folder.report(folder.run("a", [answer("b", "x"), answer("a", "y"), answer("c", None)]))
        browser.open(page, "#view=gallery")
        browser.choose("#sort", "record")
        assert browser.texts(f"{TILES} .id") == ["a", "b", "c"]
        browser.click("#turn")
        assert browser.texts(f"{TILES} .id") == ["c", "b", "a"]
        browser.choose("#filter-status", "error")
        assert browser.texts(f"{TILES} .id") == ["c"]

    def test_a_prompt_that_all_records_share_is_not_repeated(self, browser: Browser, folder: Folder) -> None:
        for prompts, shown in ((["Who?", "Who?"], []), (["Who?", "Where?"], ["Who?", "Where?"])):
            asked = [{"prompt": prompt} for prompt in prompts]
            browser.open(
                folder.report(folder.run("a", [answer("1"), answer("2")], asked))[0], "#view=gallery"
            )
            assert browser.texts(f"{TILES} .question") == shown

    def test_of_ten_thousand_only_those_on_the_screen_exist(self, browser: Browser, folder: Folder) -> None:
        output = folder.run("a", [answer(f"record {n}", metadata={"n": n}) for n in range(10_000)])
        browser.open(folder.report(output, records_per_page=10_000)[0], "#view=gallery")
        assert browser.text("#count") == "10,000 records"
        assert 0 < len(browser.texts(TILES)) < 60
        browser.run("scrollTo(0, document.body.scrollHeight)")
        browser.wait(
            f"return [...document.querySelectorAll('{TILES} .id')].some(e => e.textContent === 'record 9999')"
        )
        assert len(browser.texts(TILES)) < 60


class TestPhone:
    @pytest.fixture(params=["one output", "two outputs"])
    def page(self, request: pytest.FixtureRequest, browser: Browser, folder: Folder) -> Path:
        """A report of hard records, opened on a telephone."""
        outputs = [hard(folder, metadata={"kind": "x"})]
        if request.param == "two outputs":
            outputs.append(hard(folder, "b", finish_reason="length"))
        page, _ = folder.report(*outputs, title="A report with quite a long title")
        browser.resize(*PHONE)
        browser.open(page)
        return page

    def test_the_first_record_is_whole_on_the_first_screen(self, browser: Browser, page: Path) -> None:
        assert browser.run("return scrollY") == 0
        assert (
            browser.run("return document.querySelector('#rows > *').getBoundingClientRect().bottom")
            <= PHONE[1]
        )
        browser.click("[data-view=gallery]")
        assert (
            browser.run("return document.querySelector('#rows > *').getBoundingClientRect().bottom")
            <= PHONE[1]
        )

    def test_everything_of_a_record_stays_inside_it(self, browser: Browser, page: Path) -> None:
        for key in ("down", "g", "n", "noted"):
            browser.press(key)
        for key in ("escape", "escape"):
            browser.press(key)
        browser.wait("return !document.getElementById('detail').open")
        for size in (PHONE, (768, 900), (1280, 860)):
            browser.resize(*size)
            for view in ("list", "gallery"):
                browser.click(f"[data-view={view}]")
                browser.wait(
                    f"return document.querySelector('#rows > .{'row' if view == 'list' else 'tile-record'}')"
                )
                assert browser.run(OUTSIDE) == [], (size, view)
                assert browser.run(OVERLAPPING) == [], (size, view)
                shown = browser.run(
                    "return [...document.querySelectorAll('#rows > *')].every(e => e.querySelector('.badge'))"
                )
                assert shown

    def test_nothing_is_wider_than_the_window(self, browser: Browser, page: Path) -> None:
        wide = "return document.documentElement.scrollWidth"
        for act in (
            lambda: None,
            lambda: browser.click("#narrowing > summary"),
            lambda: browser.click("#figures > summary"),
            lambda: browser.click("#marks > summary"),
            lambda: browser.click("h1"),
            lambda: browser.click("[data-view=gallery]"),
        ):
            act()
            assert browser.run(wide) <= PHONE[0]
        browser.click("#rows .id")
        assert browser.run("return document.getElementById('detail').scrollWidth") <= PHONE[0]
        assert browser.run("return document.querySelector('.panes').scrollWidth") <= PHONE[0]

    def test_filters_open_over_the_list_and_a_tap_elsewhere_closes_them(
        self, browser: Browser, page: Path
    ) -> None:
        top = "return document.querySelector('#rows').getBoundingClientRect().top"
        before = browser.run(top)
        browser.click("#narrowing > summary")
        assert browser.run("return document.querySelector('#filter-mark').offsetHeight") > 20
        assert browser.run(top) == before
        browser.choose("#filter-mark", "none")
        assert browser.text("#filters-set") == "1"
        browser.click("h1")
        assert not browser.run("return document.getElementById('narrowing').open")

    def test_the_image_and_the_marks_of_an_open_record_are_on_the_screen(
        self, browser: Browser, page: Path
    ) -> None:
        browser.click("#rows .id")
        boxes = browser.run(
            "return ['.stage .frame img', '.marking', '.close'].map(s => {"
            " const box = document.querySelector('#detail ' + s).getBoundingClientRect();"
            " return [box.left, box.top, box.right, box.bottom]; })"
        )
        for left, top, right, bottom in boxes:
            assert left >= 0
            assert top >= 0
            assert right <= PHONE[0]
            assert bottom <= PHONE[1]
        image = boxes[0]
        assert image[2] - image[0] == PHONE[0]
        browser.back()
        browser.wait("return !document.getElementById('detail').open")
        assert browser.run("return location.pathname").endswith("report.html")


def test_figures_and_filters_are_open_on_a_wide_window_and_folded_on_a_narrow_one(
    browser: Browser, folder: Folder
) -> None:
    browser.open(folder.report(folder.run("a", [answer("1"), answer("2", None)]))[0])
    opened = "return [...document.querySelectorAll('details.folds')].map(e => e.open)"
    assert browser.run(opened) == [True, True]
    browser.resize(*PHONE)
    browser.wait("return !document.getElementById('figures').open")
    assert browser.run(opened) == [False, False]
    assert browser.text("#figures-said") == "2 records: 1 answered, 1 failed"
    browser.resize(1360, 900)
    browser.wait("return document.getElementById('figures').open")
