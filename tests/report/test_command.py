"""`pixano-vlm report`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.runs import Folder, answer


def test_it_writes_the_page_and_prints_its_name(cli: Callable[..., Any], folder: Folder) -> None:
    asked = [{"prompt": "x", "images": [folder.picture("a.png")]}]
    page = folder.path / "page.html"
    ran = cli("report", folder.run("a", [answer("1")], asked), "-o", page, "--title", "My <page>")
    assert (ran.code, ran.out, ran.err) == (0, f"{page}\n", "")
    assert "<title>My &lt;page&gt;</title>" in page.read_text("utf-8")


def test_what_is_missing_is_told_with_the_flag_that_finds_it(cli: Callable[..., Any], folder: Folder) -> None:
    output = folder.run("a", [answer("1", images=["gone.png"])])
    page = folder.path / "page.html"
    ran = cli("report", output, "-o", page)
    assert ran.code == 0
    assert "1 of 1 pictures" in ran.err
    assert "--images" in ran.err
    assert "--manifest" in ran.err
    assert cli("report", output, "-o", page, "--quiet").err == ""


def test_a_wrong_file_is_one_message_and_exit_2(cli: Callable[..., Any], folder: Folder) -> None:
    ran = cli("report", folder.path / "nothing.jsonl")
    assert ran.code == 2
    assert "there is no output" in ran.err
    assert "Traceback" not in ran.err
    ran = cli("report", folder.run("a", [answer("1")]), "-o", folder.path)
    assert ran.code == 2
    assert "is a folder" in ran.err
