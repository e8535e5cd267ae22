"""Every metric against tables that were computed by hand."""

from __future__ import annotations

import pytest

from pixano_vlm.errors import UsageError
from pixano_vlm.scoring.metrics import METRICS, Answer, Tolerance, choose_metric, leaves


def value(metric, answer, truth, tolerance="0"):
    return METRICS[metric].score(Answer(answer), truth, Tolerance.read(tolerance))


@pytest.mark.parametrize(
    ("metric", "answer", "truth", "worth"),
    [
        ("exact", "cat", "cat", 1),
        ("exact", " cat\n", "cat", 1),
        ("exact", "Cat", "cat", 0),
        ("exact", "5", 5, 1),
        ("exact", "true", True, 1),
        ("exact", "cat", ["a cat", "cat"], 1),
        ("exact", "cat", [], 0),
        ("normalised", "A cat.", "cat", 1),
        ("normalised", "cats", "cat", 0),
        ("normalised", "Yes.", True, 1),
        ("number", "There are 5.", 5, 1),
        ("number", "1,234 m", "1234", 1),
        ("number", "5 km", "5 m", 0),
        ("number", "12%", 0.12, 1),
        ("number", "12", "12%", 1),
        ("number", "0.12", "12 %", 1),
        ("number", "3 or 5", 5, 0),
        ("number", "many", 5, 0),
        ("number", "0.1", 0.2, 0),
        ("choice", "Dog", "dog", 1),
        # ANLS, by hand: Levenshtein("hello", "hallo") = 1 of 5; ("abc", "xyz") = 3 of 3; 2 of 4 is just enough.
        ("anls", "hallo", "hello", 0.8),
        ("anls", "Hello  World", "hello world", 1),
        ("anls", "abc", "xyz", 0),
        ("anls", "abcd", "abxy", 0.5),
        ("anls", "abcde", "abxyz", 0),
        ("anls", "abcd", ["zzzz", "abce"], 0.75),
        ("anls", "", "", 1),
        # F1, by hand: 2 of 3 given and 2 of 2 wanted: 2*2/(3+2).
        ("f1", "big red dog", "the red dog", 0.8),
        ("f1", "cat cat", "cat", 2 / 3),
        ("f1", "cat", "dog", 0),
        ("f1", "", "", 1),
        ("f1", "the", "cat", 0),
        ("f1", "cat", ["dog", "a cat"], 1),
        ("json", '{"a": 1, "b": "The Cat"}', {"a": 1.0, "b": "cat"}, 1),
        ("json", '{"a": 1}', {"a": 1, "b": 2}, 0),
        ("json", '{"a": true}', {"a": 1}, 0),
        ("json", "no json", {"a": 1}, 0),
        ("json", '{"a": 1}', '{"a": 1}', 1),
    ],
)
def test_a_metric_is_worth_what_was_computed_by_hand(metric, answer, truth, worth):
    assert value(metric, answer, truth) == pytest.approx(worth)


@pytest.mark.parametrize(
    ("answer", "truth", "tolerance", "right"),
    [
        ("105", 100, "5%", 1),
        ("105.1", 100, "5%", 0),
        ("-95", -100, "5%", 1),
        ("10.5", 10, "0.5", 1),
        ("11", 10, "0.5", 0),
    ],
)
def test_a_number_may_be_off_by_the_tolerance(answer, truth, tolerance, right):
    assert value("number", answer, truth, tolerance) == right


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf%"])
def test_a_tolerance_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="is not a tolerance"):
        Tolerance.read(text)


def test_fields_of_json_are_judged_by_their_paths():
    answer = Answer("", {"box": {"w": 1, "h": 2}, "colours": ["red", "blue", "green"], "tags": []})
    truth = {"box": {"w": 1, "h": 3}, "colours": ["red", "black"], "tags": [], "name": None}
    assert list(leaves(METRICS["json"], answer, truth, Tolerance())) == [
        ("box.w", True),
        ("box.h", False),
        ("colours[]", True),
        ("colours[]", False),
        ("colours[]", False),  # one too many
        ("name", False),  # null that is not there
    ]


@pytest.mark.parametrize(
    ("truths", "has_choices", "metric"),
    [
        ([{"a": 1}], False, "json"),
        (["cat", "dog"], True, "choice"),
        (["12", "3.5 kg", 7], False, "number"),
        (["cat", "dog"] * 10, False, "choice"),
        (["a cat", "a dog"], False, "normalised"),
        ([True, False] * 10, False, "choice"),
    ],
)
def test_the_metric_that_fits_the_truths_is_chosen(truths, has_choices, metric):
    assert choose_metric(truths, has_choices=has_choices).name == metric
