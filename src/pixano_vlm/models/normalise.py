"""Answers as they are compared: text made alike, and the number that a text states. Knows no metric, vote or file.

`plain`: Unicode NFKC (full-width and composed letters become the usual ones), case folded, white space collapsed.
`words`: `plain`, then thousands separators of numbers taken away, each character that is neither a letter, a mark, a
digit nor a sign within a number made a space, the articles a, an, the left out, number words from zero to twelve as
digits, and true/false, y/n as yes/no where that is the whole text.
`squad_tokens`: as the evaluation of SQuAD has it: lower case, ASCII punctuation dropped, a, an, the left out, split.
`number_in`: see there.
"""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass

__all__ = ["Quantity", "number_in", "plain", "squad_tokens", "words"]

_NUMBER_WORDS = dict(
    zip(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
        ],
        map(str, range(13)),
        strict=True,
    )
)
_ARTICLES = frozenset({"a", "an", "the"})
_WHOLE = {"true": "yes", "y": "yes", "false": "no", "n": "no"}
_SPACES = "\u00a0\u2009\u202f"
_DIGITS = rf"\d+(?:[.,'\u2019 {_SPACES}]\d+)*"
_NUMBER = re.compile(
    rf"(?<![\w.,])(?P<sign>[-+])?\s?(?P<money>[$€£¥₹])?\s?(?P<digits>{_DIGITS}|(?<!\d)[.,]\d+)(?P<power>[eE][-+]?\d+)?"
    rf"(?:[{_SPACES} ]?(?P<unit>%|°\s?[a-zA-Z]?|[$€£¥₹]|[^\W\d_]+(?:[/²³][^\W\d_]*\d?)*))?"
)
_INNER_SIGN = re.compile(r"(?<=\d)[.,](?=\d)|(?<!\w)[-+](?=[\d.])|(?<!\w)\.(?=\d)")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SQUAD_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def plain(text: str) -> str:
    """The text in NFKC, case folded, white space collapsed; minus signs and dashes of numbers as `-`."""
    text = unicodedata.normalize("NFKC", text).casefold()
    # Once more: folding may take a composed letter apart.
    text = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
    return " ".join(text.split())


def words(text: str) -> str:
    """The text for the metric `normalised`; see the module's docstring."""
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), plain(text))
    kept = {match.start() for match in _INNER_SIGN.finditer(text)}
    text = "".join(
        character if place in kept or _is_of_word(character) else " " for place, character in enumerate(text)
    )
    found = [_NUMBER_WORDS.get(word, word) for word in text.split()]
    # The answer "a", to a question with lettered choices, is not an article.
    found = [word for word in found if word not in _ARTICLES] or found
    joined = " ".join(found)
    return _WHOLE.get(joined, joined)


def _is_of_word(character: str) -> bool:
    # Letters, their marks (vowels of Hindi are such), digits; % and currencies change what a number means.
    return (
        unicodedata.category(character)[0] in "LMN"
        or unicodedata.category(character) == "Sc"
        or character in "%°"
    )


def squad_tokens(text: str) -> list[str]:
    """The tokens of an answer as SQuAD's evaluation counts them."""
    return _SQUAD_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, and what it counts."""

    value: float
    unit: str = ""
    """`%`, a currency, or the word behind the number, folded; empty where there is none."""
    is_whole_text: bool = False
    """Whether the text is this number and its unit alone."""


def number_in(text: str) -> Quantity | None:
    """The one number that a text states; None where it states none, or several different ones.

    Digits of any script count, and the number words from zero to twelve where there are no digits. Commas, spaces
    and apostrophes before groups of three digits are thousands separators, as are dots where a comma follows or there
    are several (`1.234.567`). Another comma is a decimal one (`3,5`); a single dot always is one (`1.234` is 1.234).
    """
    text = unicodedata.normalize("NFKC", text).replace("\u2212", "-").strip().rstrip(".!").strip()
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    found = []
    for match in _NUMBER.finditer(text):
        digits = _read_digits(match["digits"])
        if digits is None:
            return None
        value = float((match["sign"] or "") + digits + (match["power"] or ""))
        unit = (match["money"] or match["unit"] or "").casefold().replace(" ", "")
        found.append(Quantity(value, unit, match.span() == (0, len(text))))
    if not found:
        named = [_NUMBER_WORDS[word] for word in re.findall(r"\w+", text.casefold()) if word in _NUMBER_WORDS]
        found = [Quantity(float(value)) for value in named]
    return found[0] if found and all(other.value == found[0].value for other in found) else None


def _read_digits(digits: str) -> str | None:
    digits = re.sub(rf"['\u2019 {_SPACES}](?=\d{{3}}(?!\d))", "", digits)
    if not re.fullmatch(r"[\d.,]+", digits):
        return None  # several numbers with spaces between
    last = max(digits.rfind("."), digits.rfind(","))
    if last < 0:
        return digits
    mark, other = digits[last], "," if digits[last] == "." else "."
    if other in digits:  # the last mark is the decimal one
        return digits.replace(other, "").replace(mark, ".") if digits.count(mark) == 1 else None
    if digits.count(mark) > 1 or (mark == "," and re.fullmatch(r"[1-9]\d{0,2},\d{3}", digits)):
        groups = digits.split(mark)
        return "".join(groups) if all(len(group) == 3 for group in groups[1:]) else None
    return digits.replace(mark, ".")
