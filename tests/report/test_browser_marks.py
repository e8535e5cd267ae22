"""Marks in Chromium: set by key and button, kept by the browser, saved, loaded, apart from another report's."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tests.report.browser import Browser
from tests.report.runs import Folder, answer

pytestmark = pytest.mark.browser

MARKED = """
return [...document.querySelectorAll('#rows .row')].map(row =>
  [...row.querySelectorAll('[class*=mark-]')].map(badge => badge.textContent).join(' '));
"""


def three(folder: Folder, name: str = "a", text: str = "a cat") -> Path:
    """A report of three records."""
    return folder.report(folder.run(name, [answer(id, text) for id in ("one", "two", "three")]))[0]


def saved(folder: Path, name: str) -> str:
    """The text of a file that the page has saved."""
    end = time.perf_counter() + 15
    while not (folder / name).exists() or list(folder.glob("*.crdownload")):
        assert time.perf_counter() < end, sorted(path.name for path in folder.iterdir())
        time.sleep(0.02)
    return (folder / name).read_text("utf-8")


def mark_two(browser: Browser) -> None:
    """Marks the first record as good and the second as bad, with a note."""
    for key in ("j", "g", "j", "b", "n", "why <b>?\n2"):
        browser.press(key)
    browser.press("escape")
    browser.press("escape")
    browser.wait("return !document.getElementById('detail').open")


class TestMarking:
    def test_keys_and_buttons_set_a_mark_and_take_it_back(self, browser: Browser, folder: Folder) -> None:
        browser.open(three(folder))
        browser.press("j")
        browser.press("g")
        assert browser.run(MARKED) == ["good", "", ""]
        browser.press("b")
        assert browser.run(MARKED) == ["bad", "", ""]
        browser.press("b")
        assert browser.run(MARKED) == ["", "", ""]
        browser.press("enter")
        browser.click("#detail .mark-good")
        pressed = "return [...document.querySelectorAll('.marking button')].map(b => b.ariaPressed)"
        assert browser.run(pressed) == ["true", "false"]
        browser.press("right")
        assert browser.run(pressed) == ["false", "false"]
        browser.press("b")
        assert browser.run(pressed) == ["false", "true"]
        browser.press("escape")
        assert browser.run(MARKED) == ["good", "bad", ""]
        assert browser.text("#marks-count") == "2"
        assert browser.complaints() == []

    def test_a_marked_row_keeps_the_focus(self, browser: Browser, folder: Folder) -> None:
        browser.open(three(folder))
        for key in ("j", "g", "j", "g"):
            browser.press(key)
        assert browser.run("return document.activeElement.textContent") == "two"

    def test_marks_are_there_when_the_page_is_opened_again(self, browser: Browser, folder: Folder) -> None:
        page = three(folder)
        browser.open(page)
        mark_two(browser)
        browser.open(page)
        assert browser.run(MARKED) == ["good", "bad note", ""]
        browser.click("#rows .row:nth-child(2) .id")
        assert browser.run("return document.getElementById('note').value") == "why <b>?\n2"

    def test_a_page_that_is_made_again_keeps_them(self, browser: Browser, folder: Folder) -> None:
        browser.open(three(folder))
        mark_two(browser)
        folder.run("a", [answer("zero"), *(answer(id) for id in ("one", "two", "three"))])
        browser.open(folder.report(folder.path / "a.jsonl", title="Again")[0])
        assert browser.run(MARKED) == ["", "good", "bad note", ""]

    def test_two_reports_do_not_mix(self, browser: Browser, folder: Folder) -> None:
        browser.open(three(folder))
        mark_two(browser)
        browser.open(three(folder, "b"))
        assert browser.run(MARKED) == ["", "", ""]
        browser.open(folder.report(folder.path / "a.jsonl", folder.path / "b.jsonl")[0])
        assert browser.run(MARKED) == ["", "", ""]

    def test_a_mark_of_an_earlier_answer_is_not_shown_and_not_saved(
        self, browser: Browser, folder: Folder, tmp_path: Path
    ) -> None:
        browser.open(three(folder))
        mark_two(browser)
        browser.open(three(folder, text="a dog"))
        assert browser.run(MARKED) == ["", "", ""]
        assert browser.text("#marks-earlier") == "2 of an earlier answer, not shown."
        assert browser.run("return document.querySelector('[data-save=all]').disabled")
        browser.open(three(folder))
        assert browser.run(MARKED) == ["good", "bad note", ""]

    def test_records_of_one_id_have_marks_of_their_own(self, browser: Browser, folder: Folder) -> None:
        page, _ = folder.report(folder.run("a", [answer("1"), answer("1", None)]))
        browser.open(page)
        for key in ("j", "g", "j", "b"):
            browser.press(key)
        browser.open(page)
        assert browser.run(MARKED) == ["good", "bad"]

    def test_they_are_filtered_by(self, browser: Browser, folder: Folder) -> None:
        browser.open(three(folder))
        mark_two(browser)
        for value, expected in (("good", ["one"]), ("bad", ["two"]), ("note", ["two"]), ("none", ["three"])):
            browser.choose("#filter-mark", value)
            assert browser.texts("#rows .id") == expected
        assert browser.texts("#filter-mark option")[1:] == [
            "Good (1)", "Bad (1)", "With a note (1)", "Not marked (1)",
        ]  # fmt: skip

    def test_one_works_through_the_unmarked_without_losing_ones_place(
        self, browser: Browser, folder: Folder
    ) -> None:
        browser.open(three(folder))
        browser.choose("#filter-mark", "none")
        browser.click("#rows .id")
        for key in ("g", "right", "g", "right"):
            browser.press(key)
        assert browser.text("#detail-title") == "three"
        browser.press("escape")
        browser.wait("return document.querySelectorAll('#rows .id').length === 1")
        assert browser.texts("#rows .id") == ["three"]

    def test_a_browser_that_keeps_nothing_still_marks_and_says_so(
        self, browser: Browser, folder: Folder
    ) -> None:
        source = "Storage.prototype.setItem = Storage.prototype.getItem = () => { throw new Error('no'); };"
        added = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
        try:
            browser.open(three(folder))
            mark_two(browser)
            assert browser.run(MARKED) == ["good", "bad note", ""]
            assert "does not keep marks" in browser.text("#marks-kept")
        finally:
            browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("{", ["", "", ""]),
            ("7", ["", "", ""]),
            ('[7, null, {"id": 3, "mark": "bad"}, {"id": "two", "mark": "bad"}]', ["", "bad", ""]),
            ('[{"id": "one"}, {"id": "two", "mark": "so"}, {"id": "three", "note": 7}]', ["", "", ""]),
        ],
    )
    def test_what_is_kept_and_makes_no_sense_is_passed_over(
        self, browser: Browser, folder: Folder, text: str, expected: list[str]
    ) -> None:
        page = three(folder)
        browser.open(page)
        browser.run(
            "const data = JSON.parse(document.getElementById('data').textContent);"
            "localStorage.setItem(`pixano-vlm report ${data.marks}`, arguments[0])",
            text,
        )
        browser.open(page)
        assert browser.run(MARKED) == expected
        browser.press("j")
        browser.press("g")
        browser.open(page)
        assert browser.run(MARKED) == ["good", *expected[1:]]
        assert browser.complaints() == []

    def test_a_mark_that_another_window_has_just_stored_is_not_lost(
        self, browser: Browser, folder: Folder
    ) -> None:
        page = three(folder)
        browser.open(page)
        browser.run(
            "const data = JSON.parse(document.getElementById('data').textContent);"
            'localStorage.setItem(`pixano-vlm report ${data.marks}`, \'[{"id": "two", "mark": "bad"}]\')'
        )
        browser.press("j")
        browser.press("g")
        browser.open(page)
        assert browser.run(MARKED) == ["good", "bad", ""]

    def test_two_windows_of_a_report_show_and_keep_each_others_marks(
        self, browser: Browser, folder: Folder
    ) -> None:
        page = three(folder)
        browser.open(page)
        first = browser.driver.current_window_handle
        browser.driver.switch_to.new_window("tab")
        try:
            browser.open(page)
            browser.press("j")
            browser.press("g")
            browser.driver.switch_to.window(first)
            for key in ("j", "j", "b"):
                browser.press(key)
            browser.wait("return document.getElementById('marks-count').textContent === '2'")
            assert browser.run(MARKED) == ["good", "bad", ""]
        finally:
            browser.driver.switch_to.window(browser.driver.window_handles[-1])
            browser.driver.close()
            browser.driver.switch_to.window(first)


class TestFiles:
    def test_marks_are_saved_as_lines_and_ids_as_text(
        self, browser: Browser, folder: Folder, tmp_path: Path
    ) -> None:
        browser.open(three(folder))
        browser.download_to(tmp_path / "saved")
        mark_two(browser)
        browser.click("#marks > summary")
        for kind in ("all", "good", "bad"):
            browser.click(f"[data-save={kind}]")
        lines = saved(tmp_path / "saved", "report.marks.jsonl").splitlines()
        assert [json.loads(line) for line in lines] == [
            {"id": "one", "mark": "good"},
            {"id": "two", "mark": "bad", "note": "why <b>?\n2"},
        ]
        assert saved(tmp_path / "saved", "report.good.txt") == "one\n"
        assert saved(tmp_path / "saved", "report.bad.txt") == "two\n"
        assert browser.complaints() == []

    def test_what_was_saved_can_be_loaded_and_bad_lines_are_told(
        self, browser: Browser, folder: Folder, tmp_path: Path
    ) -> None:
        file = tmp_path / "marks.jsonl"
        lines = [
            '\ufeff{"id": "one", "mark": "good"}', '{"id": "two", "note": "hm", "later": 1}', "", "{",
            '{"id": "gone", "mark": "bad"}', '{"id": "three", "mark": "so-so"}',
        ]  # fmt: skip
        file.write_text("\r\n".join(lines), "utf-8")
        browser.open(three(folder))
        browser.hand_over("#marks-file", file)
        browser.wait("return document.getElementById('marks-said').textContent")
        assert browser.text("#marks-said") == "2 marks loaded. 3 lines not: line 4 is not a mark."
        assert browser.run(MARKED) == ["good", "note", ""]

    def test_all_pages_of_a_report_share_their_marks(
        self, browser: Browser, folder: Folder, tmp_path: Path
    ) -> None:
        output = folder.run("a", [answer(str(number)) for number in range(4)])
        _, written = folder.report(output, records_per_page=2)
        for page in written.pages:
            browser.open(page)
            browser.press("j")
            browser.press("g")
        browser.download_to(tmp_path / "saved")
        browser.click("#marks > summary")
        browser.click("[data-save=good]")
        assert saved(tmp_path / "saved", "report.good.txt").split() == ["2", "0"]
        browser.hand_over("#marks-file", folder.lines("marks.jsonl", [{"id": "1", "mark": "bad"}]))
        browser.wait("return document.getElementById('marks-said').textContent")
        browser.open(written.pages[0])
        assert browser.run(MARKED) == ["good", "bad"]
