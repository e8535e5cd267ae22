"""Outputs against a truth: every figure of `pixano-vlm score`, as plain data. Draws nothing.

Of each record a few numbers are kept, and its id where two outputs are compared; lines are read one at a time.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixano_vlm.errors import UsageError
from pixano_vlm.extras import import_extra
from pixano_vlm.records.calibration import Calibration
from pixano_vlm.records.output_line import OutputLine
from pixano_vlm.scoring import calibrate, confidence
from pixano_vlm.scoring.intervals import Estimate, difference_of_means, difference_of_shares, mean, share
from pixano_vlm.scoring.judge import Judge, answer_of, confidence_of, judge_for, read_lines
from pixano_vlm.scoring.metrics import RIGHT_FROM, Tolerance, label_of, leaves, text_of
from pixano_vlm.scoring.truth import Truth, open_truth

__all__ = ["Difference", "OutputScore", "ScoreOptions", "Scores", "score_outputs"]

NAMED = 5
"""How many ids of records without a truth are named."""
MOST_LABELS = 100
"""Labels of the confusion table: the commonest ones; others count as `(other)`."""
OTHER = "(other)"
FAILED = "(failed)"


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What to score."""

    outputs: tuple[Path, ...]
    truth: str
    truth_column: str | None = None
    metric: str | None = None
    """None: the one that fits the truths."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    by: str | None = None
    """A key of the metadata: also each of its values by itself."""
    accept: float | None = None
    calibrate: bool = False
    """Whether to fit a calibration on the first output."""


@dataclass(slots=True)
class Trust:
    """What the confidences of an output tell."""

    n: int
    without: int
    """Answers with a truth and no confidence."""
    auroc: float
    calibration_error: float
    bins: list[confidence.Bin]
    coverage: list[confidence.Coverage]
    area: float
    accepted: confidence.Accepted | None = None


@dataclass(slots=True)
class OutputScore:
    """One output against the truth."""

    path: Path
    model: str | None
    overall: Estimate
    failed: int
    """Records with a truth that failed: they count as not right."""
    without_truth: int
    without_truth_ids: list[str]
    not_answered: int
    """Truths of a file whose id is not in the output."""
    by: dict[str, Estimate]
    fields: dict[str, Estimate]
    confusion: dict[str, dict[str, int]]
    """Truth -> answer -> how often."""
    trust: Trust | None


@dataclass(frozen=True, slots=True)
class Difference:
    """The second output less the first, over the records that both have."""

    n: int
    gained: int
    lost: int
    difference: Estimate
    p: float
    """McNemar's, exact; NaN for a metric of more than two values."""


@dataclass(slots=True)
class Scores:
    """All that was found."""

    metric: str
    says: str
    is_chosen: bool
    is_binary: bool
    truth: str
    by: str | None
    outputs: list[OutputScore]
    difference: Difference | None = None
    calibration: Calibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON; what is not known is null."""
        found: dict[str, Any] = {
            "metric": self.metric, "metric_was_chosen": self.is_chosen, "truth": self.truth, "by": self.by,
            "outputs": [_output(one) for one in self.outputs],
        }  # fmt: skip
        if self.difference is not None:
            one = self.difference
            found["difference"] = {
                **one.difference.to_dict(), "gained": one.gained, "lost": one.lost, "mcnemar_p": _number(one.p),
            }  # fmt: skip
        if self.calibration is not None:
            found["calibration"] = self.calibration.model_dump()
        return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _each(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: one.to_dict() for name, one in found.items()}


def _output(one: OutputScore) -> dict[str, Any]:
    found: dict[str, Any] = {
        "output": str(one.path), "model": one.model, "score": one.overall.to_dict(), "failed": one.failed,
        "without_truth": one.without_truth, "without_truth_ids": one.without_truth_ids,
        "not_answered": one.not_answered,
    }  # fmt: skip
    if one.by:
        found["by"] = _each(one.by)
    if one.fields:
        found["fields"] = _each(one.fields)
    if one.confusion:
        found["confusion"] = one.confusion
    if one.trust is not None:
        found["confidence"] = _trust(one.trust)
    return found


def _trust(trust: Trust) -> dict[str, Any]:
    found: dict[str, Any] = {
        "n": trust.n, "without": trust.without, "auroc": _number(trust.auroc),
        "expected_calibration_error": _number(trust.calibration_error), "area_under_coverage": _number(trust.area),
        "reliability": [
            {"low": one.low, "high": one.high, "confidence": one.confidence, "right": one.right.to_dict()}
            for one in trust.bins
        ],
        "coverage": [
            {"share": one.share, "threshold": one.threshold, "right": one.right.to_dict()} for one in trust.coverage
        ],
    }  # fmt: skip
    if (kept := trust.accepted) is not None:
        found["accept"] = {
            "wanted": kept.wanted, "certainty": confidence.CERTAINTY, "threshold": kept.threshold, "accepted": kept.n,
            "right": kept.right, "share": kept.share,
        }  # fmt: skip
    return found


class _Tally:
    """The numbers of one output, record by record."""

    def __init__(self, judge: Judge, by: str | None, *, keeps_ids: bool) -> None:
        self._judge, self._by = judge, by
        self.values = array("d")
        self.confidences = array("d")
        """NaN where there is none."""
        self.raw = array("d")
        """The same, before a calibration that the run applied."""
        self.groups = array("l")
        self.names: dict[str, int] = {}
        self.places: dict[str, int] | None = {} if keeps_ids else None
        self.fields: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.failed = self.without_truth = 0
        self.without_truth_ids: list[str] = []
        self.found: set[str] = set()
        self.models: Counter[str] = Counter()

    def add(self, line: OutputLine) -> None:
        judge = self._judge
        if line.model is not None:
            self.models[line.model] += 1
        value = judge.value(line)
        if value is None:
            self.without_truth += 1
            if len(self.without_truth_ids) < NAMED:
                self.without_truth_ids.append(line.id)
            return
        if judge.truth.by_id is not None:
            self.found.add(line.id)
        if self.places is not None:
            self.places.setdefault(line.id, len(self.values))
        answer, wanted = answer_of(line), judge.truth.of(line)
        self.failed += answer is None
        self.values.append(value)
        for kept, raw in ((self.confidences, False), (self.raw, True)):
            given = None if answer is None else confidence_of(line, raw=raw)
            kept.append(math.nan if given is None else given)
        if self._by is not None:
            group = line.metadata.get(self._by)
            self.groups.append(
                self.names.setdefault("-" if group is None else text_of(group), len(self.names))
            )
        for path, right in leaves(judge.metric, answer, wanted, judge.tolerance):
            self.fields[path][0] += right
            self.fields[path][1] += 1
        if judge.metric.name == "choice":
            truth = label_of(text_of(wanted[0] if isinstance(wanted, list) and wanted else wanted))
            # Of several accepted labels, the one that was given is what was right.
            given_label = FAILED if answer is None else truth if value == 1 else label_of(answer.text)
            self.pairs[truth, given_label] += 1


def score_outputs(options: ScoreOptions) -> Scores:
    """Scores one output, or two and their difference.

    Args:
        options: What to score.

    Raises:
        UsageError: When an output or a truth is missing or something else, or nothing can be told from them.
        ManifestError: When the file of the truth cannot be read.
        MissingPackageError: When the packages of the extra `score` are not installed.
    """
    if len(options.outputs) > 2:
        raise UsageError(
            f"{len(options.outputs)} outputs, and two can be compared.", hint="Score each pair by itself."
        )
    if options.accept is not None and not 0 < options.accept < 1:
        raise UsageError(
            f"--accept {options.accept:g} is not a share.", hint="Write a number between 0 and 1: 0.99."
        )
    for module in ("numpy", "scipy.stats", "sklearn"):
        import_extra(module, extra="score", purpose="`pixano-vlm score`")
    truth = open_truth(options.truth, options.truth_column)
    judge = judge_for(options.outputs[0], truth, options.metric, options.tolerance)
    tallies = []
    for path in options.outputs:
        tally = _Tally(judge, options.by, keeps_ids=len(options.outputs) > 1)
        for line in read_lines(path):
            tally.add(line)
        tallies.append(tally)
    scores = Scores(
        judge.metric.name, judge.metric.says, judge.is_chosen, judge.metric.is_binary, truth.name, options.by,
        [_score(path, tally, judge, truth, options.accept)
         for path, tally in zip(options.outputs, tallies, strict=True)],
    )  # fmt: skip
    if len(tallies) > 1:
        scores.difference = _difference(tallies, judge)
    if options.calibrate:
        scores.calibration = _calibration(tallies[0], judge)
    return scores


def _estimate(values: Any, judge: Judge) -> Estimate:
    return share(int(values.sum()), len(values)) if judge.metric.is_binary else mean(values)


def _score(path: Path, tally: _Tally, judge: Judge, truth: Truth, wanted: float | None) -> OutputScore:
    import numpy

    values = numpy.asarray(tally.values)
    groups = numpy.asarray(tally.groups)
    by = {name: _estimate(values[groups == number], judge) for name, number in tally.names.items()}
    return OutputScore(
        path=path,
        model=", ".join(name for name, _ in tally.models.most_common(3)) or None,
        overall=_estimate(values, judge),
        failed=tally.failed,
        without_truth=tally.without_truth,
        without_truth_ids=tally.without_truth_ids,
        not_answered=0 if truth.by_id is None else len(truth.by_id) - len(tally.found),
        by=dict(sorted(by.items(), key=lambda item: (-item[1].n, item[0]))),
        fields={path: share(right, n) for path, (right, n) in tally.fields.items()},
        confusion=_confusion(tally.pairs),
        trust=_trusted(tally, judge, wanted),
    )


def _right(values: Any, judge: Judge) -> Any:
    return (values >= (1.0 if judge.metric.is_binary else RIGHT_FROM)).astype(int)


def _trusted(tally: _Tally, judge: Judge, wanted: float | None) -> Trust | None:
    import numpy

    given = numpy.asarray(tally.confidences)
    there = ~numpy.isnan(given)
    n = int(there.sum())
    if n == 0:
        if wanted is not None:
            raise UsageError(
                "no answer has a confidence, which --accept needs.",
                hint="generate writes it with --confidence.",
            )
        return None
    given, right = given[there], _right(numpy.asarray(tally.values)[there], judge)
    bins = confidence.reliability(given, right)
    table, area = confidence.coverage(given, right)
    return Trust(
        n=n,
        without=len(there) - n - tally.failed,
        auroc=confidence.auroc(given, right),
        calibration_error=confidence.calibration_error(bins),
        bins=bins,
        coverage=table,
        area=area,
        accepted=None if wanted is None else confidence.accept(given, right, wanted, of=len(there)),
    )


def _confusion(pairs: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Truth -> answer -> count. Answers that are not a label of the truth are one column."""
    sizes: Counter[str] = Counter()
    for (truth, _), count in pairs.items():
        sizes[truth] += count
    labels = [label for label, _ in sizes.most_common(MOST_LABELS)]
    known = {*labels, FAILED}
    table: dict[str, dict[str, int]] = {label: {} for label in labels}
    for (truth, given), count in pairs.items():
        row = table.setdefault(truth if truth in known else OTHER, {})
        column = given if given in known else OTHER
        row[column] = row.get(column, 0) + count
    return table


def _difference(tallies: Sequence[_Tally], judge: Judge) -> Difference:
    import numpy

    first, second = tallies
    assert first.places is not None
    assert second.places is not None
    both = [(place, second.places[id]) for id, place in first.places.items() if id in second.places]
    if not both:
        raise UsageError(
            "the two outputs have no record with a truth in common.", hint="They are matched by id."
        )
    places = numpy.array(both)
    before, after = numpy.asarray(first.values)[places[:, 0]], numpy.asarray(second.values)[places[:, 1]]
    was, now = _right(before, judge), _right(after, judge)
    gained, lost = int(((was == 0) & (now == 1)).sum()), int(((was == 1) & (now == 0)).sum())
    if judge.metric.is_binary:
        estimate, p = difference_of_shares(gained, lost, len(both))
    else:
        estimate, p = difference_of_means(after - before), math.nan
    return Difference(len(both), gained, lost, estimate, p)


def _calibration(tally: _Tally, judge: Judge) -> Calibration:
    import numpy

    given = numpy.asarray(tally.raw)
    there = ~numpy.isnan(given)
    models = list(tally.models)
    return calibrate.fit(
        given[there], _right(numpy.asarray(tally.values)[there], judge),
        model=models[0] if len(models) == 1 else None, metric=judge.metric.name,
    )  # fmt: skip
