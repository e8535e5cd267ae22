"""One history from a seed: a few records, several runs in trouble, edits between them, and a last run in peace.

What must hold is checked after every run, and at the end the output is compared with that of an undisturbed run.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from PIL import Image
from tests.fakes import PowerCut
from tests.simulate.asked import Content, Ledger
from tests.simulate.disk import SimulatedDisk
from tests.simulate.engines import ENGINES, PooledModel, Trouble, make_engine, prompt_of
from tests.simulate.server import WEATHERS
from tests.simulate.world import Violation, VirtualClock

from pixano_vlm.errors import GenerationError, ModelLoadError, OutputError, RunError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.models import GenerationSettings, VLMModel
from pixano_vlm.outputs.jsonl import journal_path
from pixano_vlm.records.result import Result
from pixano_vlm.runs.check import Checked, check_output
from pixano_vlm.runs.job import Job
from pixano_vlm.runs.open import OpenOptions, open_output

__all__ = ["History", "play"]

GREEDY = GenerationSettings(temperature=0, max_new_tokens=16)
OUT = Path("/nowhere/out.jsonl")
MEMORY = Path("/dev/shm")
IMAGES = 3
VARIANTS = 4


@cache
def workplace() -> Path:
    """This process's folder for manifests and images, in memory where there is such a place."""
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="simulate-", dir=MEMORY if MEMORY.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def png(variant: int) -> bytes:
    """The bytes of an image."""
    buffer = BytesIO()
    Image.new("RGB", (4, 4), (40 * variant, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def is_excused(error: Exception | None, trouble: Trouble) -> bool:
    """Whether a record may fail so in such trouble."""
    if not isinstance(error, GenerationError):
        return False
    if trouble.deaths:
        return "workers died with this record" in error.message
    return bool(trouble.weather) and "server" in error.message


def play(seed: int, log: Callable[[str], None] | None = None) -> int:
    """Plays the history of a seed; returns how many runs it had.

    Raises:
        Violation: When something that must never happen has happened.
    """
    history = History(seed, log or (lambda _: None))
    try:
        history.play()
    except Exception as error:
        raise Violation(f"seed {seed}, run {history.runs}: {type(error).__name__}: {error}") from error
    return history.runs


class History:
    """One history.

    Args:
        seed: Decides everything.
        log: Told what happens.
    """

    def __init__(self, seed: int, log: Callable[[str], None]) -> None:
        self.rng, self.log = random.Random(seed), log
        random.seed(seed)  # of the jitter between attempts
        self.clock = VirtualClock()
        self.disk = SimulatedDisk(self.clock, self.rng)
        self.ledger = Ledger(self.clock)
        self.kind = self.rng.choice(ENGINES)
        self.folder = workplace()
        self.manifest = self.folder / "m.jsonl"
        self.images: dict[str, int] = {}
        for number in range(IMAGES):
            self.put_image(f"i{number}.png", self.rng.randint(0, VARIANTS))
        self.version = 0
        self.lines: list[Any] = [self.line() for _ in range(self.rng.randint(1, 9))]
        self.runs = 0
        self.is_torn = False
        """Whether a power cut has left parts of lines."""

    # --- records ---

    def put_image(self, name: str, variant: int) -> None:
        """Gives an image other bytes; variant 0 takes it away."""
        self.images[name] = variant
        path = self.folder / name
        path.unlink(missing_ok=True)
        if variant:
            path.write_bytes(png(variant))

    def prompt(self) -> str:
        """One that was never used."""
        self.version += 1
        kind = self.rng.choices(["asks", "fails", "kills"], [12, 1, 1])[0]
        return f"{kind} {self.version}"

    def line(self) -> Any:
        """A record, or a line that is not one."""
        if self.rng.random() < 0.08:
            return self.rng.choice(["", "not json", '{"prompt": 5}', '{"id": "a", "prompt": ""}'])
        line: dict[str, Any] = {"prompt": self.prompt()}
        if self.rng.random() < 0.7:
            line["id"] = f"r{self.version}" if self.rng.random() < 0.95 else "twice"
        if self.rng.random() < 0.3:
            line["images"] = self.rng.choice(list(self.images))
        if self.rng.random() < 0.2:
            line["max_new_tokens"] = self.rng.randint(1, 3)
        if self.rng.random() < 0.2:
            line["metadata"] = {"n": self.version}
        return line

    def edit(self) -> None:
        """Changes the manifest and its images as people do."""
        for _ in range(self.rng.choice([0, 0, 1, 1, 2])):
            kind = self.rng.choice(["change", "insert", "remove", "move", "note", "image"])
            self.log(f"  edit: {kind}")
            if kind == "image":
                self.put_image(self.rng.choice(list(self.images)), self.rng.randint(0, VARIANTS))
                continue
            if kind == "insert" or not self.lines:
                self.lines.insert(self.rng.randint(0, len(self.lines)), self.line())
                continue
            place = self.rng.randrange(len(self.lines))
            line = self.lines[place]
            if kind == "change":
                self.lines[place] = (
                    {**line, "prompt": self.prompt()} if isinstance(line, dict) else self.line()
                )
            elif kind == "remove":
                del self.lines[place]
            elif kind == "move":
                self.lines.insert(self.rng.randint(0, len(self.lines) - 1), self.lines.pop(place))
            elif isinstance(line, dict):
                self.lines[place] = {**line, "metadata": {"n": self.rng.randint(0, 99)}}

    def write(self) -> list[Content | None]:
        """The manifest; what each record asks, None where it is refused as it is."""
        self.manifest.write_text(
            "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in self.lines)
        )
        contents: list[Content | None] = []
        for request in self.records():
            if request.input is None:
                contents.append(None)
                continue
            image = self.images[Path(str(request.input.images[0])).name] if request.input.images else None
            contents.append(Content(prompt_of(request.input), image, request.input.max_new_tokens))
        return contents

    def records(self) -> Manifest:
        return Manifest(self.manifest, settings=GREEDY)

    # --- runs ---

    def play(self) -> None:
        """Everything."""
        self.log(f"engine: {self.kind}; {len(self.lines)} lines")
        for _ in range(self.rng.randint(1, 4)):
            self.run(self.trouble(), is_calm=False)
            self.edit()
        self.run(Trouble(), is_calm=True)
        self.compare()

    def trouble(self) -> Trouble:
        """What is to go wrong with the engine."""
        rng = self.rng
        trouble = Trouble(rng.randint(1, 6), rng.random() < 0.7, rng.random() < 0.5)
        if self.kind == "server" and rng.random() < 0.7:
            trouble.weather = tuple(
                (rng.random() * rng.choice([2, 20, 200]), rng.choice(WEATHERS))
                for _ in range(rng.randint(1, 4))
            )
        if self.kind == "workers" and rng.random() < 0.7:
            trouble.deaths, trouble.hangs = rng.choice([0.05, 0.3]), rng.choice([0, 0.1])
        return trouble

    def disturb(self) -> tuple[OpenOptions, int | None]:
        """What is to go wrong beside the engine; the options of the run, and after how many results it is stopped."""
        rng, disk = self.rng, self.disk
        if rng.random() < 0.35:
            disk.cut_at = disk.operations + rng.randint(0, 60)
        elif rng.random() < 0.3:
            self.clock.later(rng.random() * 12, disk.die)
        if rng.random() < 0.2:
            disk.fail_at = disk.operations + rng.randint(0, 50)
        if rng.random() < 0.15:
            disk.room = sum(len(file.now) for file in disk.names.values()) + rng.randint(0, 7000)
        if rng.random() < 0.3:
            disk.latency = 0.009  # two syncs within 2 % of a second: a second apart, as the promise says
        options = OpenOptions(
            resume=True,
            retry_failed=rng.random() < 0.3,
            limit=rng.randint(0, 8) if rng.random() < 0.1 else None,
        )
        if rng.random() < 0.04:
            options = OpenOptions(overwrite=True)
        return options, rng.randint(0, 6) if rng.random() < 0.2 else None

    def run(self, trouble: Trouble, *, is_calm: bool) -> None:
        """One run, and what must hold after it."""
        self.runs += 1
        contents = self.write()
        disk, ledger = self.disk, self.ledger
        disk.calm()
        ledger.begin({content.prompt: content for content in contents if content})
        options, stop_after = (
            (OpenOptions(resume=True, retry_failed=True), None) if is_calm else self.disturb()
        )
        if options.overwrite:
            ledger.forget()
        self.log(
            f"run {self.runs} at {self.clock.now():.2f}: {trouble} {options} stop after {stop_after}; disk: cut at "
            f"{disk.cut_at}, fails at {disk.fail_at}, room {disk.room}; now at {disk.operations}"
        )
        model = make_engine(self.kind, ledger, self.clock, self.rng, trouble)
        how = self.attempt(model, trouble, options, stop_after, contents)
        self.log(f"  {how} at {self.clock.now():.2f}")
        self.clock.forget()
        failed_at = disk.failed_at
        disk.calm()
        if ledger.violations:
            raise Violation(ledger.violations[0])
        if how in ("complete", "stopped"):
            ledger.opened()
        else:
            ledger.ended(failed_at)
        if self.rng.random() < (0.5 if how == "killed" else 0.1):
            self.cut_power()
            return
        disk.kill()
        if how == "complete":
            self.is_torn = False
        self.is_torn |= failed_at is not None and how == "failed"
        self.look(how == "complete" and options.limit is None)

    def cut_power(self) -> None:
        """The machine loses its power now."""
        self.log("  the power is cut")
        self.ledger.lose_power()
        self.disk.power_cut()
        self.is_torn = True

    def attempt(
        self, model: VLMModel, trouble: Trouble, options: OpenOptions, stop_after: int | None,
        contents: list[Content | None],
    ) -> str:  # fmt: skip
        """The run itself; how it ended."""
        stop, taken = threading.Event(), 0

        def load() -> VLMModel:
            model.load_model()
            return model

        try:
            with open_output(
                OUT, self.records(), model="simulated", fingerprint="f", options=options, disk=self.disk,
                clock=self.clock,
            ) as opened:  # fmt: skip
                if options.resume:
                    self.ledger.opened()
                job = Job(opened.remaining, load, opened.sink, stop=stop, clock=self.clock)
                with closing(cast(Generator[Result, None, None], iter(job))) as results:
                    for result in results:
                        taken += 1
                        self.take(result, trouble)
                        if taken == stop_after:
                            stop.set()
                        if self.rng.random() < 0.02:
                            self.intrude()
                if job.summary.interrupted:
                    return "stopped"
                opened.settle()
                if options.limit is None:
                    self.account(job, contents)
                return "complete"
        except PowerCut:
            return "killed"
        except (ModelLoadError, OutputError, RunError) as error:
            self.log(f"  {type(error).__name__}: {error.message}")
            is_lost = isinstance(model, PooledModel) and model.simulated.deaths > 0
            if not (self.disk.failed_at is not None or trouble.weather or is_lost):
                raise Violation(f"the run ended for no reason: {error.message}") from error
            return "failed"
        except Violation:
            raise
        except BaseException as error:
            raise Violation(f"a crash: {type(error).__name__}: {error}") from error
        finally:
            self.clock.forget()  # a process that ends is killed no more
            model.unload()

    def take(self, result: Result, trouble: Trouble) -> None:
        """A result was written and handed out."""
        request = result.request
        self.log(f"  {self.clock.now():.2f} {request.where}: {'ok' if result.ok else result.error}")
        if request.input is None:
            return
        content = self.ledger.contents[prompt_of(request.input)]
        must_fail = content.image == 0 or content.prompt.startswith("fails")
        if result.ok:
            assert result.output is not None
            if must_fail or result.output.generated_text != content.text:
                raise Violation(f"{content} has the answer of another record")
            self.ledger.answered(content.prompt)
        elif not must_fail and not is_excused(result.error, trouble):
            raise Violation(f"{content} failed for no reason: {result.error}")

    def intrude(self) -> None:
        """Somebody starts the same command while it runs."""
        try:
            open_output(
                OUT, self.records(), model="simulated", fingerprint="f", options=OpenOptions(resume=True),
                disk=self.disk, clock=self.clock,
            )  # fmt: skip
        except OutputError:
            return
        raise Violation("two runs write one output")

    # --- what must hold ---

    def account(self, job: Job, contents: list[Content | None]) -> None:
        """Answered, failed and skipped records are all that there are, and each has one line, in their order."""
        if job.summary.records != len(contents):
            raise Violation(f"{job.summary.records} records are accounted for, of {len(contents)}")
        lines = (
            [json.loads(line) for line in self.disk.text(OUT).splitlines()] if OUT in self.disk.names else []
        )
        if len(lines) != len(contents):
            raise Violation(f"{len(lines)} lines for {len(contents)} records")
        for line, content in zip(lines, contents, strict=True):
            if line["status"] == "ok" and (content is None or line["generated_text"] != content.text):
                raise Violation(f"the line of {line['id']} answers another record than {content}")
        failed = sum(line["status"] != "ok" for line in lines)
        if failed != job.summary.failed + job.summary.reused_failed:
            raise Violation(f"{failed} records failed, and the summary says {job.summary}")

    def look(self, is_complete: bool) -> None:
        """What `check` finds in the output."""
        if OUT not in self.disk.names or journal_path(OUT) not in self.disk.names:
            return
        found = list(check_output(OUT, self.records(), Checked(), is_complete=is_complete, disk=self.disk))
        kinds = {finding.kind for finding in found}
        if kinds and (is_complete or not (self.is_torn or kinds <= {"missing", "stale", "extra"})):
            raise Violation(f"check finds {[(one.kind, one.place, one.text) for one in found]}")

    def compare(self) -> None:
        """The output is that of an undisturbed run, and nothing else is left."""
        disk = SimulatedDisk(self.clock, random.Random(0))
        contents = self.write()
        ledger = Ledger(self.clock)
        ledger.begin({content.prompt: content for content in contents if content})
        model = make_engine(self.kind, ledger, self.clock, random.Random(0), Trouble())
        with open_output(
            OUT, self.records(), model="simulated", fingerprint="f", disk=disk, clock=self.clock
        ) as opened:

            def load() -> VLMModel:
                model.load_model()
                return model

            Job(opened.remaining, load, opened.sink, clock=self.clock).run()
        model.unload()
        self.clock.forget()
        if OUT in disk.names and self.disk.text(OUT) != disk.text(OUT):
            raise Violation("the output is not that of an undisturbed run")
        if left := [path.name for path in self.disk.names if path.name.endswith(".new")]:
            raise Violation(f"{left[0]} was left")
