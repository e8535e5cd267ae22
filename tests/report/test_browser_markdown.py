"""Markdown in Chromium: shown as it is meant to look on request, safely, and in time whatever the text."""

from __future__ import annotations

import pytest
from tests.report.browser import Browser
from tests.report.runs import Folder, answer

pytestmark = pytest.mark.browser

HTML = "return document.querySelector('#detail .markdown').innerHTML"


def rendered(browser: Browser, folder: Folder, text: str) -> str:
    """The elements that an answer becomes."""
    browser.open(folder.report(folder.run("a", [answer("1", text)]))[0], "#record=1")
    browser.click("#detail .as-markdown")
    return str(browser.run(HTML))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
        ("one  \ntwo\\\nthree", "<p>one<br>two<br>three</p>"),
        ("# A #\n### B *c*", '<h4 class="level-1">A</h4><h6 class="level-3">B <em>c</em></h6>'),
        ("#no\n\\# no", "<p>#no\n# no</p>"),
        ("*a* **b** ***c*** _d_ __e__ ~~f~~",
         "<p><em>a</em> <strong>b</strong> <em><strong>c</strong></em> <em>d</em> <strong>e</strong> <s>f</s></p>"),
        ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
        ("2 * 3 * 4, snake_case_name, a*, **b", "<p>2 * 3 * 4, snake_case_name, a*, **b</p>"),
        ("un*frigging*believable", "<p>un<em>frigging</em>believable</p>"),
        ("`a *b*` and ``c ` d`` and `e", "<p><code>a *b*</code> and <code>c ` d</code> and `e</p>"),
        ("- a\n- b\n  - c\n\n  d\n- e", "<ul><li>a</li><li>b<ul><li>c</li></ul><p>d</p></li><li>e</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("1. a\n   - b\n2. c", '<ol start="1"><li>a<ul><li>b</li></ul></li><li>c</li></ol>'),
        ("* a\n\n* b", "<ul><li>a</li><li>b</li></ul>"),
        ("text\n- a\ngoes on\n\nafter", "<p>text</p><ul><li>a\ngoes on</li></ul><p>after</p>"),
        ("> a\n> - b\n\nc", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote><p>c</p>"),
        ("```python\nif a < b:\n    *x*\n```\nend", "<pre><code>if a &lt; b:\n    *x*</code></pre><p>end</p>"),
        ("~~~\nnever ended", "<pre><code>never ended</code></pre>"),
        ("---\n***", "<hr><hr>"),
        ("| a | b |\n|:-:|--:|\n| 1 | x\\|y |\n| 2 |",
         '<div class="scrolls"><table><thead><tr><th class="middle">a</th><th class="end">b</th></tr></thead>'
         '<tbody><tr><td class="middle">1</td><td class="end">x|y</td></tr><tr><td class="middle">2</td></tr>'
         "</tbody></table></div>"),
        ("a | b\nc | d", "<p>a | b\nc | d</p>"),
        ("[see *it*](javascript:alert(1)) [x](http://a.b/c)",
         '<p>[see <em>it</em>](javascript:alert(1)) <span>x<span class="address"> (http://a.b/c)</span></span></p>'),
        ("![a cat](http://a.b/c.png)", '<p><span class="described">image: a cat</span></p>'),
        ("<b>x</b> &amp; <!-- y -->", "<p>&lt;b&gt;x&lt;/b&gt; &amp;amp; &lt;!-- y --&gt;</p>"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_text(browser: Browser, folder: Folder, text: str, html: str) -> None:
    assert rendered(browser, folder, text) == html
    assert browser.complaints() == []


def test_it_is_on_request_for_all_records_and_can_be_taken_back(browser: Browser, folder: Folder) -> None:
    browser.open(folder.report(folder.run("a", [answer("1", "**a**"), answer("2", "# b")]))[0], "#record=1")
    assert browser.text("#detail .answers .text") == "**a**"
    browser.press("m")
    assert browser.texts("#detail strong") == ["a"]
    browser.press("right")
    assert browser.texts("#detail .level-1") == ["b"]
    browser.press("m")
    assert browser.text("#detail .answers .text") == "# b"


def test_json_has_a_form_of_its_own(browser: Browser, folder: Folder) -> None:
    browser.open(folder.report(folder.run("a", [answer("1", '{"a": 1}', parsed={"a": 1})]))[0], "#record=1")
    browser.press("m")
    assert browser.texts("#detail .as-markdown, #detail .markdown") == []
    assert browser.texts("#detail .json .key") == ['"a"']


def test_of_two_outputs_both_are_shown_so(browser: Browser, folder: Folder) -> None:
    outputs = [folder.run(name, [answer("1", f"**{name}**")]) for name in ("one", "other")]
    browser.open(folder.report(*outputs)[0], "#record=1")
    browser.press("m")
    assert browser.texts("#detail .markdown strong") == ["one", "other"]


def test_words_that_are_searched_for_are_marked_in_it(browser: Browser, folder: Folder) -> None:
    browser.open(folder.report(folder.run("a", [answer("1", "a **red boat** and `boat`")]))[0])
    browser.type("#search", "boat")
    browser.click("#rows .id")
    browser.press("m")
    assert browser.texts("#detail .markdown mark") == ["boat", "boat"]


def test_markup_in_markdown_is_text(browser: Browser, folder: Folder) -> None:
    bad = "<img src=x onerror=\"document.title='bad'\"><script>document.title='bad'</script>"
    table, link = f"|{bad}|\n|-|\n|{bad}|", f"[{bad[:4]}](data:text/html,{bad[:4]})"
    text = f"# {bad}\n- {bad}\n\n> {bad}\n\n```\n{bad}\n```\n{link}\n\n{table}"
    html = rendered(browser, folder, text)
    assert "<img" not in html
    assert "<script" not in html
    assert "<a" not in html
    assert browser.run("return document.title") != "bad"
    assert browser.complaints() == []


@pytest.mark.parametrize(
    "piece",
    ["*", "**a ", "*a **b ", "_a_", "~~", "`", "` `` ", "[", "[a](", "![", "\\", "> ", "- ", "1. a\n ", "|", "|-|\n",
     "#", " ", "a*b_c", "```\n", "\n", "(", "<", "* * ", "a\n- b\n", "\t- ", "  \n  - a\n"],
)  # fmt: skip
def test_no_text_takes_long_or_nests_without_end(browser: Browser, folder: Folder, piece: str) -> None:
    """Were a step quadratic in the text, the browser would give the script up before it ended."""
    nested(browser, folder, (piece * 120_000)[:120_000])


@pytest.mark.parametrize(
    "text",
    ["*a " * 20_000 + "b* " * 20_000, "**a *" * 20_000 + "b* c** " * 20_000, "> - " * 30_000, "a `" * 60_000],
)
def test_what_is_opened_again_and_again_nests_a_few_times_only(
    browser: Browser, folder: Folder, text: str
) -> None:
    nested(browser, folder, text)


def nested(browser: Browser, folder: Folder, text: str) -> None:
    """Shows a text, and checks that its elements are few levels deep."""
    rendered(browser, folder, text)
    deepest = browser.run(
        "const depth = e => 1 + Math.max(0, ...Array.from(e.children).slice(0, 1000).map(depth));"
        "return depth(document.querySelector('#detail .markdown'))"
    )
    assert deepest < 60
    assert browser.complaints() == []
