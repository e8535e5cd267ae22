"""Answers against a truth, for the page: which are right, and what their confidences are worth over whole outputs.

The truth, the metrics and the statistics are those of `pixano-vlm score`, and need its extra. Knows no page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pixano_vlm.extras import import_extra
from pixano_vlm.report.answers import OutputFile, ShownLine
from pixano_vlm.report.pairing import Pair
from pixano_vlm.scoring import confidence
from pixano_vlm.scoring.intervals import Estimate, share
from pixano_vlm.scoring.judge import Judge, confidence_of, judge_for
from pixano_vlm.scoring.metrics import Tolerance, text_of
from pixano_vlm.scoring.truth import MISSING, open_truth

__all__ = ["Change", "TruthOptions", "change", "changes", "figures", "is_right", "open_judge", "truth_text"]

Change = Literal["became right", "became wrong"]

STEPS = 200
"""Places of the threshold at most, each with its share of right answers."""
LONGEST_TRUTH = 2_000
"""Characters of a truth that the page shows."""


@dataclass(frozen=True, slots=True)
class TruthOptions:
    """Where the truth is, and how answers are compared with it."""

    truth: str
    column: str | None = None
    metric: str | None = None
    tolerance: Tolerance = Tolerance()  # noqa: RUF009 - frozen


def open_judge(options: TruthOptions, output: Path) -> Judge:
    """What judges the answers, by the metric that was asked for or that fits the first output's truths.

    Raises:
        UsageError: When the truth is missing or something else, or no record has one.
        ManifestError: When the file of the truth cannot be read.
        MissingPackageError: When the packages of the extra `score` are not installed.
    """
    for module in ("numpy", "scipy.stats", "sklearn"):
        import_extra(module, extra="score", purpose="`pixano-vlm report --truth`")
    return judge_for(output, open_truth(options.truth, options.column), options.metric, options.tolerance)


def is_right(line: ShownLine | None, judge: Judge) -> bool | None:
    """Whether an answer is right; None where there is no line, or no truth."""
    value = None if line is None else judge.value(line)
    return None if value is None else judge.is_right(value)


def truth_text(line: ShownLine, judge: Judge) -> str | None:
    """The truth of a record as text; None where it has none."""
    truth = judge.truth.of(line)
    return None if truth is MISSING else text_of(truth)[:LONGEST_TRUTH]


def change(pair: Pair, judge: Judge) -> Change | None:
    """Whether the second answer is right where the first was wrong, or the other way round."""
    if len(pair.lines) < 2:
        return None
    before, after = (is_right(line, judge) for line in pair.lines)
    if before is None or after is None or before == after:
        return None
    return "became right" if after else "became wrong"


def changes(pairs: Iterable[Pair], judge: Judge) -> Counter[Change]:
    """How many records changed how, over whole outputs."""
    return Counter(found for pair in pairs if (found := change(pair, judge)) is not None)


def figures(file: OutputFile, judge: Judge) -> dict[str, Any]:
    """What is right in an output, and what its confidences are worth, as the page reads it.

    Returns:
        `right` (an interval), and, where answers have confidences, `n` of these, `auroc`, `error` (the expected
        calibration error), `bins` (mean confidence and an interval each) and `curve` (a threshold and the interval
        of the answers that are at least as confident). An interval is `[value, low, high, n]`.
    """
    import numpy

    given: list[float] = []
    right: list[bool] = []
    all_right = judged = 0
    for _, line in file:
        verdict = is_right(line, judge)
        if verdict is None:
            continue
        judged += 1
        all_right += verdict
        value = confidence_of(line) if line.status == "ok" else None
        if value is not None:
            given.append(value)
            right.append(verdict)
    found: dict[str, Any] = {"right": _interval(share(all_right, judged))}
    if not given:
        return found
    values, rights = numpy.asarray(given), numpy.asarray(right).astype(int)
    bins = confidence.reliability(values, rights)
    rows, _ = confidence.coverage(values, rights, STEPS)
    return {
        **found,
        "n": len(given),
        "auroc": _number(confidence.auroc(values, rights)),
        "error": _number(confidence.calibration_error(bins)),
        "bins": [[one.low, one.high, round(one.confidence, 6), _interval(one.right)] for one in bins],
        "curve": [[row.threshold, _interval(row.right)] for row in rows],
    }


def _interval(one: Estimate) -> Sequence[float | int | None]:
    return [_number(one.value), _number(one.low), _number(one.high), one.n]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
