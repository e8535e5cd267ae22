"""What is told when a run has ended: its figures, the first error of each kind, and what can be done next."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from pixano_vlm.cli.tables import print_facts

if TYPE_CHECKING:
    from pixano_vlm.cli.run import Batch
    from pixano_vlm.runs.summary import Summary

__all__ = ["tell"]

ERRORS = 3
"""Kinds of error of which the first is shown; the output has them all."""


def tell(batch: Batch, summary: Summary, *, beside: int, go_on: str) -> None:
    """Writes the summary's file where one was asked for, and tells the rest on standard error.

    Args:
        batch: What was asked for.
        summary: What came of it.
        beside: Files that were written beside pictures.
        go_on: The command that goes on with the run.
    """
    if batch.summary_json is not None:
        text = json.dumps(summary.to_dict(), indent=2) + "\n"
        batch.summary_json.write_text(text, encoding="utf-8")
    if batch.quiet:
        return
    print_facts(_figures(batch, summary, beside), file=sys.stderr)
    for kind, message in list(summary.first_errors.items())[:ERRORS]:
        sys.stderr.write(f"the first {kind}: {' '.join(message.split())}\n")
    for hint in _hints(batch, summary, go_on):
        sys.stderr.write(f"{hint}\n")


def _figures(batch: Batch, summary: Summary, beside: int) -> dict[str, Any]:
    did_something = bool(summary.ok or summary.failed)
    rows: dict[str, Any] = {}
    if did_something or not (summary.reused or summary.reused_failed):
        rows |= {"records ok": summary.ok, "records failed": summary.failed}
    if summary.reused or summary.reused_failed:
        rows["done before"] = summary.reused
    if summary.reused_failed:
        rows["failed before"] = summary.reused_failed
    for error, count in summary.errors.most_common():
        rows[f"failed {error}"] = count
    for flag, count in sorted(summary.flags.items()):
        rows[f"flagged {flag}"] = count
    if summary.retried:
        rows["tried again"] = summary.retried
    if did_something:
        rows |= {
            "images": summary.images,
            "prompt tokens": summary.prompt_tokens,
            "completion tokens": summary.completion_tokens,
            "total tokens": summary.total_tokens,
            "completion tokens, mean a record": round(summary.tokens_per_record, 1),
            "tokens/s": summary.tokens_per_second,
            "records/s": summary.records_per_second,
            "wall time (s)": summary.seconds,
        }
    rows["output"] = "standard output" if batch.output is None else str(batch.output)
    if beside:
        rows["files beside pictures"] = beside
    if batch.exports and not summary.interrupted:
        rows["also written"] = ", ".join(map(str, batch.exports))
    return rows


def _hints(batch: Batch, summary: Summary, go_on: str) -> list[str]:
    if batch.output is None:
        return []
    if summary.interrupted:
        return [f"interrupted; go on with: {go_on}"] if batch.is_repeatable else []
    hints = []
    if summary.failed or summary.reused_failed:
        hints.append("--retry-failed does failed records again, once what failed them is mended.")
    if summary.flags and not batch.retry_flagged:
        hints.append("--retry-flagged asks once more where an answer is flagged.")
    if summary.ok and sys.stderr.isatty():  # for a person who is there to look
        hints.append(f"to look at it: {shlex.join(['pixano-vlm', 'report', str(batch.output)])}")
    return hints
