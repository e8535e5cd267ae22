"""A conversation's questions, each with its answers, whatever order the messages were exported in.

Pixano numbers questions, and gives an answer the number of the question before it. Its exporter sorts the messages
of one number by their ids, which are not in the file, so that an answer may come before its question. Which question
it belongs to then follows from the others: nobody answers a question twice, and most have one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pixano_vlm.pixano_jsonl.answer_text import EMPTY
from pixano_vlm.pixano_jsonl.line import DatasetMessage

__all__ = ["Turns", "turns_of"]


@dataclass(slots=True)
class AskedQuestion:
    """A question of a conversation."""

    number: int
    """From 0, in the order of the conversation."""
    message: DatasetMessage
    answers: list[DatasetMessage] = field(default_factory=list)

    @property
    def given(self) -> list[DatasetMessage]:
        """Its answers that say anything."""
        return [answer for answer in self.answers if answer.content.strip() not in EMPTY]


@dataclass(slots=True)
class Turns:
    """A conversation in the order in which it is meant."""

    system: list[DatasetMessage]
    early: list[DatasetMessage]
    """Answers in a conversation without a question."""
    questions: list[AskedQuestion]

    def messages(self) -> list[DatasetMessage]:
        """All of them, each answer behind its question."""
        asked = (message for one in self.questions for message in (one.message, *one.answers))
        return [*self.system, *self.early, *asked]


def turns_of(messages: Sequence[DatasetMessage], *, is_exported: bool = False) -> Turns:
    """The questions of a conversation with their answers.

    Args:
        messages: Its messages as the file has them.
        is_exported: Whether Pixano's exporter wrote it; otherwise each answer is that of the question before it.
    """
    system = [message for message in messages if message.type == "SYSTEM"]
    rest = [message for message in messages if message.type != "SYSTEM"]
    asked = [place for place, message in enumerate(rest) if message.type == "QUESTION"]
    if not asked:
        return Turns(system, rest, [])
    # Where the messages of each question begin: with it, but for the first, before which answers may be.
    starts = _starts(rest, asked) if is_exported else [0, *asked[1:]]
    questions = [
        AskedQuestion(number, rest[asked[number]], [one for one in rest[start:end] if one.type == "ANSWER"])
        for number, (start, end) in enumerate(pairwise([*starts, len(rest)]))
    ]
    return Turns(system, [], questions)


def _starts(messages: Sequence[DatasetMessage], asked: Sequence[int]) -> list[int]:
    """Where the messages of each question begin: so that the fewest answers are a second one of their user, then that
    the fewest questions have several, and then that the fewest answers come before their question.
    """
    best: dict[int, tuple[tuple[int, int, int], list[int]]] = {0: ((0, 0, 0), [0])}
    """Where the messages of a question may begin -> the cost up to there, and the starts so far."""
    for place, following in pairwise([*asked, len(messages)]):
        ends = range(place + 1, following + 1) if following < len(messages) else [len(messages)]
        after: dict[int, tuple[tuple[int, int, int], list[int]]] = {}
        for start, ((again, several, early), starts) in best.items():
            for end in ends:
                users = [message.user for message in messages[start:end] if message.type == "ANSWER"]
                twice = len(users) - len(set(users))
                cost = (again + twice, several + (len(users) > 1), early + place - start)
                if end not in after or cost < after[end][0]:
                    after[end] = (cost, [*starts, end])
        best = after
    return best[len(messages)][1][:-1]
