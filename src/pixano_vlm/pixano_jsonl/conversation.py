"""A conversation's questions, each with its answers, whatever order the messages were exported in.

Pixano numbers questions, and gives an answer the number of the question before it. Its exporter sorts the messages
of one number by their ids, so that an answer may come before its question. Ids are not in the file, but those that an
importer derived follow from the place that a message had, and so they say which orders are possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pixano_vlm.pixano_jsonl.answer_text import EMPTY
from pixano_vlm.pixano_jsonl.ids import message_id
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


def turns_of(conversation: str, messages: Sequence[DatasetMessage], *, is_exported: bool = False) -> Turns:
    """The questions of a conversation with their answers.

    Args:
        conversation: Its id.
        messages: Its messages as the file has them.
        is_exported: Whether Pixano's exporter wrote it; otherwise each answer is that of the question before it.
    """
    asked = [place for place, message in enumerate(messages) if message.type == "QUESTION"]
    if not asked:
        system = [message for message in messages if message.type == "SYSTEM"]
        return Turns(system, [message for message in messages if message.type == "ANSWER"], [])
    sorted_starts = _sorted_starts(conversation, messages, asked) if is_exported else None
    if sorted_starts is not None:
        messages = _as_imported(conversation, messages, [*sorted_starts, len(messages)])
    # Where the messages of each question begin: with it, but for the first, before which anything may be.
    starts = sorted_starts or [0, *asked[1:]]
    asked = [place for place, message in enumerate(messages) if message.type == "QUESTION"]
    system, questions = [], []
    for number, (start, end) in enumerate(pairwise([*starts, len(messages)])):
        question = AskedQuestion(number, messages[asked[number]])
        for message in messages[start:end]:
            if message.type == "SYSTEM":
                system.append(message)
            elif message.type == "ANSWER":
                question.answers.append(message)
        questions.append(question)
    return Turns(system, [], questions)


def _sorted_starts(
    conversation: str, messages: Sequence[DatasetMessage], asked: Sequence[int]
) -> list[int] | None:
    """Where the messages of each question begin, if those of each are sorted by id; None where they cannot be.

    Of several ways, the one with the fewest questions that have more than one answer, then the one with the fewest
    answers in front of their question.
    """
    ids = [message_id(conversation, place) for place in range(len(messages))]
    best: dict[int, tuple[tuple[int, int], list[int]]] = {0: ((0, 0), [0])}
    """Where the messages of a question may begin -> the cost up to there, and the starts so far."""
    for number, place in enumerate(asked):
        last = number + 1 == len(asked)
        ends = [len(messages)] if last else range(place + 1, asked[number + 1] + 1)
        after: dict[int, tuple[tuple[int, int], list[int]]] = {}
        for start, ((several, early), starts) in best.items():
            for end in ends:
                group = messages[start:end]
                first = start + sum(message.type == "SYSTEM" for message in group)
                if place - start != sum(id < ids[first] for id in ids[start:end]):
                    continue  # by its id the question would be elsewhere among them
                count = sum(message.type == "ANSWER" for message in group)
                cost = (several + (count > 1), early + place - start)
                if end not in after or cost < after[end][0]:
                    after[end] = (cost, [*starts, end])
        best = after
    return best[len(messages)][1][:-1] if len(messages) in best else None


def _as_imported(
    conversation: str, messages: Sequence[DatasetMessage], bounds: Sequence[int]
) -> list[DatasetMessage]:
    """The messages in the places that they were imported from, the sorting of each question's undone."""
    found = list(messages)
    for start, end in pairwise(bounds):
        places = sorted(range(start, end), key=lambda place: message_id(conversation, place))
        for place, message in zip(places, messages[start:end], strict=True):
            found[place] = message
    return found
