"""`generate` and its kin on a terminal: shows how far a run is, stops it on Ctrl-C, and reports how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixano_vlm.cli.answers import FirstAnswers
from pixano_vlm.cli.errors import EXIT_INTERRUPTED
from pixano_vlm.cli.interruption import Interruption
from pixano_vlm.cli.load import static_batches
from pixano_vlm.cli.outcome import print_outcome
from pixano_vlm.cli.progress import Progress
from pixano_vlm.cli.shown import Shown
from pixano_vlm.models.vlm import VLMModel
from pixano_vlm.runs.events import RunEvents

if TYPE_CHECKING:
    from pixano_vlm.records.result import Result
    from pixano_vlm.runs.options import RunOptions

__all__ = ["Watched", "run"]

STOPPING = "stopping: what is in flight is finished first; press Ctrl-C once more to end at once."


class Watched(RunEvents):
    """A run's events on the screen."""

    def __init__(self, progress: Progress, interruption: Interruption | None = None) -> None:
        self._progress, self._interruption = progress, interruption

    def opened(self, count: int | None, notice: str | None) -> None:
        """Shows how much is to be done, and what holds no longer."""
        self._progress.expect(count)
        if notice is not None:
            self._progress.say(f"{notice}.")
        if count == 0:
            self._progress.say("nothing is left to do.")

    def passed_over(self, line: str) -> None:
        """Says which files of the folder are not read."""
        self._progress.say(f"{line}.")

    def loading(self, model: str) -> None:
        """Says so: it may take minutes."""
        if self._interruption is not None:
            self._interruption.ends_at_once = True
        self._progress.phase(f"loading {model}", is_plain=True)

    def loaded(self, model: VLMModel) -> None:
        """Rates count from here."""
        if self._interruption is not None:
            self._interruption.ends_at_once = False
        if notice := static_batches(model):
            self._progress.say(notice)
        for notice in model.notices():
            self._progress.say(f"warning: {notice}.")
        self._progress.begin()


def run(options: RunOptions, shown: Shown, progress: Progress) -> int:
    """Does the run, and returns the exit code: 0, 1 when records failed, 130 when interrupted.

    Args:
        options: What to do.
        shown: What is shown at the end.
        progress: Entered; it is closed here.

    Raises:
        UsageError: When the model, the inputs or the output are not to be had as asked.
        ModelLoadError: When the model cannot be loaded.
        RunError: When the run cannot continue.
    """
    from pixano_vlm.runs.ignored import ignored
    from pixano_vlm.runs.run import Run

    def stop() -> None:
        progress.say(STOPPING)
        running.stop()

    answers, is_told = FirstAnswers(), False

    def count(result: Result) -> None:
        nonlocal is_told
        answers.add(result)
        if result.output is not None and not is_told:
            is_told = True
            for warning in ignored(shown.asked, options.model, result.output):
                progress.say(f"warning: {warning}")
        tokens = result.output.usage.completion_tokens if result.output is not None else 0
        progress.add(ok=result.ok, tokens=tokens)

    interruption = Interruption(stop)
    progress.phase(f"reading {options.source.name or options.source.stem}")
    running = Run(options, Watched(progress, interruption))
    with interruption:
        summary = running.finish(count)
    progress.close()
    print_outcome(options, shown, summary, answers=answers.lines(), backup=running.backup)
    if summary.interrupted:
        return EXIT_INTERRUPTED
    return 1 if summary.failed or summary.reused_failed else 0
