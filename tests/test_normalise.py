"""Answers that mean the same are alike, and those that do not stay apart."""

from __future__ import annotations

import pytest

from pixano_vlm.models.normalise import number_in, squad_tokens, words


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The cat.", "cat"),
        ("  A   Cat!  ", "cat"),
        ("Yes.", "yes"),
        ("TRUE", "yes"),
        ("n", "no"),
        ("1,234", "1234"),
        ("Two dogs", "2 dogs"),
        ("\uff21\uff22\uff23", "abc"),  # full-width letters
        ("Stra\u00dfe", "strasse"),
        ("cafe\u0301", "caf\u00e9"),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940\u0964",
            "\u0939\u093f\u0928\u094d\u0926\u0940",
        ),  # a danda is a point
        ("3.5", "3.5"),
        ("\u22125", "-5"),
        ("a well-known man", "well known man"),
        ("A", "a"),  # lettered choices
    ],
)
def test_text_is_made_alike(text, same):
    assert words(text) == same


@pytest.mark.parametrize(
    ("one", "other"), [("5", "-5"), ("3.5", "35"), ("5 %", "5"), ("yes", "no"), ("$5", "5")]
)
def test_what_differs_stays_apart(one, other):
    assert words(one) != words(other)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("12", 12, ""),
        ("There are 12 of them.", 12, "of"),
        ("1,234", 1234, ""),
        ("1,234,567.5", 1234567.5, ""),
        ("1.234.567", 1234567, ""),
        ("1.234,56", 1234.56, ""),
        ("3,5 kg", 3.5, "kg"),
        ("1.234", 1.234, ""),
        ("0,125", 0.125, ""),
        ("1\u202f234", 1234, ""),
        ("1'000", 1000, ""),
        ("12 %", 12, "%"),
        ("\u22125 \u00b0C", -5, "\u00b0c"),
        ("$1,000", 1000, "$"),
        ("1e-3", 0.001, ""),
        ("seven", 7, ""),
        ("\u0663\u0665", 35, ""),  # Arabic digits
        (".5", 0.5, ""),
        ("5 and 5", 5, "and"),
    ],
)
def test_a_number_is_read_with_its_unit(text, value, unit):
    found = number_in(text)
    assert found is not None
    assert (found.value, found.unit) == (pytest.approx(value), unit)


@pytest.mark.parametrize("text", ["", "none", "3 or 4", "12 34", "1,2,3"])
def test_no_number_or_several_are_none(text):
    assert number_in(text) is None


def test_tokens_are_those_of_squad():
    assert squad_tokens("The U.S.A.'s an apple-pie, a day") == ["usas", "applepie", "day"]
