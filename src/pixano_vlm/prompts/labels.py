"""Labels as tokens: the tree of all of them after one prompt, and what its probabilities say of each label.

The probability of a label is that of its tokens and of an end of the turn after them, whichever of the model's end
tokens; normalised over the labels. So a label that begins another does no harm. Outer white space is not part of an
answer's text: where a prompt does not end in any, a label counts with and without a space before it. Knows no engine
and no cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pixano_vlm.errors import GenerationError, PromptError
from pixano_vlm.models.generation import settings_used
from pixano_vlm.models.vlm import DECIMALS, UsageInfo, VLMInput, VLMOutput
from pixano_vlm.prompts.choices import check_choices

__all__ = ["LabelScores", "LabelTree", "check_labels", "label_answer", "log_sum", "tree_of"]

TAIL = 32
"""Characters of the prompt's end that labels are tokenised behind."""
UNSEEN = 18.0
"""How far below the likeliest label (a difference of logarithms) one may be, its probability multiplied by the number
of labels, before it is left out: all that are left out have less than 1e-7 together."""
FIRST_NODES = 48
"""Nodes that are computed before the first look at which labels are left."""


PRECISE = 9
"""Decimals of the probabilities of labels, which sum to 1."""


@dataclass(frozen=True, slots=True)
class LabelTree:
    """Tokens of all labels, shared prefixes once, in an order in which parents come first."""

    labels: tuple[str, ...]
    tokens: tuple[int, ...]
    """Token of each node."""
    parents: tuple[int, ...]
    """Node before each node; -1: the prompt."""
    depths: tuple[int, ...]
    """Tokens from the prompt to each node, itself included."""
    ends: tuple[tuple[int, ...], ...]
    """For each label the nodes that it ends in: one for each way in which it may be written."""

    def path(self, node: int) -> list[int]:
        """The nodes from the prompt to one, itself included."""
        found: list[int] = []
        while node >= 0:
            found.append(node)
            node = self.parents[node]
        return found[::-1]

    @property
    def leaves(self) -> list[int]:
        """The nodes that nothing comes after."""
        inner = set(self.parents)
        return [node for node in range(len(self.tokens)) if node not in inner]

    def only(self, labels: Sequence[int]) -> LabelTree:
        """The tree of some of the labels, given by their places."""
        kept = sorted({node for label in labels for end in self.ends[label] for node in self.path(end)})
        place = {-1: -1, **{node: number for number, node in enumerate(kept)}}
        return LabelTree(
            labels=tuple(self.labels[label] for label in labels),
            tokens=tuple(self.tokens[node] for node in kept),
            parents=tuple(place[self.parents[node]] for node in kept),
            depths=tuple(self.depths[node] for node in kept),
            ends=tuple(tuple(place[end] for end in self.ends[label]) for label in labels),
        )

    def telling(self) -> list[int]:
        """The places of up to three labels that a mistake in computing a tree would show at.

        The longest, the one that shares most with it, and the one that shares least.
        """
        paths = [set(self.path(ends[0])) for ends in self.ends]
        longest = max(range(len(paths)), key=lambda label: len(paths[label]))
        others = sorted(
            (label for label in range(len(paths)) if label != longest),
            key=lambda label: len(paths[label] & paths[longest]),
        )
        return sorted({longest, *others[:1], *others[-1:]})


def check_labels(choices: Any, response_format: dict[str, Any] | None, *, thinks: bool) -> list[str]:
    """A record's labels, found to be such that can be scored after its prompt.

    Args:
        choices: What it asks for.
        response_format: What else it asks of its answer.
        thinks: Whether its prompt ends inside of thoughts.

    Raises:
        PromptError: When they cannot be.
    """
    try:
        labels = check_choices(choices)
    except ValueError as error:
        raise PromptError(f"choices {error}.") from None
    if response_format is not None and response_format.get("type") != "text":
        raise PromptError(
            "choices and response_format cannot both be followed.",
            hint="Leave one out; an enum in the schema has no probabilities.",
        )
    if thinks:
        raise PromptError(
            "choices: this model's prompt ends inside of its thoughts, and labels are scored right after it.",
            hint="Turn thinking off, such as with --template enable_thinking=false.",
        )
    return labels


def tree_of(labels: Sequence[str], prompt: str, tokenize: Callable[[str], list[int]]) -> LabelTree:
    """The tree of some labels after a prompt.

    Args:
        labels: They; checked already.
        prompt: The prompt's text.
        tokenize: Text -> ids, without special tokens around them.

    Raises:
        PromptError: When two labels have the same tokens, or one has none.
    """
    nodes: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    ends: list[tuple[int, ...]] = []
    owner: dict[int, str] = {}
    for label in labels:
        found = []
        for ids in _ways(label.strip(), prompt, tokenize):
            node = -1
            for token in ids:
                parent, node = node, nodes.setdefault((node, token), len(tokens))
                if node == len(tokens):
                    tokens.append(token)
                    parents.append(parent)
                    depths.append(1 if parent < 0 else depths[parent] + 1)
            other = owner.setdefault(node, label)
            if other != label:
                raise PromptError(
                    f"choices {other!r} and {label!r} are the same tokens to this model.",
                    hint="Leave one out.",
                )
            if node not in found:
                found.append(node)
        if not found or -1 in found:
            raise PromptError(f"choices: this model has no tokens for {label!r}.")
        ends.append(tuple(found))
    return LabelTree(tuple(labels), tuple(tokens), tuple(parents), tuple(depths), tuple(ends))


def _ways(label: str, prompt: str, tokenize: Callable[[str], list[int]]) -> list[list[int]]:
    """The tokens of a label behind a prompt; with a space before it, too, where the prompt does not end in one."""
    tail = prompt[-TAIL:]
    before = tokenize(tail)

    def behind(text: str) -> list[int]:
        whole = tokenize(tail + text)
        # Where a label changes the tokens of what is before it, which are computed already, it has those of its own.
        return whole[len(before) :] if before and whole[: len(before)] == before else tokenize(text)

    ways = [behind(label)]
    if prompt and not prompt[-1].isspace():
        ways.append(behind(" " + label))
    return [way for number, way in enumerate(ways) if way and way not in ways[:number]]


class LabelScores:
    """What a model's scores say of a tree, taken in parts, the prompt's (-1) first.

    Args:
        tree: Of the labels.
        ends: The model's end tokens.
    """

    def __init__(self, tree: LabelTree, ends: frozenset[int]) -> None:
        self._tree = tree
        self._ends = sorted(ends)
        self._children: dict[int, list[int]] = {}
        for node, parent in enumerate(tree.parents):
            self._children.setdefault(parent, []).append(node)
        self._ended: dict[int, float] = {}  # the logarithm of an end's probability after a node
        self._path: dict[int, float] = {-1: 0.0}  # that of all tokens up to a node
        self._unseen = UNSEEN + math.log(len(tree.labels))

    @property
    def ends(self) -> list[int]:
        """The model's end tokens."""
        return self._ends

    def tokens_after(self, place: int) -> list[int]:
        """The tokens that come next in the tree, after a node or after the prompt (-1)."""
        return [self._tree.tokens[node] for node in self._children.get(place, [])]

    def take(self, place: int, ended: float, after: Sequence[float]) -> None:
        """Takes what a model gives after a node, or after the prompt (-1), as logarithms of probabilities.

        Args:
            place: The node; its parent was taken before.
            ended: That of all end tokens together; 0 where the model has none.
            after: Those of `tokens_after`.
        """
        self._ended[place] = ended
        for node, log in zip(self._children.get(place, []), after, strict=True):
            self._path[node] = self._path[place] + log

    def next_nodes(self) -> list[int]:
        """The nodes whose scores are wanted next, parents first; none when the rest would change nothing.

        A label cannot be likelier than what it begins with. So the likeliest beginnings are computed first, whole,
        and then only what is not much less likely than a label that is known.
        """
        bounds: list[float] = []
        for node, parent in enumerate(self._tree.parents):
            bounds.append(self._path[node] if node in self._path else bounds[parent])
        best = max(self._logs_of_labels())
        left = [
            node
            for node, bound in enumerate(bounds)
            if node not in self._ended and not bound <= best - self._unseen
        ]
        # Nodes of one bound are together, parents first: the order is stable.
        left.sort(key=lambda node: -bounds[node])
        return left if best > -math.inf else left[:FIRST_NODES]

    def probabilities(self) -> dict[str, float]:
        """The probability of each label; they sum to 1."""
        of_labels = self._logs_of_labels()
        if not max(of_labels) > -math.inf or any(map(math.isnan, of_labels)):
            raise GenerationError(
                "the model's scores for the labels are not finite numbers.",
                hint="Try dtype float32 or bfloat16.",
            )
        whole = log_sum(of_labels)
        shares = [math.exp(log - whole) for log in of_labels]
        total = math.fsum(shares)
        return {label: share / total for label, share in zip(self._tree.labels, shares, strict=True)}

    def _logs_of_labels(self) -> list[float]:
        """The logarithm of each label's probability; minus infinity for one whose nodes were not computed."""
        return [
            log_sum([self._path[node] + self._ended[node] for node in nodes if node in self._ended])
            for nodes in self._tree.ends
        ]


def log_sum(logs: Sequence[float]) -> float:
    """The logarithm of the sum of what some logarithms are of."""
    highest = max(logs, default=-math.inf)
    if highest == -math.inf:
        return highest
    return highest + math.log(math.fsum(math.exp(log - highest) for log in logs))


def label_answer(
    input: VLMInput, tree: LabelTree, probabilities: dict[str, float], prompt_tokens: int
) -> VLMOutput:
    """The answer of a record whose labels were scored: the likeliest, the first of equal ones.

    Args:
        input: What was asked.
        tree: The labels.
        probabilities: Of each label.
        prompt_tokens: How many the prompt has.
    """
    label = max(probabilities, key=lambda label: probabilities[label])
    nodes = tree.ends[tree.labels.index(label)]
    used = settings_used(input, input.max_new_tokens)
    return VLMOutput(
        generated_text=label,
        usage=UsageInfo.of(prompt_tokens, min(tree.depths[node] for node in nodes) + 1),
        generation_config={"do_sample": False, "choices": used["choices"]},
        finish_reason="stop",
        confidence=round(probabilities[label], DECIMALS),
        probabilities={name: round(value, PRECISE) for name, value in probabilities.items()},
    )
