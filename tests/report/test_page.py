"""What the page holds, without a browser: images once, text as text, no way to the network, numbered pages."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.report.runs import Folder, answer

from pixano_vlm.errors import OutputError, UsageError
from pixano_vlm.report import ReportOptions, write_report
from pixano_vlm.report.images import PageImages

Data = Callable[[Path], dict[str, Any]]
REPORT = Path(__file__).parents[2] / "src" / "pixano_vlm" / "report"
HOSTILE = '</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> & "quoted" \u2028 {{script}}'


def thumbnails(page: Path) -> list[str]:
    return re.findall(r'<script type="text/plain" id="thumbnail-\d+">(.*?)</script>', page.read_text("utf-8"))


def decoded(url: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))


class TestImages:
    def test_one_image_of_four_records_is_in_the_page_once(self, folder: Folder, data_of: Data) -> None:
        folder.image("a.png")
        (folder.path / "copy.png").write_bytes((folder.path / "a.png").read_bytes())
        names = ["a.png", "a.png", "./a.png", "copy.png"]
        output = folder.run(
            "a", [answer(str(n)) for n in range(1, 5)], [{"prompt": "x", "images": [n]} for n in names]
        )
        page, _ = folder.report(output)
        assert len(thumbnails(page)) == 1
        data = data_of(page)
        shown = [data["images"][record["images"][0]]["thumbnail"] for record in data["records"]]
        assert shown == [0, 0, 0, 0]

    def test_a_thumbnail_is_upright_and_of_the_size_asked_for(self, folder: Folder, data_of: Data) -> None:
        turned = Image.Exif()
        turned[0x0112] = 6
        folder.image("a.jpg", (400, 200), exif=turned)
        output = folder.run("a", [answer("1")], [{"prompt": "x", "images": ["a.jpg"]}])
        page, _ = folder.report(output, thumbnail_size=100)
        (url,) = thumbnails(page)
        assert decoded(url).size == (50, 100)
        assert data_of(page)["images"][0]["size"] == [200, 400]

    def test_data_urls_come_from_the_manifest_and_are_shown_shortened(
        self, folder: Folder, data_of: Data
    ) -> None:
        file = BytesIO()
        Image.new("RGB", (8, 8), "red").save(file, "PNG")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        output = folder.run("a", [answer("1", images=[url[:40]])], [{"prompt": "x", "images": [url]}])
        page, written = folder.report(output)
        assert written.missing == 0
        (image,) = data_of(page)["images"]
        assert image["name"].endswith("characters)")
        assert "link" not in image

    def test_images_written_out_in_a_manifest_are_let_go_once_their_thumbnails_are_made(
        self, folder: Folder
    ) -> None:
        page_images = PageImages(32, folder.path / "page.html")
        shown = 0
        tracemalloc.start()
        for number in range(20):
            file = BytesIO()
            Image.effect_noise((200, 200), 60 + number).save(file, "PNG")
            url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
            assert page_images.add(url, folder.path) == page_images.add(url, folder.path) == number
            shown += len(url)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert held < shown / 4
        images, thumbnails = page_images.load()
        assert [image.size for image in images] == [(200, 200)] * 20
        assert len(thumbnails) == 20

    def test_a_missing_image_says_why_by_the_name_it_was_given(self, folder: Folder, data_of: Data) -> None:
        (folder.path / "b.png").write_text("no image")
        asked = [{"prompt": "x", "images": ["gone.png", "b.png", "https://example.org/c.png"]}]
        page, written = folder.report(folder.run("a", [answer("1")], asked))
        assert (written.images, written.missing) == (3, 3)
        gone, broken, web = data_of(page)["images"]
        assert gone["missing"] == "Cannot be read: No such file or directory."
        assert "not an image" in broken["missing"]
        assert "--fetch-urls" in web["missing"]
        assert str(folder.path) not in page.read_text("utf-8")

    def test_links_to_originals_are_relative_and_never_a_scheme(self, folder: Folder, data_of: Data) -> None:
        folder.image("sub/a b#?.png")
        names = ["sub/a b#?.png", "javascript:alert(1)", "https://example.org/c.png"]
        page, _ = folder.report(folder.run("a", [answer("1")], [{"prompt": "x", "images": names}]))
        links = [image.get("link") for image in data_of(page)["images"]]
        assert links == ["./sub/a%20b%23%3F.png", "./javascript%3Aalert%281%29", "https://example.org/c.png"]

    def test_images_says_where_images_are(self, folder: Folder) -> None:
        folder.image("elsewhere/a.png")
        output = folder.run("a", [answer("1")], [{"prompt": "x", "images": ["a.png"]}])
        assert folder.report(output)[1].missing == 1
        assert folder.report(output, images=folder.path / "elsewhere")[1].missing == 0


class TestText:
    def test_nothing_of_users_ends_the_data_or_begins_an_element(self, folder: Folder, data_of: Data) -> None:
        line = answer(HOSTILE, HOSTILE, metadata={HOSTILE: HOSTILE}, model=HOSTILE, images=[HOSTILE])
        output = folder.run(
            "a", [line], [{"id": HOSTILE, "prompt": HOSTILE, "images": [HOSTILE]}], model={"class": HOSTILE}
        )
        page, _ = folder.report(output, title=HOSTILE)
        text = page.read_text("utf-8")
        assert "alert(1)</script>" not in text
        assert "<img" not in text
        assert text.count("<script") == text.count("</script>") == 2
        (record,) = data_of(page)["records"]
        assert record["id"] == record["prompt"] == record["answers"][0]["text"] == HOSTILE

    def test_half_a_surrogate_pair_is_written_as_json_writes_it(self, folder: Folder, data_of: Data) -> None:
        page, _ = folder.report(folder.run("a", [answer("1", "x\ud800y\0")]))
        assert data_of(page)["records"][0]["answers"][0]["text"] == "x\ud800y\0"

    def test_the_script_makes_no_html_of_text(self) -> None:
        for file in (REPORT / "assets").glob("*.js"):
            code = file.read_text("utf-8")
            for way in (
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
                "Function(",
                "srcdoc",
            ):
                assert way not in code, f"{file.name}: {way}"


class TestPolicy:
    def test_the_policy_forbids_the_network_and_every_script_but_ours(self, folder: Folder) -> None:
        page, _ = folder.report(folder.run("a", [answer("1")]))
        text = page.read_text("utf-8")
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["img-src"] == "data: 'self'"
        for element, rule in (("script", "script-src"), ("style", "style-src")):
            (inside,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
            assert rules[rule] == f"'sha256-{digest}'"

    def test_the_page_names_no_other_file(self, folder: Folder) -> None:
        page, _ = folder.report(folder.run("a", [answer("1")]))
        named = re.findall(
            r'(?:src|href|url)\s*[=(]\s*"?([^"\s)>]+)', page.read_text("utf-8").split("<script")[0]
        )
        assert all(name.startswith(("data:", "#")) for name in named)


class TestMarks:
    """Whose marks a reader's marks are: the key under which the browser keeps them."""

    def test_a_page_that_is_made_again_has_the_same_key(self, folder: Folder, data_of: Data) -> None:
        output = folder.run("a", [answer("1")])
        first = data_of(folder.report(output)[0])["marks"]
        folder.run("a", [answer("1"), answer("2")])
        elsewhere = folder.path / "elsewhere.html"
        write_report(ReportOptions(outputs=(output,), page=elsewhere, title="Other"))
        assert data_of(elsewhere)["marks"] == first

    def test_other_outputs_have_another_and_it_names_no_folder(self, folder: Folder, data_of: Data) -> None:
        (folder.path / "sub").mkdir()
        one, other = folder.run("a", [answer("1")]), folder.run("sub/a", [answer("1")])
        keys = [data_of(folder.report(*outputs)[0])["marks"] for outputs in ((one,), (other,), (one, other))]
        assert len(set(keys)) == 3
        assert str(folder.path) not in folder.report(one)[0].read_text("utf-8")

    def test_of_records_with_one_id_the_page_knows_which_is_which(
        self, folder: Folder, data_of: Data
    ) -> None:
        page, _ = folder.report(folder.run("a", [answer("1"), answer("1", None), answer("2")]))
        assert [record.get("occurrence") for record in data_of(page)["records"]] == [None, 1, None]


class TestColours:
    STYLE = (REPORT / "assets" / "page.css").read_text("utf-8")
    PAIRS = (
        *((ink, ground) for ink in ("text", "muted") for ground in ("ground", "surface", "raised", "stage")),
        *((ink, ground) for ink in ("accent", "bad", "warn") for ground in ("ground", "surface", "raised")),
        ("accent", "accent-soft"), ("bad", "bad-soft"), ("warn", "warn-soft"), ("good", "good-soft"),
        ("text", "accent-soft"), ("muted", "accent-soft"), ("text", "gone"), ("text", "new"), ("text", "found"),
        ("surface", "run-0"), ("surface", "run-1"), ("surface", "accent"),
        ("json-text", "raised"), ("json-value", "raised"), ("bad", "stage"), ("accent", "stage"),
    )  # fmt: skip

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_can_be_read_in_both_schemes(self, scheme: str) -> None:
        """The contrast of WCAG 2, level AA: 4.5 to 1."""
        light, dark = re.findall(r":root \{(.*?)\}", self.STYLE, re.DOTALL)
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light + (dark if scheme == "dark" else "")))
        low = {pair: c for pair in self.PAIRS if (c := contrast(colours[pair[0]], colours[pair[1]])) < 4.5}
        assert low == {}


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


class TestPages:
    def test_more_records_than_a_page_takes_continue_in_numbered_pages(
        self, folder: Folder, data_of: Data
    ) -> None:
        output = folder.run("a", [answer(str(n)) for n in range(1, 8)])
        _, written = folder.report(output, records_per_page=3)
        assert [page.name for page in written.pages] == ["report.html", "report-2.html", "report-3.html"]
        pages = [data_of(page) for page in written.pages]
        assert [[r["number"] for r in data["records"]] for data in pages] == [[1, 2, 3], [4, 5, 6], [7]]
        for place, data in enumerate(pages):
            assert (data["page"], data["total"]) == (place, 7)
            assert data["pages"] == ["report.html", "report-2.html", "report-3.html"]
            assert data["runs"][0]["records"] == 7

    def test_an_output_without_records_is_a_page_without_records(self, folder: Folder, data_of: Data) -> None:
        page, written = folder.report(folder.run("a", []))
        assert written.records == 0
        assert data_of(page)["records"] == []

    def test_an_earlier_report_is_replaced_and_nothing_else_is(self, folder: Folder) -> None:
        output = folder.run("a", [answer("1")])
        folder.report(output)
        page, _ = folder.report(output)
        page.write_text("<html>my own page</html>")
        with pytest.raises(OutputError, match="not a report"):
            folder.report(output)
        before = output.read_bytes()
        with pytest.raises(OutputError, match="not a report"):
            write_report(ReportOptions(outputs=(output,), page=output))
        assert output.read_bytes() == before

    def test_no_page_is_written_when_a_later_one_has_no_room(self, folder: Folder) -> None:
        output = folder.run("a", [answer(str(n)) for n in range(4)])
        (folder.path / "report-2.html").write_text("my own page")
        with pytest.raises(OutputError, match="not a report"):
            folder.report(output, records_per_page=2)
        assert not (folder.path / "report.html").exists()

    def test_three_outputs_are_refused(self, folder: Folder) -> None:
        output = folder.run("a", [answer("1")])
        with pytest.raises(UsageError, match="compares two"):
            folder.report(output, output, output)


def test_the_report_needs_no_deep_learning_library() -> None:
    for file in REPORT.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in {"torch", "transformers"} for name in names), file.name
