"""What is printed when a run has ended: its figures, the first error of each kind, and what can be done next."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixano_vlm.cli.shown import resume_command
from pixano_vlm.cli.tables import print_facts
from pixano_vlm.media.formats import passed_over

if TYPE_CHECKING:
    from pixano_vlm.cli.shown import Shown
    from pixano_vlm.runs.options import RunOptions
    from pixano_vlm.runs.summary import Summary

__all__ = ["print_outcome"]

ERRORS = 3
"""Kinds of error of which the first is shown; the output has them all."""


def print_outcome(
    options: RunOptions, shown: Shown, summary: Summary, *, answers: Sequence[str], backup: Path | None
) -> None:
    """Writes the summary's file where one was asked for, and prints the rest on standard error.

    Args:
        options: What was asked for.
        shown: What is shown.
        summary: What came of it.
        answers: The first answers, one line each.
        backup: Where lines of earlier answers are that have no new answer.
    """
    if shown.summary_json is not None:
        text = json.dumps(summary.to_dict(), indent=2) + "\n"
        shown.summary_json.write_text(text, encoding="utf-8")
    if shown.quiet:
        return
    print_facts(_figures(options, summary), file=sys.stderr)
    if isinstance(options.output, Path):  # else they are on the screen, or in a pipe
        for answer in answers:
            sys.stderr.write(f"{answer}\n")
    for kind, message in list(summary.first_errors.items())[:ERRORS]:
        sys.stderr.write(f"the first {kind}: {' '.join(message.split())}\n")
    if backup is not None:
        sys.stderr.write(f"earlier answers that have no new one are kept in {backup}.\n")
    for hint in _hints(options, summary):
        sys.stderr.write(f"hint: {hint}\n")


def _figures(options: RunOptions, summary: Summary) -> dict[str, Any]:
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
            "completion tokens per record": round(summary.tokens_per_record, 1),
            "tokens/s": summary.tokens_per_second,
            "records/s": summary.records_per_second,
            "wall time (s)": summary.seconds,
        }
    if (line := passed_over(summary.passed_over)) is not None:
        rows["not read"] = line
    rows["output"] = str(options.output) if isinstance(options.output, Path) else "standard output"
    if summary.sidecars_written:
        rows["files beside images"] = summary.sidecars_written
    if options.exports and not summary.interrupted:
        rows["also written"] = ", ".join(map(str, options.exports))
    return rows


def _hints(options: RunOptions, summary: Summary) -> list[str]:
    if not isinstance(options.output, Path):
        return []
    if summary.interrupted:
        again = resume_command(options.command)
        return [f"resume with: {again}"] if options.source.is_repeatable else []
    hints = []
    if summary.failed or summary.reused_failed:
        hints.append("--retry-failed asks failed records again, once what failed them is fixed")
    if summary.flags and not options.opening.retry_flagged:
        hints.append("--retry-flagged asks once more where an answer is flagged")
    if summary.ok and sys.stderr.isatty():  # for a person who is there to look
        hints.append(f"to look at it: {shlex.join(['pixano-vlm', 'report', str(options.output)])}")
    return hints
