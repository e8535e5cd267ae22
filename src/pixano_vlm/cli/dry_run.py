"""`generate --dry-run`: everything checked, a few records timed, nothing written; tells what a run would come to."""

from __future__ import annotations

import json
import sys
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pixano_vlm.cli.tables import print_facts

if TYPE_CHECKING:
    from pixano_vlm.cli.progress import Progress
    from pixano_vlm.cli.run import Batch, Weights
    from pixano_vlm.inputs.manifest import Manifest
    from pixano_vlm.runs.estimate import Trial

__all__ = ["dry_run"]


def dry_run(batch: Batch, manifest: Manifest, weights: Weights, progress: Progress) -> int:
    """Does it, and returns the exit code: 1 when there are bad records.

    Raises:
        ModelLoadError: When the model cannot be loaded.
        RunError: When it can answer nothing.
    """
    from pixano_vlm.runs.estimate import run_trial

    weights.load()
    progress.begin()
    limit = batch.limit
    requests = takewhile(lambda request: limit is None or request.index < limit, manifest)
    trial = run_trial(requests, weights.model, on_record=lambda ok: progress.add(ok=ok, tokens=0))
    manifest.close()
    progress.close()
    facts = _facts(trial)
    if batch.summary_json is not None:
        values = {**facts, "problems": trial.problems}
        batch.summary_json.write_text(
            json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    if facts.pop("prompt_tokens_counted"):
        shown = facts
    else:
        shown = {
            name.replace("prompt_tokens", "prompt_tokens_estimated"): value for name, value in facts.items()
        }
    print_facts({name.replace("_", " "): value for name, value in shown.items()}, file=sys.stdout)
    for problem in trial.problems:
        sys.stdout.write(f"bad: {problem}\n")
    if trial.bad > len(trial.problems):
        sys.stdout.write(f"... and {trial.bad - len(trial.problems):,} more bad records.\n")
    return 1 if trial.bad else 0


def _facts(trial: Trial) -> dict[str, Any]:
    prompts = trial.prompts
    return {
        "records_good": trial.good,
        "records_bad": trial.bad,
        "images": trial.images,
        "prompt_tokens_min": prompts.least,
        "prompt_tokens_median": prompts.median,
        "prompt_tokens_max": prompts.most,
        "prompt_tokens": trial.prompt_tokens,
        "prompt_tokens_counted": trial.counted,
        "records_timed": len(trial.answers),
        "completion_tokens_estimated": trial.completion_tokens,
        "total_tokens_estimated": trial.prompt_tokens + trial.completion_tokens,
        "generating_seconds_estimated": round(trial.run_seconds, 1),
    }
