"""Whether the answer of an output line is right: its truth, and the metric that compares them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pixano_vlm.errors import UsageError
from pixano_vlm.records.output_line import OutputLine
from pixano_vlm.scoring.metrics import METRICS, RIGHT_FROM, Answer, Metric, Tolerance, choose_metric
from pixano_vlm.scoring.truth import MISSING, JudgedLine, Truth

__all__ = ["Judge", "judge_for", "read_lines"]

LOOKED_AT = 1_000
"""How many truths the metric is chosen by."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares answers with truths by one metric."""

    truth: Truth
    metric: Metric
    tolerance: Tolerance
    is_chosen: bool = False
    """Whether nobody asked for this metric."""

    def value(self, line: JudgedLine) -> float | None:
        """What the answer is worth, from 0 to 1; 0 for a record that failed, None where there is no truth."""
        wanted = self.truth.of(line)
        if wanted is MISSING:
            return None
        answer = answer_of(line)
        return 0.0 if answer is None else self.metric.score(answer, wanted, self.tolerance)

    def is_right(self, value: float) -> bool:
        """Whether a value counts as right."""
        return value >= (1.0 if self.metric.is_binary else RIGHT_FROM)


def answer_of(line: JudgedLine) -> Answer | None:
    """What of a line is compared; None where the record failed."""
    if line.status != "ok" or line.generated_text is None:
        return None
    return Answer(line.generated_text, line.parsed)


def judge_for(output: Path, truth: Truth, metric: str | None, tolerance: Tolerance) -> Judge:
    """The judge of an output, by the metric that was asked for or the one that fits its truths.

    Raises:
        UsageError: When there is no such metric, or no record of the output has a truth.
    """
    if metric is not None and metric not in METRICS:
        raise UsageError(f"there is no metric {metric!r}.", hint=f"--metric {', '.join(METRICS)}.")
    with_truth = ((line, wanted) for line in read_lines(output) if (wanted := truth.of(line)) is not MISSING)
    some = list(islice(with_truth, LOOKED_AT))
    if not some:
        raise UsageError(
            f"no record of {output} has a truth in {truth.name}.",
            hint="--truth KEY names a key of the records' metadata, --truth FILE a file with their ids. "
            + _what_there_is(output, truth),
        )
    if metric is not None:
        return Judge(truth, METRICS[metric], tolerance)
    has_choices = any(getattr(line, "probabilities", None) for line, _ in some)
    return Judge(
        truth,
        choose_metric([wanted for _, wanted in some], has_choices=has_choices),
        tolerance,
        is_chosen=True,
    )


def _what_there_is(output: Path, truth: Truth) -> str:
    first = next(read_lines(output), None)
    if first is None:
        return f"{output} has no lines."
    if truth.by_id is not None:
        return f"The first id there is {first.id!r}, and {next(iter(truth.by_id))!r} in {truth.name}."
    return f"The metadata there has {', '.join(first.metadata) or 'no key'}."


def read_lines(output: Path) -> Iterator[OutputLine]:
    """The lines of an output, one at a time.

    Raises:
        UsageError: When there is none, or a line is not one of an output.
    """
    try:
        with output.open("rb") as file:
            for number, text in enumerate(file, 1):
                if not text.strip():
                    continue
                try:
                    values = json.loads(text)
                    yield OutputLine.model_validate(values)
                except (ValueError, RecursionError, ValidationError):
                    if not text.endswith(b"\n"):
                        return  # a run is writing it, or was when it was killed
                    raise UsageError(
                        f"{output}:{number} is not a line of an output of `pixano-vlm generate`.",
                        hint="Give the JSONL file that `generate` wrote.",
                    ) from None
    except FileNotFoundError:
        raise UsageError(
            f"there is no output {output}.", hint="Give the file that `generate` wrote."
        ) from None
    except OSError as error:
        raise UsageError(f"{output} cannot be read: {error.strerror or error}.") from error


def confidence_of(line: JudgedLine, *, raw: bool = False) -> float | None:
    """A line's confidence; `raw`: before a calibration, where one was applied."""
    value: Any = getattr(line, "raw_confidence", None) if raw else None
    value = getattr(line, "confidence", None) if value is None else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None
