"""An open record in Chromium: its images as large as their pane, the keys, and Back."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image
from tests.report.browser import Browser
from tests.report.runs import Folder, answer

pytestmark = pytest.mark.browser

IMAGE = ".stage .frame img"
ORIGINAL = f"return document.querySelector('{IMAGE}.original')?.naturalWidth"
IS_OPEN = "return document.getElementById('detail').open"


def page_with(folder: Folder, *images: str, **options: Any) -> Path:
    """A report of one record with these images."""
    return folder.report(
        folder.run("a", [answer("1")], [{"prompt": "x", "images": list(images)}]), **options
    )[0]


def few(folder: Folder) -> Path:
    """A report of three records."""
    return folder.report(folder.run("a", [answer("one"), answer("two"), answer("three")]))[0]


def none_is_broken(browser: Browser) -> bool:
    script = (
        "return [...document.querySelectorAll('#detail img')].every(i => i.complete && i.naturalWidth > 0)"
    )
    return bool(browser.run(script))


class TestImages:
    def test_the_original_fills_the_pane(self, browser: Browser, folder: Folder) -> None:
        browser.open(page_with(folder, folder.image("photos/a b#?.png", (900, 700))), "#record=1")
        assert browser.wait(ORIGINAL) == 900
        assert browser.run("return document.querySelector('.stage .thumbnail')") is None
        sizes = browser.run(
            f"const box = e => [e.clientWidth, e.clientHeight], image = document.querySelector('{IMAGE}');"
            "return [box(image), box(image.parentElement), getComputedStyle(image).objectFit]"
        )
        assert sizes[0] == sizes[1]
        assert sizes[2] == "contain"
        width, height = sizes[0]
        assert width > 600
        assert height > 600
        assert browser.complaints() == []

    def test_an_original_above_the_pages_folder_is_found(self, browser: Browser, folder: Folder) -> None:
        folder.image("photos/a.png", (500, 400))
        (folder.path / "pages").mkdir()
        output = folder.run("a", [answer("1")], [{"prompt": "x", "images": ["photos/a.png"]}])
        from pixano_vlm.report import ReportOptions, write_report

        page = folder.path / "pages" / "page.html"
        write_report(ReportOptions(outputs=(output,), page=page))
        browser.open(page, "#record=1")
        assert browser.wait(ORIGINAL) == 500

    def test_without_the_original_the_thumbnail_fills_the_pane_and_says_so(
        self, browser: Browser, folder: Folder
    ) -> None:
        page = page_with(folder, folder.image("a.png", (900, 700)))
        (folder.path / "a.png").unlink()
        browser.open(page, "#record=1")
        browser.wait("return document.querySelector('.stage figcaption').textContent.includes('thumbnail')")
        assert browser.run(f"return document.querySelector('{IMAGE}').naturalWidth") == 256
        assert browser.run(f"return document.querySelector('{IMAGE}').clientWidth") > 600
        assert none_is_broken(browser)

    def test_a_kind_that_the_browser_cannot_show_is_shown_from_its_thumbnail(
        self, browser: Browser, folder: Folder
    ) -> None:
        browser.open(page_with(folder, folder.image("a.tiff", (900, 700))), "#record=1")
        browser.wait("return document.querySelector('.stage figcaption').textContent.includes('thumbnail')")
        assert none_is_broken(browser)

    def test_an_image_inside_the_manifest_is_shown_from_its_thumbnail(
        self, browser: Browser, folder: Folder
    ) -> None:
        file = BytesIO()
        Image.new("RGB", (40, 40), "red").save(file, "PNG")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        browser.open(page_with(folder, url), "#record=1")
        assert none_is_broken(browser)
        assert browser.run(f"return document.querySelector('{IMAGE}').naturalWidth") == 40

    def test_a_missing_image_says_why_instead_of_itself(self, browser: Browser, folder: Folder) -> None:
        browser.open(page_with(folder, "gone.png"), "#record=1")
        assert "No such file" in browser.text(".stage .frame")
        assert browser.texts("#detail img, #detail figcaption a") == []

    def test_a_record_without_images_has_no_pane_for_them(self, browser: Browser, folder: Folder) -> None:
        browser.open(few(folder), "#record=one")
        assert browser.texts(".stage") == []
        assert "a cat" in browser.text("#detail .content")

    def test_several_images_are_chosen_by_click_and_by_number(self, browser: Browser, folder: Folder) -> None:
        names = [folder.image(f"{n}.png", (300 + n, 200), colour=(n, 90, 200)) for n in (1, 2, 3)]
        content = [{"type": "image"}, {"type": "text", "text": "or"}, {"type": "image"}, {"type": "image"}]
        asked = [{"prompt": [{"role": "user", "content": content}], "images": names}]
        browser.open(folder.report(folder.run("a", [answer("1")], asked))[0], "#record=1")
        assert len(browser.texts(".strip button")) == 3
        assert browser.wait(ORIGINAL) == 301
        for act, width in (
            (lambda: browser.press("3"), 303),
            (lambda: browser.click(".strip button:nth-child(1)"), 301),
            (lambda: browser.click(".messages button:nth-of-type(2)"), 302),
            (lambda: browser.press("9"), 302),
        ):
            act()
            browser.wait(f"{ORIGINAL} === {width}")
        pressed = "return [...document.querySelectorAll('.strip button')].map(b => b.ariaPressed)"
        assert browser.run(pressed) == ["false", "true", "false"]
        assert "2 of 3: 2.png" in browser.text(".stage figcaption")
        assert browser.complaints() == []

    @pytest.fixture
    def served(self, folder: Folder) -> Iterator[str]:
        """The folder's address on a server of this machine."""

        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder.path)))
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()

    def test_a_page_on_a_server_shows_the_originals_beside_it_and_asks_no_other(
        self, browser: Browser, folder: Folder, served: str
    ) -> None:
        page = page_with(folder, folder.image("a.png", (500, 400)), "http://localhost:9/b.png")
        browser.open(page)
        browser.driver.get_log("performance")
        browser.driver.get(f"{served}/{page.name}#record=1")
        assert browser.wait(ORIGINAL) == 500
        browser.press("2")
        assert "was not fetched" in browser.text(".stage .frame")
        asked = [url for url in browser.requests() if not url.endswith("favicon.ico")]
        assert [url.removeprefix(served).partition("#")[0] for url in asked] == ["/report.html", "/a.png"]


class TestHistory:
    def test_back_closes_the_record_and_forward_opens_it_again(
        self, browser: Browser, folder: Folder
    ) -> None:
        browser.open(few(folder))
        browser.click("#rows .row:nth-child(2) .id")
        assert browser.text("#detail-title") == "two"
        browser.back()
        browser.wait(f"{IS_OPEN} === false")
        assert browser.run("return location.hash") == ""
        browser.forward()
        browser.wait(IS_OPEN)
        assert browser.text("#detail-title") == "two"

    def test_records_that_were_turned_are_one_step_back(self, browser: Browser, folder: Folder) -> None:
        browser.open(few(folder))
        browser.click("#rows .id")
        browser.press("right")
        browser.press("right")
        assert browser.text("#detail-title") == "three"
        browser.wait("return location.hash === '#record=three'")
        browser.back()
        browser.wait(f"{IS_OPEN} === false")

    @pytest.mark.parametrize("close", ["escape", "button"])
    def test_a_closed_record_leaves_no_step_behind(
        self, browser: Browser, folder: Folder, close: str
    ) -> None:
        browser.open(few(folder))
        for _ in range(3):
            browser.click("#rows .id")
            if close == "escape":
                browser.press("escape")
            else:
                browser.click("#detail .close")
            browser.wait("return location.hash === '' && !history.state")
        browser.click("#rows .id")
        browser.back()
        browser.wait(f"{IS_OPEN} === false && location.hash === ''")
        browser.back()
        browser.wait("return location.href === 'about:blank'")

    def test_a_record_that_is_opened_at_once_after_another_was_closed_stays_open(
        self, browser: Browser, folder: Folder
    ) -> None:
        browser.open(few(folder))
        browser.click("#rows .id")
        browser.run(
            "document.querySelector('#detail .close').click();"
            "document.querySelector('#detail').addEventListener('close', () =>"
            " document.querySelector('#rows .row:nth-child(3) .id').click(), { once: true });"
        )
        browser.wait("return location.hash === '#record=three'")
        assert browser.text("#detail-title") == "three"
        assert browser.run(IS_OPEN)
        browser.back()
        browser.wait(f"{IS_OPEN} === false")

    def test_an_address_with_a_record_can_be_closed_and_loaded_again(
        self, browser: Browser, folder: Folder
    ) -> None:
        browser.open(few(folder), "#record=two")
        browser.run("location.reload()")
        browser.wait("return document.documentElement?.dataset.ready === 'true'")
        browser.wait(IS_OPEN)
        browser.press("escape")
        browser.wait("return location.hash === ''")
        assert not browser.run(IS_OPEN)


class TestKeys:
    def test_arrows_walk_through_the_list_and_turn_open_records(
        self, browser: Browser, folder: Folder
    ) -> None:
        browser.open(few(folder))
        for key in ("down", "down", "up", "down"):
            browser.press(key)
        assert browser.texts(".row.active .id") == ["two"]
        browser.press("enter")
        titles = [browser.text("#detail-title")]
        for key in ("right", "right", "left", "left", "left"):
            browser.press(key)
            titles.append(browser.text("#detail-title"))
        assert titles == ["two", "three", "three", "two", "one", "one"]

    def test_arrows_in_a_field_are_the_fields_own(self, browser: Browser, folder: Folder) -> None:
        browser.open(few(folder), "#record=two")
        browser.press("n")
        browser.press("gb")
        browser.press("left")
        browser.press("x")
        assert browser.text("#detail-title") == "two"
        assert browser.run("return document.getElementById('note').value") == "gxb"

    def test_escape_leaves_the_note_first_and_then_the_record(self, browser: Browser, folder: Folder) -> None:
        browser.open(few(folder))
        browser.press("down")
        browser.press("n")
        assert browser.run("return document.activeElement.id") == "note"
        browser.press("escape")
        assert browser.run(IS_OPEN)
        browser.press("escape")
        browser.wait(f"{IS_OPEN} === false")
        browser.wait("return document.activeElement.textContent === 'one'")

    def test_a_key_with_a_modifier_is_the_browsers(self, browser: Browser, folder: Folder) -> None:
        browser.open(few(folder))
        browser.press("down")
        for modifier in ("ctrlKey", "metaKey", "altKey"):
            browser.run(
                "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', "
                "{ key: 'g', bubbles: true, [arguments[0]]: true }))",
                modifier,
            )
        assert browser.texts(".badge.mark-good") == []


class TestThoughts:
    def test_they_are_folded_beside_the_answer_and_are_text(self, browser: Browser, folder: Folder) -> None:
        hostile = 'Let me <img src=x onerror="window.pwned = 1"> look.'
        thinks = answer("1", "A star.", reasoning=hostile, reasoning_tokens=3)
        page = folder.report(folder.run("a", [thinks, answer("2", "A cat.")]))[0]
        browser.open(page, "#record=1")
        assert browser.wait(
            "return document.querySelector('#detail details.thoughts summary')?.textContent"
        ) == ("Thoughts")
        assert browser.run("return document.querySelector('#detail details.thoughts').open") is False
        said = "return document.querySelector('#detail details.thoughts p').textContent"
        assert browser.run(said) == hostile
        browser.run("document.querySelector('#detail details.thoughts summary').click()")
        assert browser.run("return document.querySelector('#detail details.thoughts').open") is True
        assert browser.run("return window.pwned ?? null") is None
        shown = "return document.getElementById('detail').textContent"
        assert "Of these thoughts" in str(browser.run(shown))
        browser.open(page, "#record=2")
        browser.wait("return document.getElementById('detail').textContent.includes('A cat.')")
        assert browser.run("return document.querySelector('#detail details.thoughts')") is None
        assert browser.complaints() == []
