"""The real command on the embedded model, killed at random moments and resumed, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "shapes"
RECORDS = 300
KILLS = int(os.environ.get("PIXANO_VLM_KILLS", "100"))


def write_manifest(folder: Path) -> Path:
    lines = [json.loads(line) for line in (EXAMPLE / "manifest.jsonl").read_text("utf-8").splitlines()]
    manifest = folder / "manifest.jsonl"
    with manifest.open("w", encoding="utf-8") as file:
        for i in range(RECORDS):
            line = dict(lines[i % len(lines)])
            line.update(
                id=f"{i}", images=[str(EXAMPLE / image) for image in line["images"]], max_new_tokens=24
            )
            if i % 50 == 49:
                line["images"] = ["missing.jpg"]
            file.write(json.dumps(line) + "\n")
    return manifest


def start(manifest: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "pixano_vlm",
        "generate",
        str(manifest),
        "--model",
        "shapes",
        "-o",
        str(output),
    ]
    return subprocess.Popen([*command, "--resume", "--temperature", "0", "--quiet"], stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> int:
    _, errors = process.communicate(timeout=600)
    assert b"Traceback" not in errors
    return process.returncode


def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(tmp_path: Path) -> None:
    manifest, whole, output = write_manifest(tmp_path), tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    started = time.monotonic()
    assert finish(start(manifest, whole)) == 1  # the missing pictures
    length = time.monotonic() - started
    rng = random.Random(20)
    kills = 0
    while kills < KILLS:
        process = start(manifest, output)
        try:
            code = process.wait(timeout=rng.uniform(0, length))
        except subprocess.TimeoutExpired:
            how = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            process.send_signal(how)
            code = finish(process)
            # 1: it came to its end by itself, just before the signal.
            assert (
                code in {1, -signal.SIGKILL} if how == signal.SIGKILL else code in {1, 130, -signal.SIGTERM}
            )
            kills += code != 1
        else:
            finish(process)
        if code == 1:
            assert output.read_bytes() == whole.read_bytes()
            for path in tmp_path.glob("killed.jsonl*"):
                path.unlink()
    if output.exists():
        assert finish(start(manifest, output)) == 1
        assert output.read_bytes() == whole.read_bytes()
