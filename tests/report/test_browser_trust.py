"""Trust in Chromium: confidence, right and wrong, the threshold, labels, samples; on desktop and telephone widths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.report.browser import Browser
from tests.report.runs import Folder, answer
from tests.report.test_page import HOSTILE

from pixano_vlm.report import TruthOptions

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("_statistics")]

SHOWN = "#rows .row .id"


@pytest.fixture
def _statistics() -> None:
    for module in ("numpy", "scipy", "sklearn"):
        pytest.importorskip(module)


def sure(number: int, *, right: bool, confidence: float, **values: Any) -> dict[str, Any]:
    text = "cat" if right else "dog"
    return answer(str(number), text, confidence=confidence, metadata={"truth": "cat"}, **values)


def twenty() -> list[dict[str, Any]]:
    """The surer half is right, of the other half every second one."""
    return [sure(n, right=n > 10 or n % 2 == 0, confidence=n / 20) for n in range(1, 21)]


def judged(folder: Folder, *outputs: Path) -> Path:
    return folder.report(*outputs, truth=TruthOptions("truth", metric="exact"))[0]


def test_records_are_sorted_and_filtered_by_confidence(browser: Browser, folder: Folder) -> None:
    browser.open(folder.report(folder.run("a", [*twenty(), answer("none")]))[0])
    browser.click('[data-sort="confidence-0"]')
    assert browser.texts(SHOWN)[:3] == ["1", "2", "3"]
    browser.click('[data-sort="confidence-0"]')
    assert browser.texts(SHOWN)[:3] == ["20", "19", "18"]
    browser.choose("#filter-confidence", "below 0.5")
    assert browser.text("#count") == "9 of 21 records"
    browser.choose("#filter-confidence", "unknown")
    assert browser.texts(SHOWN) == ["none"]
    # What is known of no record is not offered.
    assert browser.run("return document.getElementById('filter-right')") is None
    assert browser.run("return document.getElementById('trust').hidden")
    assert browser.complaints() == []


def test_right_and_wrong_are_marked_and_filtered(browser: Browser, folder: Folder) -> None:
    browser.open(judged(folder, folder.run("a", [*twenty(), answer("none")])))
    browser.choose("#filter-right", "wrong")
    assert browser.texts(SHOWN) == ["1", "3", "5", "7", "9"]
    assert set(browser.texts("#rows .badge.bad")) == {"wrong"}
    browser.choose("#filter-right", "unknown")
    assert browser.texts(SHOWN) == ["none"]
    tiles = dict(zip(browser.texts(".tile dt"), browser.texts(".tile dd"), strict=True))
    assert tiles["Right"] == "75\u00a0%of 20"
    assert browser.complaints() == []


def test_a_threshold_says_how_many_are_right_from_it_on_and_filters(browser: Browser, folder: Folder) -> None:
    browser.open(judged(folder, folder.run("a", twenty())))
    assert browser.text("#threshold-said").startswith(
        "confidence from 0.05000: 20 of 20 answers (100\u00a0%), 75\u00a0% of them"
    )
    browser.run(
        "const slider = document.getElementById('threshold');"
        "slider.value = 9; slider.dispatchEvent(new Event('input'))"
    )
    assert browser.text("#threshold-said").startswith(
        "confidence from 0.5500: 10 of 20 answers (50\u00a0%), 100\u00a0% of them"
    )
    browser.click('[data-side="below"]')
    assert browser.text("#count") == "10 of 20 records"
    assert browser.texts(SHOWN)[:3] == ["1", "2", "3"]
    assert browser.run("return document.querySelector('[data-side=below]').ariaPressed") == "true"
    browser.click('[data-side="from"]')
    assert browser.text("#count") == "10 of 20 records"
    browser.click("#clear")
    assert browser.text("#count") == "20 records"
    assert browser.run("return document.querySelector('[data-side=from]').ariaPressed") == "false"


DRAG = """
    const edge = document.querySelector('.coverage .edge').getBoundingClientRect();
    return [edge.left, edge.top, edge.width, edge.height];
"""


@pytest.mark.parametrize("width", [1360, 390])
def test_the_threshold_is_dragged_on_the_curve(browser: Browser, folder: Folder, width: int) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser.resize(width, 900)
    browser.open(judged(folder, folder.run("a", twenty())))
    if width < 900:
        browser.click("#figures > summary")
    browser.run("document.querySelector('.coverage').scrollIntoView({block: 'center'})")
    drawing = browser.driver.find_element("css selector", ".coverage svg")
    _, _, across, _ = browser.run(DRAG)
    actions = ActionChains(browser.driver).move_to_element(drawing).click_and_hold()
    actions.move_by_offset(int(-across / 4), 3).release().perform()
    assert browser.text("#threshold-said").startswith(
        "confidence from 0.8000: 5 of 20 answers (25\u00a0%), 100\u00a0%"
    )
    place = browser.run(
        "return document.querySelector('.marker').getAttribute('cx') /"
        "document.querySelector('.coverage .edge').getAttribute('width')"
    )
    assert place == pytest.approx(0.25)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints() == []


def test_the_diagram_has_a_mark_for_each_confidence_at_its_share_of_right_answers(
    browser: Browser, folder: Folder
) -> None:
    browser.open(judged(folder, folder.run("a", twenty())))
    titles = browser.texts(".reliability .bin title")
    assert len(titles) == 10
    assert titles[0].startswith("confidence 0 to 0.1: 0\u00a0% of 1 right")
    assert titles[-1].startswith("confidence 0.9 to 1: 100\u00a0% of 3 right")
    heights = browser.run(
        "return [...document.querySelectorAll('.reliability .bin circle')].map((mark) => +mark.getAttribute('cy'))"
    )
    assert heights[0] == 200
    assert heights[-1] == 0


def test_a_comparison_marks_what_became_right_or_wrong(browser: Browser, folder: Folder) -> None:
    before = folder.run(
        "a",
        [
            sure(1, right=True, confidence=0.9),
            sure(2, right=False, confidence=0.4),
            sure(3, right=True, confidence=0.8),
        ],
    )
    after = folder.run(
        "b",
        [
            sure(1, right=False, confidence=0.5),
            sure(2, right=True, confidence=0.7),
            sure(3, right=True, confidence=0.9),
        ],
    )
    browser.open(judged(folder, before, after))
    tiles = dict(zip(browser.texts(".tile dt"), browser.texts(".tile dd"), strict=True))
    assert (tiles["Became right"], tiles["Became wrong"]) == ("1", "1")
    browser.choose("#filter-change", "became wrong")
    assert browser.texts(SHOWN) == ["1"]
    assert "became wrong" in browser.texts("#rows .badge.bad")
    browser.choose("#filter-change", "became right")
    assert browser.texts(SHOWN) == ["2"]
    assert len(browser.texts("#threshold-said span")) == 2
    assert len(browser.texts(".curve")) == 2
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [1360, 390])
def test_labels_have_bars_and_hostile_ones_are_text(browser: Browser, folder: Folder, width: int) -> None:
    labels = {"cat": 0.6, HOSTILE: 0.3, **{f"label {number}": 0.1 / 14 for number in range(14)}}
    browser.resize(width, 900)
    line = answer("1", "cat", confidence=0.6, probabilities=labels, metadata={"truth": "cat"})
    browser.open(judged(folder, folder.run("a", [line])), "#record=1")
    names = browser.texts("#detail .label-name")
    assert names[:2] == ["cattruth", HOSTILE]
    assert len(names) == 16
    assert browser.text("#detail .labels-of summary") == "4 more"
    widths = browser.run(
        "return [...document.querySelectorAll('#detail .label-bars .bar')].slice(0, 2)"
        ".map((bar) => bar.getBoundingClientRect().width)"
    )
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.03)
    assert browser.texts("#detail .label-bars .share")[:2] == ["60.0 %", "30.0 %"]
    assert browser.run("return document.querySelectorAll('#detail script, #detail [onerror]').length") == 0
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints() == []


def test_samples_say_which_agree_and_hostile_ones_are_text(browser: Browser, folder: Folder) -> None:
    samples = [
        {"generated_text": text, "confidence": share}
        for text, share in (("Cat.", 0.9), ("a cat", 0.8), (HOSTILE, 0.1))
    ]
    browser.open(
        folder.report(folder.run("a", [answer("1", "a cat", samples=samples, agreement=0.666667)]))[0],
        "#record=1",
    )
    assert browser.text("#detail .samples-of h4") == "3 samples, 2 agree (66.7\u00a0%)"
    assert browser.texts("#detail .samples .badge") == ["agrees", "agrees", "differs"]
    assert browser.texts("#detail .samples .said")[2] == HOSTILE
    assert browser.run("return document.querySelectorAll('#detail script, #detail [onerror]').length") == 0
    assert browser.complaints() == []


def test_a_hostile_truth_is_text_and_searched(browser: Browser, folder: Folder) -> None:
    lines = [answer("1", "x", metadata={"truth": HOSTILE}), answer("2", "y", metadata={"truth": "plain"})]
    browser.open(judged(folder, folder.run("a", lines)), "#record=1")
    assert browser.text("#detail .truth") == HOSTILE
    browser.press("escape")
    browser.type("#search", "plain")
    assert browser.texts(SHOWN) == ["2"]


def test_on_a_telephone_confidence_and_truth_are_badges(browser: Browser, folder: Folder) -> None:
    browser.resize(390, 780)
    browser.open(judged(folder, folder.run("a", twenty())))
    badges = browser.run(
        "return [...document.querySelectorAll('#rows .row:first-child .badge')]"
        ".filter((badge) => badge.getClientRects().length).map((badge) => badge.textContent)"
    )
    assert "wrong" in badges
    assert "sure 0.05" in badges
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
