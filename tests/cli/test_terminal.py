"""What a person sees on a terminal while a run is on its way."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.terminal import Process, terminal

PLUGIN = str(Path(__file__).parent / "plugin.py")
SLOW_START = ("--model", "slow-start", "--plugin", PLUGIN)
COUNT = 500


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`photos` with 500 images, and a CSV and a JSONL file with as many records."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(COUNT):
        (photos / f"{number:03}.jpg").touch()
    with Path("m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt"], *([f"two\nlines {n}"] for n in range(COUNT))])
    Path("m.jsonl").write_text("".join(json.dumps({"prompt": f"{n}"}) + "\n" for n in range(COUNT)))
    return photos


@pytest.mark.parametrize(
    ("args", "count"),
    [
        (["photos", "--prompt", "{name}?"], COUNT),
        (["photos/*.jpg", "--prompt", "{name}?"], COUNT),
        ([f"photos/{n:03}.jpg" for n in range(40)] + ["--prompt", "{name}?"], 40),
        (["m.csv"], COUNT),
        (["m.jsonl"], COUNT),
        (["m.jsonl", "--limit", "30"], 30),
    ],
    ids=["folder", "glob", "names", "csv", "jsonl", "limit"],
)
def test_the_total_and_the_time_left_are_shown_and_nothing_else_comes_between(
    cli: Callable[..., Any], folder: Path, args: list[str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal() as (screen, file):
        monkeypatch.setattr(sys, "stderr", file)
        assert cli("generate", *args, *SLOW_START, "-o", "out.jsonl").code == 0
        file.flush()
    lines = screen.lines
    live = [state for state in screen.states if f" of {count} done" in state]
    assert live, screen.states
    assert any(re.search(r"\d:\d\d left", state) for state in live), live
    assert f"{count} of {count} done" in live[-1]
    # The live line is gone at the end, and only the summary is there.
    assert not any("done" in line or "..." in line for line in lines)
    phases = ("starting ...", "reading ", "loading slow-start ...")
    before = [state for state in screen.states[: screen.states.index(live[0])] if state.strip()]
    assert all(state.startswith(phases) or " of " in state or " done" in state for state in before), before


def test_something_is_on_the_screen_before_torch_is_imported(tmp_path: Path) -> None:
    """Importing it takes seconds: here it never ends."""
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(600)\n")
    (tmp_path / "m.jsonl").write_text('{"prompt": "x"}\n')
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = Process("generate", str(tmp_path / "m.jsonl"), "--model", "shapes", PYTHONPATH=path)
    try:
        assert process.wait_for("starting ...")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.finish()


def test_on_a_narrow_terminal_the_tally_stays_on_one_line(
    cli: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with terminal() as (screen, file):
        monkeypatch.setattr(sys, "stderr", file)
        ran = cli("generate", "m.jsonl", *SLOW_START, "-o", "out.jsonl")
        file.flush()
    assert ran.code == 0
    assert not any("done" in line for line in screen.lines), "a line that was wrapped is not cleared whole"
