"""`generate --dry-run`: all is checked, a sample answered and timed, nothing written; an estimate of the run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pixano_vlm.cli.answers import FirstAnswers
from pixano_vlm.cli.tables import print_facts
from pixano_vlm.media.formats import passed_over

if TYPE_CHECKING:
    from pixano_vlm.cli.progress import Progress
    from pixano_vlm.cli.shown import Shown
    from pixano_vlm.records.request import Request
    from pixano_vlm.runs.estimate import RunEstimate
    from pixano_vlm.runs.options import RunOptions

__all__ = ["run_dry"]


def run_dry(options: RunOptions, shown: Shown, progress: Progress) -> int:
    """Does it, and returns the exit code: 1 when there are bad records.

    Args:
        options: What the run would do.
        shown: What is shown at the end.
        progress: Entered; it is closed here.

    Raises:
        UsageError: When the model or the inputs are not to be had as asked.
        ModelLoadError: When the model cannot be loaded.
        RunError: When it can answer nothing.
    """
    from pixano_vlm.cli.run import Watched
    from pixano_vlm.runs.estimate import estimate
    from pixano_vlm.runs.run import Run
    from pixano_vlm.runs.timing import time_sample

    progress.phase(f"reading {options.source.name or options.source.stem}")
    run = Run(options, Watched(progress))
    progress.expect(run.count)
    limit = options.opening.limit
    if run.count is None:  # standard input is read several times
        run.manifest.spool()

    def requests() -> Iterable[Request]:
        return takewhile(lambda request: limit is None or request.index < limit, run.manifest)

    with run.lazy_model() as model:
        began = time.monotonic()
        loaded = model.load()
        loading = time.monotonic() - began
        progress.phase("timing a few records")
        timing = time_sample(requests, run.count, loaded)
        progress.begin()
        trial = estimate(requests(), loaded, timing, on_record=lambda ok: progress.add(ok=ok, tokens=0))
    run.manifest.close()
    progress.close()
    if (line := passed_over(run.passed_over)) is not None:
        sys.stdout.write(f"{line}.\n")
    facts = _facts(trial, loading)
    if shown.summary_json is not None:
        values = {**facts, "problems": trial.problems}
        shown.summary_json.write_text(
            json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    if facts.pop("prompt_tokens_counted"):
        rows = facts
    else:
        rows = {
            name.replace("prompt_tokens", "prompt_tokens_estimated"): value for name, value in facts.items()
        }
    print_facts({name.replace("_", " "): value for name, value in rows.items()}, file=sys.stdout)
    answers = FirstAnswers()
    for result in timing.results:
        answers.add(result)
    for answer in answers.lines():
        sys.stdout.write(f"answer: {answer}\n")
    for problem in trial.problems:
        sys.stdout.write(f"bad: {problem}\n")
    if trial.bad > len(trial.problems):
        sys.stdout.write(f"... and {trial.bad - len(trial.problems):,} more bad records.\n")
    return 1 if trial.bad else 0


def _facts(trial: RunEstimate, loading: float) -> dict[str, Any]:
    prompts = trial.prompts
    return {
        "records_good": trial.good,
        "records_bad": trial.bad,
        "images": trial.images,
        "prompt_tokens_min": prompts.least,
        "prompt_tokens_median": prompts.median,
        "prompt_tokens_max": prompts.most,
        "prompt_tokens": trial.prompt_tokens,
        "prompt_tokens_counted": trial.is_counted,
        "records_timed": len(trial.timing.results),
        "completion_tokens_estimated": trial.completion_tokens,
        "total_tokens_estimated": trial.prompt_tokens + trial.completion_tokens,
        "loading_seconds": round(loading, 1),
        "generating_seconds_estimated": round(trial.run_seconds, 1),
        "seconds_estimated": round(loading + trial.run_seconds, 1),
    }
