"""Each operation on a file, and each call of the model, fails once, in turn, in a small whole run: nothing is lost.

After each failure the command has ended in its own words, a second run resumes to what an undisturbed one writes,
and `check` finds nothing. Files are disturbed below everything that the package does, at the functions of `os` and at
`open`; what else is opened under that folder counts as well.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.once

PLUGIN = """
from pixano_vlm import load_image
from pixano_vlm.models import UsageInfo, VLMModel, VLMOutput, register_model

@register_model("looks")
class Looks(VLMModel):
    def load_model(self):
        self.model = True

    def predict(self, input):
        pixel = load_image(input.images[0]).image.getpixel((0, 0))
        return VLMOutput(
            generated_text=f"{input.prompt}: {pixel}",
            usage=UsageInfo(prompt_tokens=3, completion_tokens=2, total_tokens=5),
            generation_config={},
        )
"""
BY_PATH = ("open", "rename", "replace", "unlink", "remove", "mkdir", "link")
PARTS = tuple(f"pixano_vlm.{part}" for part in ("inputs", "outputs", "runs", "media", "models"))
"""The package's parts in which memory may run out."""
BY_DESCRIPTOR = ("pwrite", "write", "pread", "fsync", "ftruncate")

SLOW = pytest.mark.slow

FORMS: dict[str, list[str]] = {
    "lines": [],
    "sidecars": ["--sidecar", "txt"],
    "a table": ["-o", "out.csv"],
    "shards": ["-o", "out-{shard}.jsonl", "--shard-size", "3"],
}


class Faults:
    """Counts the operations under a folder, and lets one of them fail.

    Args:
        folder: Where they count.
        number: Which one fails, from 1; 0: none.
        kind: How: full disks fail in writing, broken ones in anything.
    """

    def __init__(self, folder: Path, number: int = 0, kind: int = errno.ENOSPC) -> None:
        self.folder = str(folder)
        self.number = number
        self.kind = kind
        self.seen: list[str] = []

    def at(self, name: str, place: Any) -> None:
        if isinstance(place, int):
            try:
                place = Path(f"/proc/self/fd/{place}").readlink()
            except OSError:
                return
        if str(place).startswith(self.folder):
            self.seen.append(f"{name} {Path(str(place)).name}")
            if len(self.seen) == self.number:
                raise OSError(self.kind, os.strerror(self.kind), str(place))

    def around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(place: Any, *args: Any, **options: Any) -> Any:
            self.at(name, place)
            return real(place, *args, **options)

        return call

    @contextmanager
    def on(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patches:
            for name in (*BY_PATH, *BY_DESCRIPTOR):
                patches.setattr(os, name, self.around(name, getattr(os, name)))
            opened = self.around("open", io.open)
            patches.setattr(io, "open", opened)
            patches.setattr(builtins, "open", opened)
            yield


class Job:
    """The small whole run: four records, each about an image of its own."""

    def __init__(self, folder: Path, cli: Callable[..., Any], form: str) -> None:
        self.folder, self.cli, self.options = folder, cli, FORMS[form]
        folder.mkdir()
        (folder / "plugin.py").write_text(PLUGIN, encoding="utf-8")
        for number in range(4):
            Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(folder / f"{number}.png")
        lines = [
            {"id": f"r{n}", "prompt": f"question {n}", "images": [f"{n}.png"], "metadata": {"n": n}}
            for n in range(4)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "m.jsonl").write_text(text, encoding="utf-8")

    def run(self, monkeypatch: pytest.MonkeyPatch, *more: str) -> Any:
        with monkeypatch.context() as patches:
            patches.chdir(self.folder)
            return self.cli(
                "generate", "m.jsonl", "--model", "looks", "--plugin", "plugin.py", *self.options, *more
            )

    def check(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """The exit code of `check` on what the run has made."""
        (journal,) = self.folder.glob("*.journal")
        with monkeypatch.context() as patches:
            patches.chdir(self.folder)
            return int(self.cli("check", journal.name.removesuffix(".journal")).code)

    def results(self) -> dict[str, bytes]:
        """What the run has made, by name; not its bookkeeping, in which times are."""
        return {
            file.name: file.read_bytes()
            for file in sorted(self.folder.iterdir())
            # Where it could not even remove a file of its own, that one stays.
            if file.suffix in {".jsonl", ".csv", ".txt"} and file.name != "m.jsonl" and file.name[0] != "."
        }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "kind", [pytest.param(errno.EIO, id="broken"), pytest.param(errno.ENOSPC, id="full", marks=SLOW)]
)
def test_any_one_operation_on_files_may_fail(
    kind: int, form: str, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = Job(tmp_path / "calm", cli, form)
    faults = Faults(calm.folder)
    with faults.on(monkeypatch):
        assert calm.run(monkeypatch).code == 0
    expected, operations = calm.results(), faults.seen
    assert len(operations) > 20
    for number in range(1, len(operations) + 1):
        job = Job(tmp_path / f"n{number}", cli, form)
        faults = Faults(job.folder, number, kind)
        with faults.on(monkeypatch):
            ran = job.run(monkeypatch)
        told = f"operation {number} of {len(operations)}, {faults.seen[number - 1 : number]}: {ran.code} {ran.err}"
        assert "Traceback" not in ran.err, told
        assert ran.code in (0, 1, 2, 3), told
        again = job.run(monkeypatch, "--resume", "--retry-failed")
        assert again.code == 0, told + again.err
        assert job.results() == expected, told
        assert job.check(monkeypatch) == 0, told


class Shortage:
    """Lets memory run out as one of the calls of the package's own functions begins.

    Args:
        number: Which one, from 1; 0: none.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.calls = 0
        self.where = ""

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or not frame.f_globals.get("__name__", "").startswith(PARTS):
            return
        self.calls += 1
        if self.calls == self.number:
            self.where = f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}"
            raise MemoryError

    @contextmanager
    def on(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(before)


@pytest.mark.parametrize("tried", [30, pytest.param(3_000, marks=SLOW)])
def test_memory_may_run_out_in_any_one_call(
    tried: int, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = Job(tmp_path / "calm", cli, "sidecars")
    shortage = Shortage()
    with shortage.on():
        assert calm.run(monkeypatch).code == 0
    expected, calls = calm.results(), shortage.calls
    assert calls > 500
    for number in sorted(random.Random(tried).sample(range(1, calls + 1), min(tried, calls))):
        job = Job(tmp_path / f"n{number}", cli, "sidecars")
        shortage = Shortage(number)
        with shortage.on():
            ran = job.run(monkeypatch)
        told = f"call {number} of {calls}, {shortage.where}: {ran.code} {ran.err}"
        assert "Traceback" not in ran.err, told
        again = job.run(monkeypatch, "--resume", "--retry-failed")
        assert again.code == 0, told + again.err
        assert job.results() == expected, told
        assert job.check(monkeypatch) == 0, told
