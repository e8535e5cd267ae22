"""The page in a real Chromium: what it shows, what a reader can do, and that it asks nothing of any network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.report.browser import Browser
from tests.report.runs import Folder, answer

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).parents[2]
SHOWN = "#rows .row .id"


@pytest.fixture(scope="module")
def example(started_browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the examples' run, both made by the commands that a user gives."""
    folder = tmp_path_factory.mktemp("examples")
    manifest = REPOSITORY / "examples" / "shapes" / "manifest.jsonl"
    output, page = folder / "outputs.jsonl", folder / "report.html"
    for args in (
        ["generate", str(manifest), "--model", "shapes", "-o", str(output), "-q"],
        ["report", str(output), "-o", str(page)],
    ):
        command = [sys.executable, "-m", "pixano_vlm", *args]
        paths = os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
    return page


def mixed(folder: Folder) -> Path:
    """Answers of every kind, as one run leaves them."""
    folder.image("a.png")
    answers = [
        answer("apple", "a red apple", usage={"prompt_tokens": 30, "completion_tokens": 9}),
        answer("loop", "so so so so", finish_reason="length", flags=["repetition", "length"]),
        answer("gone", None),
        answer("void", "", flags=["empty"], usage={"prompt_tokens": 12, "completion_tokens": 1}),
        answer("pear", "a green pear", metadata={"shelf": "upper"}),
    ]
    asked = [{"id": one["id"], "prompt": "What fruit is this?", "images": ["a.png"]} for one in answers]
    asked[2]["images"] = ["gone.png"]
    return folder.run("mixed", answers, asked, model={"class": "Fake"}, settings={"temperature": 0})


class TestExamples:
    """What issue after issue asks of such a page, on a real run."""

    def test_it_shows_the_images_prompts_and_answers(self, browser: Browser, example: Path) -> None:
        browser.open(example)
        assert browser.text("#count") == "96 records"
        assert browser.texts("#rows .row .record p")[0] == "What do you see?"
        assert browser.texts("#rows .row .answer")[0] == "a black triangle"
        shown = "return [...document.querySelectorAll('#rows img')].map(i => [i.complete, i.naturalWidth])"
        images = browser.run(shown)
        assert len(images) >= 8
        assert all(complete and width > 0 for complete, width in images)

    def test_it_makes_no_request_and_the_console_stays_silent(self, browser: Browser, example: Path) -> None:
        browser.open(example)
        browser.type("#search", "triangle")
        browser.press("escape")
        for key in ("j", "enter", "j", "escape"):
            browser.press(key)
        browser.run("scrollTo(0, document.body.scrollHeight)")
        page, *others = browser.requests()
        assert page == example.as_uri()
        images = (REPOSITORY / "examples" / "shapes" / "images").as_uri()
        assert all(url.startswith(images) for url in others)  # the originals of the opened records
        assert browser.complaints() == []

    def test_a_page_that_did_make_requests_and_complaints_would_be_caught(
        self, browser: Browser, tmp_path: Path
    ) -> None:
        page = tmp_path / "page.html"
        page.write_text(
            "<html data-ready=true><img src='https://example.invalid/a.png'><script>console.error('x')</script>"
        )
        browser.open(page)
        browser.wait("return performance.getEntriesByType('resource').length > 0")
        assert "https://example.invalid/a.png" in browser.requests()
        assert any("x" in complaint for complaint in browser.complaints())


class TestFinding:
    def test_searching_narrows_the_list_as_one_types(self, browser: Browser, example: Path) -> None:
        browser.open(example)
        browser.press("/")
        browser.press("ORANGE")
        browser.press(" star")
        found = browser.wait("return document.querySelectorAll('#rows .row').length")
        assert 0 < found < 96
        assert browser.text("#count") == f"{found} of 96 records"
        assert set(map(str.lower, browser.texts("#rows mark"))) == {"orange", "star"}
        browser.type("#search", "no such word")
        assert browser.texts(SHOWN) == []
        assert not browser.run("return document.getElementById('nothing').hidden")
        browser.click("#nothing button")
        assert browser.text("#count") == "96 records"

    @pytest.mark.parametrize(
        ("filter", "value", "expected"),
        [
            ("status", "error", ["gone"]),
            ("status", "ok", ["apple", "loop", "void", "pear"]),
            ("finish", "length", ["loop"]),
            ("flag", "repetition", ["loop"]),
            ("flag", "empty", ["void"]),
            ("flag", "none", ["apple", "gone", "pear"]),
        ],
    )
    def test_it_filters(
        self, browser: Browser, folder: Folder, filter: str, value: str, expected: list[str]
    ) -> None:
        browser.open(folder.report(mixed(folder))[0])
        browser.choose(f"#filter-{filter}", value)
        assert browser.texts(SHOWN) == expected
        browser.click("#clear")
        assert len(browser.texts(SHOWN)) == 5

    def test_errors_are_filtered_by_type(self, browser: Browser, folder: Folder) -> None:
        other = {"type": "PromptError", "message": "too long"}
        answers = [answer("1"), answer("2", None), answer("3", None, error=other)]
        browser.open(folder.report(folder.run("a", answers))[0])
        browser.choose("#filter-error", "PromptError")
        assert browser.texts(SHOWN) == ["3"]

    def test_search_reads_metadata_and_errors_too(self, browser: Browser, folder: Folder) -> None:
        browser.open(folder.report(mixed(folder))[0])
        for words, expected in (("upper", ["pear"]), ("cannot be read", ["gone"]), ("repetition", ["loop"])):
            browser.type("#search", words)
            assert browser.texts(SHOWN) == expected

    @pytest.mark.parametrize(
        ("column", "up", "down"),
        [
            ("record", ["apple", "gone", "loop", "pear", "void"], ["void", "pear", "loop", "gone", "apple"]),
            (
                "output-0",
                ["void", "loop", "pear", "apple", "gone"],
                ["apple", "loop", "pear", "void", "gone"],
            ),
            ("number", ["pear", "void", "gone", "loop", "apple"], ["apple", "loop", "gone", "void", "pear"]),
        ],
    )
    def test_it_sorts_by_a_column_both_ways_with_the_unknown_last(
        self, browser: Browser, folder: Folder, column: str, up: list[str], down: list[str]
    ) -> None:
        browser.open(folder.report(mixed(folder))[0])
        orders = []
        for _ in range(2):
            browser.click(f'[data-sort="{column}"]')
            orders.append(browser.texts(SHOWN))
        assert orders == [up, down]
        assert len(browser.run("return [...document.querySelectorAll('[aria-sort$=ending]')]")) == 1


class TestRecord:
    def test_a_click_opens_a_record_and_escape_closes_it(self, browser: Browser, folder: Folder) -> None:
        browser.open(folder.report(mixed(folder))[0])
        browser.click("#rows .row .answer")
        assert browser.text("#detail-title") == "apple"
        text = browser.text("#detail")
        for said in (
            "What fruit is this?",
            "a red apple",
            "a.png",
            "64 \N{MULTIPLICATION SIGN} 48",
            "temperature",
        ):
            assert said in text
        assert browser.run("return document.querySelector('#detail img').naturalWidth") == 64
        browser.press("escape")
        assert not browser.run("return document.getElementById('detail').open")

    def test_keys_walk_through_the_records(self, browser: Browser, folder: Folder) -> None:
        browser.open(folder.report(mixed(folder))[0])
        titles = []
        for key in ("j", "j", "enter"):
            browser.press(key)
        titles.append(browser.text("#detail-title"))
        for key in ("j", "j", "k"):
            browser.press(key)
            titles.append(browser.text("#detail-title"))
        assert titles == ["loop", "gone", "void", "gone"]
        assert "it cannot be read." in browser.text("#detail")
        assert "No such file" in browser.text("#detail .stage")
        browser.press("escape")
        browser.wait("return document.activeElement.textContent === 'gone'")  # once the dialog has closed

    def test_the_address_opens_the_record_it_names(self, browser: Browser, folder: Folder) -> None:
        page, _ = folder.report(mixed(folder))
        browser.open(page, "#record=void")
        assert browser.text("#detail-title") == "void"
        assert "The answer is empty." in browser.text("#detail")
        assert browser.texts("#detail .badge.flag") == ["empty"]

    def test_a_conversation_shows_its_roles_and_where_its_images_stand(
        self, browser: Browser, folder: Folder
    ) -> None:
        parts = [{"type": "image"}, {"type": "text", "text": "Which is it?"}]
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
        asked = [{"prompt": messages, "images": [folder.image("a.png")]}]
        browser.open(folder.report(folder.run("a", [answer("1")], asked))[0])
        assert browser.texts("#rows .record p") == ["Which is it?"]
        browser.click("#rows .id")
        assert browser.texts("#detail .messages li") == ["systemBe brief.", "userimage 1Which is it?"]


class TestJson:
    VALUE = (
        '{"name":"a \\"b\\" {c}","at":[1,2],"big":12345678901234567890,"inner":{"of":{"yes":true,"no":[]}}}'
    )
    SHOWN = """{
  "name": "a \\"b\\" {c}",
  "at": [1, 2],
  "big": 12345678901234567890,
  "inner": {
    "of": {
      "yes": true,
      "no": []
    }
  }
}"""

    def shown(self, folder: Folder, *answers: dict[str, Any]) -> Path:
        return folder.report(folder.run("a", list(answers), [{"prompt": "x"}] * len(answers)))[0]

    def test_an_answer_in_json_is_laid_out_with_every_token_as_it_is(
        self, browser: Browser, folder: Folder
    ) -> None:
        page = self.shown(folder, answer("1", self.VALUE, parsed={"a": 1}))
        browser.open(page, "#record=1")
        assert browser.text("#detail .text.json") == self.SHOWN
        assert browser.texts("#detail .json .key")[:2] == ['"name"', '"at"']
        assert "12345678901234567890" in browser.texts("#detail .json .value")
        assert browser.texts("#detail .invalid") == []
        assert "parsed" not in browser.text("#detail")
        assert browser.complaints() == []

    def test_an_invalid_one_is_marked_in_the_list_and_in_its_record(
        self, browser: Browser, folder: Folder
    ) -> None:
        page = self.shown(
            folder,
            answer("1", '{"a": "b', parsed=None, flags=["invalid_json"], finish_reason="length"),
            answer("2", '{"a": "b"}', parsed={"a": "b"}, flags=["invalid_json"], attempts=2),
            answer("3", "{free"),
        )
        browser.open(page)
        assert browser.texts("#rows .badge.flag") == ["invalid_json", "invalid_json"]
        browser.open(page, "#record=1")
        assert browser.text("#detail .invalid") == "This is not the JSON that was asked for."
        assert browser.text("#detail .answers .text") == '{"a": "b'
        browser.open(page, "#record=2")
        assert "does not follow the schema" in browser.text("#detail .invalid")
        assert "Attempts2" in browser.texts("#detail .answers .properties div")
        browser.open(page, "#record=3")
        assert browser.texts("#detail .json, #detail .invalid") == []

    def test_words_that_are_searched_for_are_marked_in_it(self, browser: Browser, folder: Folder) -> None:
        browser.open(self.shown(folder, answer("1", '{"kind":"red boat"}', parsed={"kind": "red boat"})))
        browser.type("#search", "boat")
        browser.click("#rows .id")
        assert browser.texts("#detail .json mark") == ["boat"]

    def test_of_two_the_differing_values_are_marked(self, browser: Browser, folder: Folder) -> None:
        one = folder.run("a", [answer("1", '{"a":1,"b":[2,3]}', parsed={"a": 1})])
        other = folder.run("b", [answer("1", '{"a": 1, "b": [2, 4]}', parsed={"a": 1})])
        browser.open(folder.report(one, other)[0], "#record=1")
        assert browser.texts("#detail del") == ["3"]
        assert browser.texts("#detail ins") == ["4"]

    def test_markup_in_json_is_text(self, browser: Browser, folder: Folder) -> None:
        bad = '{"<img src=x onerror=alert(1)>": "</p><script>alert(2)</script>"}'
        browser.open(self.shown(folder, answer("1", bad, parsed={"a": 1})), "#record=1")
        assert "<img src=x" in browser.text("#detail .json")
        assert browser.run("return document.querySelectorAll('[onerror]').length") == 0
        assert browser.complaints() == []


class TestComparison:
    def compared(self, folder: Folder) -> Path:
        first = [
            answer("1", "a red boat lies here"),
            answer("2"),
            answer("3", "one  two"),
            answer("4", None),
            answer("5"),
        ]
        second = [
            answer("1", "a blue boat lies there"),
            answer("2"),
            answer("3", "one two"),
            answer("4"),
            answer("6"),
        ]
        asked = [{"prompt": "What is this?"}] * 5
        runs = [
            folder.run("a", first, asked, settings={"temperature": 0}),
            folder.run("b", second, settings={"temperature": 1}),
        ]
        return folder.report(*runs)[0]

    def test_differences_are_marked_word_by_word(self, browser: Browser, folder: Folder) -> None:
        browser.open(self.compared(folder))
        row = "#rows .row:first-child "
        assert browser.texts(row + ".answer") == ["a red boat lies here", "a blue boat lies there"]
        assert browser.texts(row + "del") == ["red", "here"]
        assert browser.texts(row + "ins") == ["blue", "there"]
        browser.click("#rows .id")
        assert browser.texts("#detail del") == ["red", "here"]
        assert browser.texts("#detail ins") == ["blue", "there"]
        assert browser.complaints() == []

    def test_same_and_different_are_counted_and_only_the_different_shown(
        self, browser: Browser, folder: Folder
    ) -> None:
        browser.open(self.compared(folder))
        tiles = browser.texts(".tile")
        assert tiles == [
            "Records6",
            "Same answer116.7 %",
            "Different350 %",
            "Only in A1",
            "Only in B1",
        ]
        browser.choose("#filter-verdict", "different")
        assert browser.texts(SHOWN) == ["1", "3", "4"]
        assert "Settings and versions" in browser.text("#summary")
        assert browser.texts(".differs")[0] == "temperature01"

    def test_a_difference_in_white_space_only_is_said(self, browser: Browser, folder: Folder) -> None:
        browser.open(self.compared(folder), "#record=3")
        assert "white space only" in browser.text("#detail")

    @pytest.mark.parametrize(
        ("one", "other", "gone", "new"),
        [
            ("", "a b", [], ["a b"]),
            ("a b c", "a b c", [], []),
            ("a x y c", "a c", ["x y"], []),
            ("in 1990, yes", "in 1991, yes", ["1990"], ["1991"]),
            ("ein Übermut", "ein Ubermut", ["Übermut"], ["Ubermut"]),
            ("猫と犬", "猫と鳥", ["猫と犬"], ["猫と鳥"]),
            ("<b>x</b>", "<i>x</i>", ["b", "b"], ["i", "i"]),
        ],
    )
    def test_what_counts_as_a_word(
        self, browser: Browser, folder: Folder, one: str, other: str, gone: list[str], new: list[str]
    ) -> None:
        browser.open(
            folder.report(folder.run("a", [answer("1", one)]), folder.run("b", [answer("1", other)]))[0],
            "#record=1",
        )
        assert browser.texts("#detail del") == gone
        assert browser.texts("#detail ins") == new


class TestHostile:
    MARKUP = "<img src=x onerror=\"document.title='bad'\"><script>document.title='bad'</script></script><!--"

    def test_html_and_scripts_of_users_are_text_everywhere(self, browser: Browser, folder: Folder) -> None:
        bad = self.MARKUP
        lines = [
            answer(
                bad,
                bad,
                model=bad,
                metadata={bad: bad},
                images=[bad],
                flags=[bad],
                generation_config={bad: bad},
                more={bad: [bad]},
            ),
            answer("2", None, error={"type": bad, "message": bad}),
        ]
        prompts: list[Any] = [bad, [{"role": "user", "content": bad}]]
        asked = [
            {"id": one["id"], "prompt": text, "images": [bad]}
            for one, text in zip(lines, prompts, strict=True)
        ]
        first = folder.run("a", lines, asked, model={"class": bad}, settings={bad: bad})
        second = folder.run("b", [answer(bad, bad + " x"), answer("2")], asked)
        for outputs in ((first,), (first, second)):
            page, _ = folder.report(*outputs, title=bad)
            browser.open(page)
            assert browser.texts(SHOWN)[0] == bad
            assert bad in browser.texts("#rows .record p")
            assert bad in browser.texts("#rows .answer")[0]
            for _ in outputs:
                browser.press("j")
                browser.press("enter")
                assert bad in browser.text("#detail")
                browser.press("escape")
            assert browser.run("return document.title") == bad
            assert browser.run("return document.querySelectorAll('img[src=x], [onerror]').length") == 0
            assert browser.complaints() == []
            assert browser.requests() == [page.as_uri()]


class TestAccess:
    """Everything that acts is a control with a name, and can be reached and seen from the keyboard."""

    NAMELESS = """
    const named = e => e.textContent.trim() || e.ariaLabel || [...(e.labels ?? [])].some(l => l.textContent.trim());
    return [...document.querySelectorAll('button, input, select, textarea, summary, a')]
      .filter(e => !named(e) || (e.tabIndex < 0 && !e.disabled)).map(e => e.outerHTML);
    """
    TWICE = """
    const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
    return ids.filter((id, place) => ids.indexOf(id) !== place);
    """

    def test_every_control_has_a_name(self, browser: Browser, folder: Folder) -> None:
        output = mixed(folder)
        for outputs in ((output,), (output, output)):
            page, _ = folder.report(*outputs)
            for fragment in ("", "#view=gallery", "#record=apple"):
                browser.open(page, fragment)
                assert browser.run(self.NAMELESS) == []
                assert browser.run(self.TWICE) == []

    def test_the_focus_is_seen_wherever_the_tab_key_takes_it(self, browser: Browser, folder: Folder) -> None:
        browser.open(folder.report(mixed(folder))[0])
        outline = (
            "const e = document.activeElement, s = getComputedStyle(e);"
            "const outlined = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1;"
            "return [e.tagName, outlined || s.boxShadow !== 'none']"
        )
        reached = []
        for _ in range(20):
            browser.press("tab")
            name, seen = browser.run(outline)
            reached.append(name)
            assert seen, name
        assert {"A", "SUMMARY", "INPUT", "SELECT", "BUTTON"} <= set(reached)

    def test_an_open_record_keeps_the_focus_inside_and_gives_it_back(
        self, browser: Browser, folder: Folder
    ) -> None:
        browser.open(folder.report(mixed(folder))[0])
        browser.press("down")
        browser.press("enter")
        for _ in range(12):
            browser.press("tab")
            assert browser.run(
                "const focused = document.activeElement;"
                "return focused === document.body || document.getElementById('detail').contains(focused)"
            )
        browser.press("escape")
        browser.wait("return document.activeElement.textContent === 'apple'")


class TestSize:
    def test_five_thousand_records_open_and_exist_only_where_they_are_seen(
        self, browser: Browser, folder: Folder
    ) -> None:
        names = [folder.image(f"{n}.png", (8, 8), colour=(n, 99, 255 - n)) for n in range(256)]
        answers = [answer(f"record {n}", f"answer {n} " * 20, images=[names[n % 256]]) for n in range(5001)]
        page, written = folder.report(folder.run("a", answers))
        assert len(written.pages) == 2
        browser.open(page)
        assert browser.text("#count") == "5,000 records"
        assert len(browser.texts(SHOWN)) < 40
        browser.run("scrollTo(0, document.body.scrollHeight)")
        browser.wait(
            "return [...document.querySelectorAll('#rows .id')].some(e => e.textContent === 'record 4999')"
        )
        assert len(browser.texts(SHOWN)) < 40
        browser.type("#search", "answer 4321")
        assert browser.texts(SHOWN) == ["record 4321"]
        browser.click("#pages .links a:last-child")
        browser.wait("return document.documentElement.dataset.ready === 'true'")
        assert browser.texts(SHOWN) == ["record 5000"]

    def test_nothing_is_wider_than_a_narrow_window(self, browser: Browser, folder: Folder) -> None:
        output = mixed(folder)
        for outputs in ((output,), (output, output)):
            browser.resize(360, 740)
            browser.open(folder.report(*outputs)[0])
            assert browser.run("return document.documentElement.scrollWidth") <= 360
            browser.click("#rows .id")
            assert browser.run("return document.getElementById('detail').scrollWidth") <= 360
