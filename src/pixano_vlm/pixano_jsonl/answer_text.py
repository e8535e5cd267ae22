"""Answers to questions with choices, as Pixano writes them: `[[A,C]] why`, the letters being the choices in order.

What follows the letters is one line: Pixano's page reads no further. Past the 26th choice there is no letter, and its
page has none either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["EMPTY", "MOST_CHOICES", "answer_text", "chosen_in", "read_answer"]

EMPTY = frozenset({"", "[[]]"})
"""The contents of answers that nobody has given yet."""
MOST_CHOICES = 26
_FORM = re.compile(r"\[\[(.*?)\]\]\s*(.*)", re.DOTALL)


def answer_text(places: Sequence[int], explanation: str = "") -> str:
    """The content of an answer.

    Args:
        places: Which choices, from 0.
        explanation: Why; empty: nothing is said.
    """
    letters = ",".join(chr(ord("A") + place) for place in sorted(set(places)))
    return f"[[{letters}]] {' '.join(explanation.split())}".rstrip()


def chosen_in(content: str) -> tuple[list[int], str]:
    """The places of the choices in an answer's content, and what follows them; no places where it has none."""
    match = _FORM.fullmatch(content.strip())
    if match is None:
        return [], content
    letters = [letter.strip() for letter in match[1].split(",")]
    places = [ord(letter) - ord("A") for letter in letters if len(letter) == 1 and "A" <= letter <= "Z"]
    return places, match[2].strip()


def read_answer(content: str, choices: Sequence[str]) -> str:
    """An answer in words: the choices that its letters mean, then the explanation."""
    places, rest = chosen_in(content)
    words = ", ".join(choices[place] for place in places if place < len(choices))
    return f"{words}. {rest}" if words and rest else words or rest
