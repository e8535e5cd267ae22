"""95 % intervals of shares, means and differences. Knows numbers only; scipy does the statistics (extra `score`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pixano_vlm.extras import import_extra

__all__ = ["LEVEL", "Estimate", "difference_of_means", "difference_of_shares", "mean", "ratio", "share"]

LEVEL = 0.95
MOST_RESAMPLED = 2_000
"""Up to so many values a mean's interval is bootstrapped; beyond, Student's t says the same."""
RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """As JSON has it; a value that is not known is None."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        return {**{name: None if math.isnan(v) else v for name, v in values.items()}, "n": self.n}


def _stats() -> Any:
    return import_extra("scipy.stats", extra="score", purpose="an interval")


def share(right: int, n: int) -> Estimate:
    """A proportion with Wilson's score interval."""
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    found = _stats().binomtest(int(right), int(n)).proportion_ci(LEVEL, method="wilson")
    return Estimate(right / n, float(found.low), float(found.high), n)


def mean(values: Any) -> Estimate:
    """The mean of values between 0 and 1 (an array): bootstrapped (BCa), of many values by Student's t.

    Where all values are the same, neither knows anything; then Wilson's interval, which is the widest that values
    between 0 and 1 can have.
    """
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(values.mean())
    if n < 2 or float(values.min()) == float(values.max()):
        z = float(_stats().norm.ppf((1 + LEVEL) / 2))
        middle = (value + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(max(value * (1 - value), 0.0) / n + z * z / (4 * n * n))
        return Estimate(value, max(0.0, middle - half), min(1.0, middle + half), n)
    low, high = _interval(values)
    return Estimate(value, max(0.0, low), min(1.0, high), n)


def ratio(parts: Any, wholes: Any) -> Estimate:
    """The sum of some counts over that of others, image by image (two arrays): bootstrapped over the images.

    Things in one image are not independent of each other, and images are taken to be. Where all images say the same,
    Wilson's interval of the sums.
    """
    n, of = len(parts), float(wholes.sum()) if len(wholes) else 0.0
    if n == 0 or of == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    import numpy

    value = float(parts.sum()) / of
    picked = numpy.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    sums = wholes[picked].sum(axis=1)
    found = parts[picked].sum(axis=1)[sums > 0] / sums[sums > 0]
    low, high = numpy.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(found) else (value, value)
    if low == high:
        whole = share(round(parts.sum()), round(of))
        low, high = whole.low, whole.high
    return Estimate(value, float(low), float(high), int(of))


def _interval(values: Any) -> tuple[float, float]:
    stats, n = _stats(), len(values)
    if n <= MOST_RESAMPLED:
        import numpy

        found = stats.bootstrap(
            (values,), numpy.mean, confidence_level=LEVEL, n_resamples=RESAMPLES, vectorized=True, batch=200,
            rng=numpy.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        if math.isfinite(found.low) and math.isfinite(found.high):
            return float(found.low), float(found.high)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    low, high = stats.t.interval(LEVEL, n - 1, loc=float(values.mean()), scale=error)
    return float(low), float(high)


def difference_of_shares(gained: int, lost: int, n: int) -> tuple[Estimate, float]:
    """The difference of two proportions over the same records, and McNemar's exact p-value.

    The interval is the adjusted one of Bonett and Price (British Journal of Mathematical and Statistical Psychology
    65, 2012), which holds its level for small counts.

    Args:
        gained: Records that only the second has right.
        lost: Records that only the first has right.
        n: All records.
    """
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0), math.nan
    stats = _stats()
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    p = float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    middle = up - down
    return Estimate((gained - lost) / n, max(-1.0, middle - half), min(1.0, middle + half), n), p


def difference_of_means(differences: Any) -> Estimate:
    """The mean of paired differences (an array) with its interval, by bootstrap or Student's t."""
    n = len(differences)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(differences.mean())
    if n < 2 or float(differences.min()) == float(differences.max()):
        return Estimate(value, -1.0 if n < 2 else value, 1.0 if n < 2 else value, n)
    low, high = _interval(differences)
    return Estimate(value, max(-1.0, low), min(1.0, high), n)
