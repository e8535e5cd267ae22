"""What confidences tell about answers being right: ranking, calibration, and how much can be accepted.

Takes arrays: a confidence (0 to 1) and right (0 or 1) for each answer. scikit-learn and scipy do the statistics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pixano_vlm.extras import import_extra
from pixano_vlm.scoring.intervals import Estimate, share

__all__ = [
    "BINS",
    "Accepted",
    "Bin",
    "Coverage",
    "accept",
    "auroc",
    "calibration_error",
    "coverage",
    "reliability",
]

BINS = 10
CERTAINTY = 0.95
STEPS = 100
"""About how many thresholds `accept` looks at."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose confidence is about the same."""

    low: float
    high: float
    confidence: float
    """Mean."""
    right: Estimate


@dataclass(frozen=True, slots=True)
class Coverage:
    """Accepting the most confident answers: how many, and how many of these are right."""

    share: float
    threshold: float
    right: Estimate


@dataclass(frozen=True, slots=True)
class Accepted:
    """What `--accept` found: from which confidence on answers are accepted."""

    wanted: float
    threshold: float | None
    """None where no threshold keeps the promise."""
    n: int = 0
    right: int = 0
    of: int = 0
    """All records, those without an answer included."""

    @property
    def share(self) -> float:
        """Which part of all records is accepted."""
        return self.n / self.of if self.of else 0.0


def auroc(confidence: Any, right: Any) -> float:
    """The probability that a right answer is more confident than a wrong one; NaN where all are one or the other."""
    n = len(right)
    if n == 0 or not 0 < right.sum() < n:
        return math.nan
    metrics = import_extra("sklearn.metrics", extra="score", purpose="the AUROC")
    return float(metrics.roc_auc_score(right, confidence))


def reliability(confidence: Any, right: Any) -> list[Bin]:
    """The bins 0 to 0.1, 0.1 to 0.2 and so on (a border belongs to the bin above), those with answers."""
    import numpy

    places = numpy.minimum((confidence * BINS).astype(int), BINS - 1)
    found = []
    for place in range(BINS):
        inside = places == place
        n = int(inside.sum())
        if n:
            found.append(
                Bin(
                    place / BINS,
                    (place + 1) / BINS,
                    float(confidence[inside].mean()),
                    share(int(right[inside].sum()), n),
                )
            )
    return found


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: the mean distance of confidence and share of right answers, weighted by size."""
    total = sum(one.right.n for one in bins)
    if not total:
        return math.nan
    return sum(one.right.n * abs(one.confidence - one.right.value) for one in bins) / total


def coverage(confidence: Any, right: Any, steps: int = 10) -> tuple[list[Coverage], float]:
    """Accuracy against coverage: a table of `steps` shares, and the area under the whole curve.

    The area is the mean, over k from 1 to all, of the accuracy of the k most confident answers; answers of the same
    confidence count as the mix that they are. A row's share of answers is rounded up to whole groups of the same
    confidence, since no threshold parts them.
    """
    import numpy

    n = len(right)
    if n == 0:
        return [], math.nan
    sorted_confidence, _, ends, totals = _ranked(confidence, right)
    counts = numpy.arange(1, n + 1)
    # Between the ends of groups of equals, the number of right ones grows evenly.
    expected = numpy.interp(counts, numpy.concatenate([[0], ends]), numpy.concatenate([[0], totals]))
    area = float((expected / counts).mean())
    rows: list[Coverage] = []
    for step in range(1, steps + 1):
        place = int(numpy.searchsorted(ends, math.ceil(n * step / steps)))
        end = int(ends[place])
        if rows and rows[-1].right.n == end:
            continue
        rows.append(Coverage(end / n, float(sorted_confidence[end - 1]), share(int(totals[place]), end)))
    return rows, area


def _ranked(confidence: Any, right: Any) -> tuple[Any, Any, Any, Any]:
    """From the most confident downwards: confidences, rights, where groups of equals end, and rights up to there."""
    import numpy

    order = numpy.argsort(-confidence, kind="stable")
    sorted_confidence, sorted_right = confidence[order], right[order]
    last = numpy.append(sorted_confidence[1:] != sorted_confidence[:-1], True)
    ends = numpy.flatnonzero(last) + 1
    return sorted_confidence, sorted_right, ends, numpy.cumsum(sorted_right)[ends - 1]


def accept(confidence: Any, right: Any, wanted: float, of: int | None = None) -> Accepted:
    """The lowest threshold above which at least `wanted` of the answers are right, with 95 % certainty.

    The certainty is that of the whole search. Looking at many thresholds and taking one that looks good breaks the
    promise; so the thresholds are tested in an order that does not depend on which answers are right: from the most
    confident downwards, each by the exact binomial test (that of Clopper and Pearson's bound), until one fails
    (fixed-sequence testing). Since one early failure would end everything, this is done from several starts, each
    at its share of the 5 %: the multi-start procedure of Angelopoulos, Bates, Candès, Jordan and Lei, Learn then Test
    (2021), after Bauer, Statistics in Medicine 10 (1991). Starts and steps are ranks that only the number of answers
    and `wanted` decide: the fewest answers that could show it, and twice, four times, eight times as many.

    Args:
        confidence: Of each answer, an array.
        right: 0 or 1 for each.
        wanted: The share that is to be right, above 0 and below 1.
        of: All records, those without an answer included; by default as many as answers.
    """
    n = len(right)
    nothing = Accepted(wanted, None, of=n if of is None else of)
    # So many answers, all of them right, are the fewest that show it.
    fewest = math.ceil(math.log(1 - CERTAINTY) / math.log(wanted))
    if n < fewest:
        return nothing
    starts = [fewest << power for power in range(1, n.bit_length()) if fewest << power <= n] or [n]
    alpha = (1 - CERTAINTY) / len(starts)
    import numpy

    binom = import_extra("scipy.stats", extra="score", purpose="--accept").binom
    sorted_confidence, _, ends, totals = _ranked(confidence, right)
    steps = numpy.unique([*starts, *numpy.linspace(starts[0], n, STEPS).round().astype(int)])
    # Each rank is moved on to the end of its group of equals: no threshold parts them.
    ranks = numpy.unique(numpy.searchsorted(ends, steps))
    begins = numpy.searchsorted(ranks, numpy.searchsorted(ends, starts))
    counts, rights = ends[ranks], totals[ranks]
    passes = binom.sf(rights - 1, counts, wanted) <= alpha
    best = -1
    for begin in begins.tolist():
        failed = numpy.flatnonzero(~passes[begin:])
        passed = int(failed[0]) if len(failed) else len(ranks) - begin
        if passed:
            best = max(best, begin + passed - 1)
    if best < 0:
        return nothing
    count = int(counts[best])
    return Accepted(wanted, float(sorted_confidence[count - 1]), count, int(rights[best]), nothing.of)
