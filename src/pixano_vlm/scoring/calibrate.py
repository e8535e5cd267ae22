"""Fits a calibration: which confidence stands for which share of right answers. Knows no file.

Platt's method: a logistic regression of being right on the log-odds of the confidence, with his smoothed targets
(Advances in Large Margin Classifiers, 1999), by scikit-learn. Two numbers, monotone: who was more confident stays
so, and a few hundred answers are enough; isotonic regression has steps, which tie answers that differ.
"""

from __future__ import annotations

from typing import Any

from pixano_vlm.errors import UsageError
from pixano_vlm.extras import import_extra
from pixano_vlm.records.calibration import Calibration, log_odds

__all__ = ["LEAST", "fit"]

LEAST = 20
"""Fewer answers fit nothing."""


def fit(confidence: Any, right: Any, *, model: str | None, metric: str) -> Calibration:
    """The calibration of these answers.

    Args:
        confidence: As the engine gave it, an array.
        right: 0 or 1 for each, an array.
        model: Whose answers they are.
        metric: What `right` means.

    Raises:
        UsageError: When there are too few answers, all of them are right or wrong, or confidence says the opposite.
    """
    n, positives = len(right), int(right.sum())
    if n < LEAST:
        raise UsageError(
            f"{n} answers with a confidence and a truth are too few to calibrate.",
            hint=f"Give at least {LEAST}.",
        )
    if not 0 < positives < n:
        raise UsageError(
            f"all {n:,} answers are {'right' if positives else 'wrong'}: nothing to calibrate by.",
            hint="Give answers of which some are wrong and some are right.",
        )
    import numpy

    linear = import_extra("sklearn.linear_model", extra="score", purpose="--calibrate")
    odds = numpy.array([log_odds(float(value)) for value in confidence])[:, None]
    high, low = (positives + 1) / (positives + 2), 1 / (n - positives + 2)
    target = numpy.where(right > 0, high, low)
    # A target between 0 and 1 is the answer once as right and once as wrong, with these weights.
    model_ = linear.LogisticRegression(C=1e6, max_iter=1000).fit(
        numpy.concatenate([odds, odds]),
        numpy.concatenate([numpy.ones(n), numpy.zeros(n)]),
        sample_weight=numpy.concatenate([target, 1 - target]),
    )
    slope, intercept = float(model_.coef_[0, 0]), float(model_.intercept_[0])
    if slope <= 0:
        raise UsageError(
            "more confident answers are not more often right here, so no calibration keeps their order.",
            hint="Give more answers, or answers to other questions.",
        )
    return Calibration(slope=slope, intercept=intercept, n=n, right=positives, model=model, metric=metric)
