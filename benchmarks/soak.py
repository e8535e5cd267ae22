"""One process that runs the command over and over, with kills, edits and resumes: does anything of it grow?

    python -m benchmarks.soak --minutes 45

Each round edits the manifest, has the command killed in a process of its own, leaves a run of this process in the
middle, resumes it to its end by the command line, checks it (`pixano-vlm check`), and compares it with an undisturbed
run. Rounds alternate between a model class that answers at once and the embedded model. Resident memory, open files
and threads of this process are sampled after each round; it ends with exit code 1 where one of them grew. Linux only:
it reads /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pixano_vlm.cli import app
from pixano_vlm.cli.errors import run_app
from pixano_vlm.models.registry import CLASSES
from pixano_vlm.runs.generate import generate

__all__ = ["Sample", "growth", "main"]

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "examples" / "shapes" / "images"
PLUGIN = ROOT / "examples" / "custom_model.py"
WARM_UP = 0.1
"""Share of the time after which growth counts: until then imports and caches fill."""
GROWTH_MIB = 24.0
"""By so much resident memory may be above where it started: allocators keep what they once had."""
COLOURS = ("red", "green", "blue", "black", "white")


@dataclass(frozen=True, slots=True)
class Sample:
    """What this process holds at one moment."""

    seconds: float
    rounds: int
    resident_mib: float
    files: int
    threads: int


def sample(started: float, rounds: int) -> Sample:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    files, threads = (len(list(Path("/proc/self", name).iterdir())) for name in ("fd", "task"))
    return Sample(round(time.monotonic() - started, 1), rounds, round(resident, 1), files, threads)


def growth(samples: Sequence[Sample]) -> list[str]:
    """What grew between the first and the last third of the samples, in words.

    The lowest of each third is compared: a moment at which something is open is not growth.
    """
    third = max(1, len(samples) // 3)
    first, last = samples[:third], samples[-third:]
    found = []
    for name, allowed in (("resident_mib", GROWTH_MIB), ("files", 0), ("threads", 0)):
        was = min(getattr(one, name) for one in first)
        is_now = min(getattr(one, name) for one in last)
        if is_now > was + allowed:
            found.append(f"{name} was {was:g}, and is {is_now:g}")
    return found


def answers(output: Path) -> list[dict[str, Any]]:
    """The lines of an output, without what hangs on which records were computed together: the last decimals."""
    lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "confidence"} for line in lines]


class Soak:
    """Rounds of one model in one folder.

    Args:
        folder: Where manifest, images and outputs are.
        model: The model's name, and the flags that go with it.
        records: How many the manifest begins with.
        rng: Decides everything.
    """

    def __init__(self, folder: Path, model: Sequence[str], records: int, rng: random.Random) -> None:
        self.folder, self.model, self.rng = folder, list(model), rng
        self.manifest, self.output = folder / "manifest.jsonl", folder / "answers.jsonl"
        folder.mkdir()
        self.images = []
        for source in sorted(IMAGES.glob("*.jpg"))[:24]:
            shutil.copy(source, folder / source.name)
            self.images.append(source.name)
        self.lines = [self.line(number) for number in range(records)]
        self.next = records

    def line(self, number: int) -> dict[str, Any]:
        """A record."""
        image = self.rng.choice([*self.images, "missing.jpg"] if number % 16 == 7 else self.images)
        prompt = f"What is {self.rng.choice(COLOURS)} in image {number}?"
        return {"id": f"r{number}", "prompt": prompt, "images": [image]}

    def edit(self) -> None:
        """Changes some lines, takes one away, adds one, and replaces an image."""
        for _ in range(self.rng.randint(0, 2)):
            self.rng.choice(self.lines)["prompt"] = f"And {self.rng.choice(COLOURS)}, {self.rng.random()}?"
        del self.lines[self.rng.randrange(len(self.lines))]
        self.lines.insert(self.rng.randrange(len(self.lines)), self.line(self.next))
        self.next += 1
        first, second = self.rng.sample(self.images, 2)
        (self.folder / first).write_bytes((self.folder / second).read_bytes())
        self.manifest.write_text("".join(json.dumps(line) + "\n" for line in self.lines), "utf-8")

    def arguments(self, output: Path, *flags: str) -> list[str]:
        """Those of a run by the command line."""
        return [
            "generate", str(self.manifest), *self.model, "-o", str(output), "--temperature", "0",
            "--max-new-tokens", "12", "--quiet", *flags,
        ]  # fmt: skip

    def killed(self) -> None:
        """The command in a process of its own, killed at a random moment from its first answer on."""
        before = self.output.stat().st_size if self.output.exists() else 0
        command = [sys.executable, "-m", "pixano_vlm", *self.arguments(self.output, "--resume", "--force")]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and (self.output.exists() and self.output.stat().st_size) == before:
            time.sleep(0.01)
        time.sleep(self.rng.uniform(0, 0.05))
        process.kill()
        process.wait()

    def left(self) -> None:
        """A run of the library that nobody takes to its end."""
        run = generate(
            self.manifest, self.model[1], output=self.output, resume=True, force=True, temperature=0,
            max_new_tokens=12,
        )  # fmt: skip
        for count, _ in enumerate(run):
            if count >= self.rng.randint(0, 5):
                break

    def command(self, *arguments: str) -> int:
        """The command line in this process; its exit code."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = run_app(app, list(arguments))
        if code not in {0, 1} or "Traceback" in said.getvalue():
            raise SystemExit(f"pixano-vlm {' '.join(arguments)}: exit code {code}: {said.getvalue()}")
        return code

    def round(self, *, with_kill: bool) -> None:
        """Everything once; ends the program where the output is not that of an undisturbed run."""
        self.edit()
        if with_kill:
            self.killed()
        self.left()
        self.command(*self.arguments(self.output, "--resume", "--force"))
        if self.command("check", str(self.output)):
            raise SystemExit(f"`check` found something in {self.output}")
        fresh = self.folder / "fresh.jsonl"
        self.command(*self.arguments(fresh, "--overwrite"))
        if answers(self.output) != answers(fresh):
            raise SystemExit(f"{self.output} is not what an undisturbed run wrote to {fresh}")


def main() -> int:
    """Runs it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--records", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--instant-only", action="store_true", help="Leave the embedded model out.")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    instant = ["--model", "my-vlm", "--plugin", str(PLUGIN)]
    soaks = [Soak(folder / "instant", instant, options.records, rng)]
    if not options.instant_only:
        soaks.append(Soak(folder / "shapes", ["--model", "shapes"], options.records // 2, rng))
    # The library's own call knows the class once the command has imported it.
    soaks[0].edit()
    soaks[0].command(*soaks[0].arguments(soaks[0].output, "--overwrite"))
    assert "my-vlm" in CLASSES.names()
    started, samples, rounds = time.monotonic(), [], 0
    while True:
        soaks[rounds % len(soaks)].round(with_kill=rounds // len(soaks) % 2 == 0)
        rounds += 1
        seen = sample(started, rounds)
        is_warm = seen.seconds >= WARM_UP * options.minutes * 60
        if is_warm and rounds % len(soaks) == 0:
            samples.append(seen)
        if len(samples) == 1 and samples[0] is seen:
            print("start ", json.dumps(asdict(seen)), flush=True)
        if len(samples) >= 3 and seen.seconds >= options.minutes * 60:
            break
    print("middle", json.dumps(asdict(samples[len(samples) // 2])))
    print("end   ", json.dumps(asdict(samples[-1])))
    grown = growth(samples)
    print(json.dumps({"rounds": rounds, "minutes": round(seen.seconds / 60, 1), "grew": grown}))
    shutil.rmtree(folder)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
