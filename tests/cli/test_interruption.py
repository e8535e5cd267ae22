"""Ctrl-C and SIGTERM on a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes import FakeModel

from pixano_vlm.cli.interruption import Interruption
from pixano_vlm.cli.progress import Progress
from pixano_vlm.cli.run import Watched
from pixano_vlm.cli.shown import resume_command

pytestmark = pytest.mark.once

PLUGIN = Path(__file__).parent / "plugin.py"
RECORDS = 400


@pytest.fixture
def run(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of 400 records at 50 ms each, some of them done already."""
    lines = "".join(json.dumps({"prompt": f"wait {n}"}) + "\n" for n in range(RECORDS))
    (tmp_path / "manifest.jsonl").write_text(lines)
    command = [sys.executable, "-m", "pixano_vlm", "generate", "manifest.jsonl", "--model", "echo"]
    process = subprocess.Popen(
        [*command, "--plugin", str(PLUGIN)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    output = tmp_path / "manifest.outputs.jsonl"
    deadline = time.monotonic() + 60
    while not (output.exists() and output.read_text().count("\n") >= 3):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_in_good_order(
    run: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    """It exits with 130, says how to resume, and every line that was written is whole."""
    run.send_signal(number)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "hint: resume with: pixano-vlm generate manifest.jsonl --model echo" in err
    assert err.rstrip().endswith("--resume")
    assert "records ok" in err
    assert "Traceback" not in err
    lines = (tmp_path / "manifest.outputs.jsonl").read_text().splitlines()
    assert 3 <= len(lines) < RECORDS
    assert all(json.loads(line)["status"] == "ok" for line in lines)


def test_the_second_signal_ends_at_once() -> None:
    """Even when what is under way never ends."""
    program = """
import time
from pixano_vlm.cli.interruption import Interruption
with Interruption(lambda: print("first", flush=True)):
    print("ready", flush=True)
    while True:
        time.sleep(1)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "first\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    process.stdout.close()


def test_while_loading_the_first_one_is_enough() -> None:
    with Interruption(lambda: pytest.fail("nothing to end in good order")) as interruption:
        interruption.ends_at_once = True
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_run_ends_at_once_only_while_its_model_loads() -> None:
    with Interruption(lambda: None) as interruption:
        watched = Watched(Progress(quiet=True), interruption)
        assert not interruption.ends_at_once
        watched.loading("echo")
        assert interruption.ends_at_once
        watched.loaded(FakeModel())
        assert not interruption.ends_at_once


def test_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption(lambda: None):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_off_the_main_thread_signals_are_left_alone() -> None:
    """A test, or a server, may run the command in a thread: Python sets handlers in the main one only."""
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            with Interruption(lambda: None):
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (["generate", "a b.jsonl"], "pixano-vlm generate 'a b.jsonl' --resume"),
        (["generate", "a", "--overwrite"], "pixano-vlm generate a --resume"),
        (["generate", "a", "--resume"], "pixano-vlm generate a --resume"),
        (["generate", "a", "--retry-failed"], "pixano-vlm generate a --resume"),
    ],
)
def test_the_command_that_resumes(args: list[str], command: str) -> None:
    assert resume_command(args) == command
