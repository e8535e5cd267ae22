"""What an answer is worth against its truth, from 0 to 1, by each metric. Knows no file and no statistics.

A truth may be several answers that are accepted, as a list: the best of them counts.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pixano_vlm.errors import UsageError
from pixano_vlm.extras import import_extra
from pixano_vlm.models.normalise import number_in, plain, squad_tokens, words

__all__ = [
    "METRICS", "RIGHT_FROM", "Answer", "Metric", "Tolerance", "choose_metric", "label_of", "leaves", "text_of",
]  # fmt: skip

ANLS_THRESHOLD = 0.5
RIGHT_FROM = 0.5
"""From which value on an answer counts as right where a metric has more than two values."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What of an output line is compared."""

    text: str
    parsed: Any = None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be off: `absolute`, or `relative` to the truth's size; the larger counts."""

    absolute: float = 0.0
    relative: float = 0.0

    @classmethod
    def read(cls, text: str) -> Tolerance:
        """`0.5` is absolute, `5%` relative.

        Raises:
            UsageError: When it is neither.
        """
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"--tolerance {text} is not a tolerance.", hint="Write 0.5, or 5% of the truth.")
        return cls(relative=value / 100) if text.endswith("%") else cls(absolute=value)

    def admits(self, value: float, truth: float) -> bool:
        """Whether `value` is near enough. Beyond the tolerance, only the rounding of floats is forgiven."""
        most = max(self.absolute, self.relative * abs(truth))
        return math.isclose(value, truth, rel_tol=1e-9, abs_tol=max(most * (1 + 1e-9), 1e-12))


Value = Callable[[Answer, Any, Tolerance], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to compare."""

    name: str
    says: str
    value: Value = field(repr=False)
    """What an answer is worth against one accepted truth."""
    is_binary: bool = True
    """Whether its values are 0 and 1 alone."""
    accepts_lists: bool = True
    """Whether a list is several accepted truths."""

    def score(self, answer: Answer, truth: Any, tolerance: Tolerance) -> float:
        """The best value over the truths that are accepted."""
        several = truth if self.accepts_lists and isinstance(truth, list) else [truth]
        return max((self.value(answer, one, tolerance) for one in several), default=0.0)


def text_of(truth: Any) -> str:
    """A truth as text: `true` and `false` as JSON writes them, numbers as they are written."""
    return truth if isinstance(truth, str) else json.dumps(truth, ensure_ascii=False)


def _exact(answer: Answer, truth: Any, _: Tolerance) -> float:
    return float(answer.text.strip() == text_of(truth).strip())


def _normalised(answer: Answer, truth: Any, _: Tolerance) -> float:
    return float(words(answer.text) == words(text_of(truth)))


def _number(answer: Answer, truth: Any, tolerance: Tolerance) -> float:
    given, wanted = number_in(answer.text), number_in(text_of(truth))
    if given is None or wanted is None:
        return 0.0
    value, target = given.value, wanted.value
    if given.unit != wanted.unit:
        if "%" in (given.unit, wanted.unit) and "" in (given.unit, wanted.unit):
            # 12 % is written as 12 as often as 0.12.
            hundredth = value / 100 if given.unit == "%" else value
            hundredth_target = target / 100 if wanted.unit == "%" else target
            return float(tolerance.admits(value, target) or tolerance.admits(hundredth, hundredth_target))
        # A unit that contradicts another one is only sure where the number and it are the whole text.
        if given.unit and wanted.unit and given.is_whole_text and wanted.is_whole_text:
            return 0.0
    return float(tolerance.admits(value, target))


def _anls(answer: Answer, truth: Any, _: Tolerance) -> float:
    distance = import_extra("rapidfuzz.distance", extra="score", purpose="the metric anls").Levenshtein
    given, wanted = (" ".join(text.lower().split()) for text in (answer.text, text_of(truth)))
    near = 1.0 - float(distance.normalized_distance(given, wanted))
    return near if near >= ANLS_THRESHOLD else 0.0


def _f1(answer: Answer, truth: Any, _: Tolerance) -> float:
    given, wanted = squad_tokens(answer.text), squad_tokens(text_of(truth))
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def _json(answer: Answer, truth: Any, tolerance: Tolerance) -> float:
    found = list(json_fields(answer, truth, tolerance))
    return float(all(right for _, right in found))


def json_fields(answer: Answer, truth: Any, tolerance: Tolerance) -> Iterator[tuple[str, bool]]:
    """Each leaf of the truth by its path (`box.width`, `colours[]`), and whether the answer has it right.

    Strings are compared by `words`, numbers within the tolerance, booleans and null as they are. Items of a list are
    compared in order; a list of another length has one more leaf that is wrong.
    """
    given = answer.parsed
    if given is None:
        try:
            given = json.loads(answer.text)
        except (ValueError, RecursionError):
            given = None
    wanted = truth
    if isinstance(truth, str):
        try:
            wanted = json.loads(truth)
        except (ValueError, RecursionError):
            wanted = truth
    yield from _compare(given, wanted, tolerance, "")


_MISSING = object()


def _compare(given: Any, wanted: Any, tolerance: Tolerance, path: str) -> Iterator[tuple[str, bool]]:
    if isinstance(wanted, dict):
        for key, inner in wanted.items():
            there = given.get(key, _MISSING) if isinstance(given, dict) else _MISSING
            yield from _compare(there, inner, tolerance, f"{path}.{key}" if path else str(key))
    elif isinstance(wanted, list):
        items = given if isinstance(given, list) else []
        for place, inner in enumerate(wanted):
            there = items[place] if place < len(items) else _MISSING
            yield from _compare(there, inner, tolerance, path + "[]")
        if not isinstance(given, list) or len(given) > len(wanted):
            yield path + "[]", False
    else:
        yield path or "(the value)", _is_same(given, wanted, tolerance)


def _is_same(given: Any, wanted: Any, tolerance: Tolerance) -> bool:
    if isinstance(wanted, bool) or wanted is None:
        return given is wanted
    if isinstance(wanted, int | float):
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        return is_number and tolerance.admits(float(given), float(wanted))
    return isinstance(given, str) and words(given) == words(wanted)


def leaves(
    metric: Metric, answer: Answer | None, truth: Any, tolerance: Tolerance
) -> Iterator[tuple[str, bool]]:
    """Of the metric `json`, each field and whether it is right; a record that failed has none right."""
    if metric.name == "json":
        yield from json_fields(answer or Answer(""), truth, tolerance)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("exact", "equal, white space at the ends aside", _exact),
        Metric(
            "normalised",
            "equal once case, punctuation, articles and number words are made alike",
            _normalised,
        ),
        Metric("number", "the same number, within --tolerance", _number),
        Metric("anls", "1 - edit distance / length, 0 below 0.5 (ANLS)", _anls, is_binary=False),
        Metric("f1", "F1 over tokens, as SQuAD's evaluation has it", _f1, is_binary=False),
        Metric("choice", "the same label, with a confusion table", _normalised),
        Metric(
            "json",
            "every field of the JSON answer right; and each field by itself",
            _json,
            accepts_lists=False,
        ),
    )
}
"""The metrics by name."""

FEW_LABELS = 20


def choose_metric(truths: Sequence[Any], *, has_choices: bool) -> Metric:
    """The metric that fits the truths: `json` for objects, `number` for numbers, `choice` for labels.

    Args:
        truths: Some of them.
        has_choices: Whether the answers have probabilities of labels.
    """
    firsts = [truth[0] if isinstance(truth, list) and truth else truth for truth in truths]
    if firsts and all(isinstance(truth, dict) for truth in firsts):
        return METRICS["json"]
    if has_choices:
        return METRICS["choice"]
    if firsts and all(_is_number(truth) for truth in firsts):
        return METRICS["number"]
    labels = Counter(words(text_of(truth)) for truth in firsts)
    if firsts and len(labels) <= FEW_LABELS and len(firsts) >= 5 * len(labels) > 5:
        return METRICS["choice"]
    return METRICS["normalised"]


def _is_number(truth: Any) -> bool:
    if isinstance(truth, bool):
        return False
    found = number_in(text_of(truth))
    return found is not None and (found.is_whole_text or isinstance(truth, int | float))


def label_of(text: str) -> str:
    """An answer or a truth as the confusion table has it."""
    return plain(text) if not words(text) else words(text)
