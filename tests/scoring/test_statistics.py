"""Intervals, AUROC, calibration and acceptance: against scikit-learn, scipy, hand tables, and by simulation."""

from __future__ import annotations

import math

import numpy
import pytest
from sklearn.metrics import roc_auc_score

from pixano_vlm.errors import UsageError
from pixano_vlm.records.calibration import Calibration, log_odds, read_calibration
from pixano_vlm.scoring import calibrate
from pixano_vlm.scoring.confidence import accept, auroc, calibration_error, coverage, reliability
from pixano_vlm.scoring.intervals import difference_of_means, difference_of_shares, mean, share


def answers(n, seed=0):
    """Confidences and rights of answers that are overconfident: the chance to be right is the confidence squared."""
    random = numpy.random.default_rng(seed)
    confidence = random.random(n) ** 0.25
    return confidence, (random.random(n) < confidence**2).astype(int)


def test_a_share_has_wilsons_interval():
    found = share(81, 263)  # Newcombe, Statistics in Medicine 17 (1998), method 3
    assert (found.value, found.low, found.high) == pytest.approx((0.3080, 0.2553, 0.3662), abs=5e-5)
    assert share(0, 20).low == 0
    assert share(0, 20).high == pytest.approx(0.1611, abs=5e-5)


def test_shares_and_means_and_differences_cover_in_93_to_97_percent_of_simulations():
    random = numpy.random.default_rng(17)
    times, covered = 1000, {"share": 0, "difference": 0}
    for _ in range(times):
        p, n = random.uniform(0.3, 0.9), 120
        found = share(int(random.binomial(n, p)), n)
        covered["share"] += found.low <= p <= found.high
        gain, loss = random.uniform(0.05, 0.2, 2)
        gained, lost, _ = random.multinomial(n, [gain, loss, 1 - gain - loss])
        found, _ = difference_of_shares(int(gained), int(lost), n)
        covered["difference"] += found.low <= gain - loss <= found.high
    for name, count in covered.items():
        assert 0.93 <= count / times <= 0.97, name


def test_a_mean_covers_in_93_to_97_percent_of_simulations(monkeypatch):
    monkeypatch.setattr("pixano_vlm.scoring.intervals.RESAMPLES", 400)
    random, times, covered = numpy.random.default_rng(5), 600, 0
    for _ in range(times):
        found = mean(random.beta(2, 1, 80))
        covered += found.low <= 2 / 3 <= found.high
    assert 0.93 <= covered / times <= 0.97


def test_a_mean_of_equal_values_is_not_certain():
    found = mean(numpy.ones(20))
    assert (found.low, found.high) == pytest.approx((share(20, 20).low, 1.0))


def test_many_values_have_the_interval_that_the_bootstrap_has(monkeypatch):
    values = numpy.random.default_rng(1).random(1500)
    bootstrapped = mean(values)
    monkeypatch.setattr("pixano_vlm.scoring.intervals.MOST_RESAMPLED", 0)
    students = mean(values)
    assert (students.low, students.high) == pytest.approx((bootstrapped.low, bootstrapped.high), abs=1.5e-3)


def test_mcnemars_test_is_exact():
    found, p = difference_of_shares(8, 2, 100)
    assert found.value == pytest.approx(0.06)
    assert p == pytest.approx(2 * (1 + 10 + 45) / 1024)  # by hand: at most 2 of 10 coins
    assert difference_of_shares(0, 0, 10)[1] == 1


def test_paired_means_differ_by_the_mean_difference():
    found = difference_of_means(numpy.array([0.5, -0.5, 0.25, 0.75] * 5))
    assert found.value == 0.25
    assert found.low < 0.25 < found.high


def test_auroc_by_hand_and_by_scikit_learn():
    # Right: 0.9, 0.4; wrong: 0.6, 0.4. Pairs: 0.9>0.6, 0.9>0.4, 0.4<0.6, 0.4=0.4 (a half): 2.5 of 4.
    assert auroc(numpy.array([0.9, 0.4, 0.6, 0.4]), numpy.array([1, 1, 0, 0])) == 0.625
    confidence, right = answers(500)
    assert auroc(confidence, right) == pytest.approx(roc_auc_score(right, confidence))
    assert math.isnan(auroc(confidence, numpy.ones(500)))


def test_the_calibration_error_by_hand():
    confidence = numpy.array([0.95, 0.95, 0.95, 0.95, 0.15, 0.15, 1.0])
    right = numpy.array([1, 1, 1, 0, 0, 0, 0])
    bins = reliability(confidence, right)
    assert [(one.low, one.right.n) for one in bins] == [(0.1, 2), (0.9, 5)]
    assert calibration_error(bins) == pytest.approx((2 * 0.15 + 5 * (0.96 - 0.6)) / 7)


def test_accuracy_against_coverage_by_hand():
    rows, area = coverage(numpy.array([0.9, 0.8, 0.7, 0.6]), numpy.array([1, 1, 0, 1]), steps=4)
    assert [(row.share, row.threshold, row.right.value) for row in rows] == [
        (0.25, 0.9, 1), (0.5, 0.8, 1), (0.75, 0.7, pytest.approx(2 / 3)), (1, 0.6, 0.75),
    ]  # fmt: skip
    assert area == pytest.approx((1 + 1 + 2 / 3 + 3 / 4) / 4)


def test_answers_of_the_same_confidence_are_accepted_together():
    rows, area = coverage(numpy.full(4, 0.5), numpy.array([1, 1, 0, 0]), steps=4)
    assert [(row.share, row.right.value) for row in rows] == [(1, 0.5)]
    assert area == 0.5


@pytest.mark.parametrize("wanted", [0.8, 0.9])
def test_accept_keeps_its_promise_in_95_percent_of_simulations(wanted):
    times, kept, accepted = 200, 0, 0.0
    confidence, _ = answers(200_000, seed=99)
    for seed in range(times):
        found = accept(*answers(1000, seed), wanted)
        accepted += found.share / times
        # The chance to be right is the confidence squared: the truth about the threshold is known.
        kept += found.threshold is None or (confidence[confidence >= found.threshold] ** 2).mean() >= wanted
    assert kept / times >= 0.95
    assert accepted >= 0.15  # and it is no empty promise


def test_accept_says_nothing_of_few_answers():
    assert accept(numpy.ones(298), numpy.ones(298, int), 0.99).threshold is None
    found = accept(numpy.linspace(0.5, 1, 700), numpy.ones(700, int), 0.99, of=1400)
    assert (found.threshold, found.share) == (0.5, 0.5)


def test_a_calibration_is_near_the_truth_and_keeps_the_order(tmp_path):
    confidence, right = answers(2000)
    fitted = calibrate.fit(confidence, right, model="m", metric="exact")
    fresh, fresh_right = answers(5000, seed=1)
    calibrated = numpy.array([fitted.apply(float(value)) for value in fresh])
    assert calibration_error(reliability(fresh, fresh_right)) > 0.08
    assert calibration_error(reliability(calibrated, fresh_right)) < 0.04
    assert auroc(calibrated, fresh_right) == pytest.approx(auroc(fresh, fresh_right))
    path = tmp_path / "calibration.json"
    path.write_text(fitted.model_dump_json())
    assert read_calibration(path) == fitted


def test_the_fit_is_platts_maximum():
    """At the maximum of the likelihood, the residuals sum to zero, alone and times the log-odds."""
    confidence, right = answers(300)
    fitted = calibrate.fit(confidence, right, model=None, metric="exact")
    positives = right.sum()
    target = numpy.where(right > 0, (positives + 1) / (positives + 2), 1 / (300 - positives + 2))
    residual = numpy.array([fitted.apply(float(value)) for value in confidence]) - target
    odds = numpy.array([log_odds(float(value)) for value in confidence])
    assert abs(residual.mean()) < 1e-4
    assert abs((residual * odds).mean()) < 1e-4


@pytest.mark.parametrize(
    ("confidence", "right", "why"),
    [
        (numpy.linspace(0, 1, 10), numpy.arange(10) % 2, "too few"),
        (numpy.linspace(0, 1, 50), numpy.ones(50, int), "all 50 answers are right"),
        (numpy.linspace(0, 1, 50), (numpy.arange(50) < 25).astype(int), "not more often right"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(confidence, right, why):
    with pytest.raises(UsageError, match=why):
        calibrate.fit(confidence, right, model=None, metric="exact")


def test_confidences_of_0_and_1_have_a_calibrated_one():
    fitted = Calibration(slope=1.0, intercept=0.0, n=1, right=1)
    assert 0 < fitted.apply(0.0) < 1e-8
    assert 1 - 1e-8 < fitted.apply(1.0) < 1


def test_a_file_that_is_not_a_calibration_is_refused(tmp_path):
    (tmp_path / "c.json").write_text('{"slope": -1}')
    with pytest.raises(UsageError, match=r"c\.json is not a calibration"):
        read_calibration(tmp_path / "c.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read_calibration(tmp_path / "none.json")
