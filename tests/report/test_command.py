"""`pixano-vlm report`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.report.runs import Folder, answer


def test_it_writes_the_page_and_prints_its_name(cli: Callable[..., Any], folder: Folder) -> None:
    asked = [{"prompt": "x", "images": [folder.image("a.png")]}]
    page = folder.path / "page.html"
    ran = cli("report", folder.run("a", [answer("1")], asked), "-o", page, "--title", "My <page>")
    assert (ran.code, ran.out, ran.err) == (0, f"{page}\n", "")
    assert "<title>My &lt;page&gt;</title>" in page.read_text("utf-8")


def test_what_is_missing_is_told_with_the_flag_that_finds_it(cli: Callable[..., Any], folder: Folder) -> None:
    output = folder.run("a", [answer("1", images=["gone.png"])])
    page = folder.path / "page.html"
    ran = cli("report", output, "-o", page)
    assert ran.code == 0
    assert "1 of 1 images" in ran.err
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


def test_open_starts_the_readers_browser_with_the_page(folder: Folder) -> None:
    opened = folder.path / "opened.txt"
    browser = folder.path / "my browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> "{opened}"\n')
    browser.chmod(0o755)
    page = folder.path / "a page.html"
    output = folder.run("a", [answer("1")], [{"prompt": "x"}])
    ran = subprocess.run(
        [sys.executable, "-m", "pixano_vlm", "report", str(output), "-o", str(page), "--open"],
        env={**os.environ, "BROWSER": f"'{browser}' %s"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{page}\n", "")
    assert opened.read_text() == f"{page.as_uri()}\n"


def test_without_a_browser_open_says_what_to_do(
    cli: Callable[..., Any], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    page = folder.path / "page.html"
    ran = cli("report", folder.run("a", [answer("1")], [{"prompt": "x"}]), "-o", page, "--open")
    assert (ran.code, ran.out) == (0, f"{page}\n")
    assert str(page) in ran.err
    assert "BROWSER" in ran.err


def test_no_browser_is_started_unless_asked(
    cli: Callable[..., Any], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda url: pytest.fail("it was started"))
    assert cli("report", folder.run("a", [answer("1")]), "-o", folder.path / "page.html").code == 0
