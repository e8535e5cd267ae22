"""Whether records get what transformers gives each alone: the check behind `load --verify`.

Compared are the tokens of prompts (strings, and conversations with system, assistant and tool turns, in both forms
of content), the tokens of answers in a batch, their text, where they end, and which special tokens are text. The
other side is `Oracle`, so that a mistake in how this package prepares a prompt shows too. A check that could compare
nothing has found nothing out, and is not ok.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from pixano_vlm.batching.oracle import Alone, Oracle
from pixano_vlm.batching.stop_criteria import StopCriteria
from pixano_vlm.errors import VLMError
from pixano_vlm.models.vlm import VLMInput, VLMOutput

Stream = Callable[[Iterable[tuple[int, VLMInput]]], Iterator[tuple[int, Any]]]

CHECKED_TOKENS = 16
"""Most special tokens that are looked for in decoded answers."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found."""

    records: int
    agree: int
    tokens: int
    """Tokens of answers compared."""
    prompts: dict[str, int] = field(default_factory=dict)
    """Kind of conversation -> prompts compared."""
    not_compared: str | None = None
    """Kinds that transformers itself cannot ask, or why nothing was compared."""
    first_difference: str | None = None
    """The first thing that differs, and how."""

    @property
    def ok(self) -> bool:
        """Whether something was compared, and nothing differed."""
        return self.records > 0 and self.agree == self.records and self.first_difference is None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        held = asdict(self)
        held["prompts"] = ", ".join(f"{kind} {count}" for kind, count in self.prompts.items()) or None
        return held | {"ok": self.ok}


class Verifier:
    """Compares one model's engine with the oracle.

    Args:
        oracle: transformers' own path.
        stop: The engine's; its records' tokens are read there.
        stream: Runs inputs together.
        prompt_ids: The tokens of a request's prompt as the engine prepares it.
    """

    def __init__(
        self, oracle: Oracle, stop: StopCriteria, stream: Stream, prompt_ids: Callable[[VLMInput], list[int]]
    ) -> None:
        self._oracle = oracle
        self._stop = stop
        self._stream = stream
        self._prompt_ids = prompt_ids
        self._differences: list[str] = []
        self._skipped: dict[str, str] = {}

    def verify(
        self, inputs: list[VLMInput], conversations: dict[str, list[VLMInput]], *, expects_template: bool
    ) -> Verification:
        """Compares everything.

        Args:
            inputs: Greedy requests with string prompts, to be answered.
            conversations: Kind -> greedy requests with messages, of which the prompts are compared.
            expects_template: Whether this is a model that is asked in turns.
        """
        wanted, usable = self._answers_alone(inputs)
        agree = self._compare_answers(usable, wanted)
        prompts = {kind: self._compare_prompts(kind, asked) for kind, asked in conversations.items()}
        self._compare_ends()
        self._compare_special_tokens()
        if self._oracle.template is None and expects_template:
            self._differences.append("no chat template was found, so no conversation was compared")
        why = "; ".join(f"{kind}: {reason}" for kind, reason in self._skipped.items())
        return Verification(
            records=len(usable),
            agree=agree,
            tokens=sum(len(alone.tokens) for alone in wanted),
            prompts={kind: count for kind, count in prompts.items() if count},
            not_compared=why or None,
            first_difference=self._differences[0] if self._differences else None,
        )

    def _answers_alone(self, inputs: list[VLMInput]) -> tuple[list[Alone], list[VLMInput]]:
        """What transformers answers to the requests that the model takes."""
        wanted: list[Alone] = []
        usable: list[VLMInput] = []
        for input in inputs:
            try:
                [(_, answer)] = self._stream([(0, input)])
            except VLMError as error:
                answer = error
            if isinstance(answer, VLMError):
                # A model that takes no text alone, or no second image, has others.
                self._skipped[f"trial {len(usable) + len(self._skipped) + 1}"] = _short(answer)
                continue
            try:
                wanted.append(self._oracle.answer(input))
            except Exception as error:  # the model's code, or no form of the messages
                self._skipped[f"trial {len(usable) + len(self._skipped) + 1}"] = _short(error)
            else:
                usable.append(input)
        return wanted, usable

    def _compare_answers(self, inputs: list[VLMInput], wanted: list[Alone]) -> int:
        """How many records have the prompt, the tokens and the text that they have alone."""
        texts: dict[int, str] = {}

        def stream(pairs: Iterable[tuple[int, VLMInput]]) -> Iterator[tuple[int, Any]]:
            for key, answer in self._stream(pairs):
                texts[key] = answer.generated_text if isinstance(answer, VLMOutput) else str(answer)
                yield key, answer

        got = stream_tokens(self._stop, stream, inputs)
        agree = 0
        for index, alone in enumerate(wanted):
            found = self._difference(alone, self._prompt_ids(inputs[index]), got[index], texts.get(index, ""))
            if found is None:
                agree += 1
            else:
                self._differences.append(f"record {index} of {len(inputs)}, {found}")
        return agree

    def _difference(self, alone: Alone, prompt: list[int], tokens: list[int], text: str) -> str | None:
        if alone.prompt_ids != prompt:
            return f"from prompt token {_first_difference(alone.prompt_ids, prompt)} on"
        if alone.tokens != tokens:
            return f"from token {_first_difference(alone.tokens, tokens)} on"
        chosen = self._stop.decoder.skip_special_tokens is not None
        if not chosen and _squeezed(alone.text) != _squeezed(text):
            return f"in its text: {text!r:.60} instead of {alone.text!r:.60}"
        return None

    def _compare_prompts(self, kind: str, asked: list[VLMInput]) -> int:
        compared = 0
        for input in asked:
            try:
                wanted = self._oracle.prompt_ids(input)
            except Exception as error:  # the template's or the processor's code, or no form of the messages
                self._skipped[kind] = _short(error)
                continue
            compared += 1
            try:
                got = self._prompt_ids(input)
            except VLMError as error:
                self._differences.append(f"a prompt with {kind}: {_short(error)}")
                continue
            if got != wanted:
                place = _first_difference(wanted, got)
                self._differences.append(f"a prompt with {kind}, from token {place} on")
        return compared

    def _compare_ends(self) -> None:
        ignored = self._oracle.end_ids - self._stop.end_ids
        if ignored:
            self._differences.append(f"the end tokens {sorted(ignored)} are ignored")

    def _compare_special_tokens(self) -> None:
        if self._stop.decoder.skip_special_tokens is not None:
            return
        for token in self._oracle.content_tokens[:CHECKED_TOKENS]:
            if self._oracle.text([token]) != self._stop.decoder.text([token]):
                self._differences.append(
                    f"the special token {self._oracle.text([token])!r} is lost in answers"
                )


def stream_tokens(stop: StopCriteria, stream: Stream, inputs: list[VLMInput]) -> dict[int, list[int]]:
    """The new tokens of each input of a stream, which its outputs hold only as text; none for a failed one."""
    with stop.recording() as recorded:
        for _ in stream(enumerate(inputs)):
            pass
    return {index: recorded.get(index, []) for index in range(len(inputs))}


def trial_conversations(image: str, max_new_tokens: int) -> dict[str, list[VLMInput]]:
    """Conversations of each kind, with string and with list contents.

    Args:
        image: An image, as a path or URL.
        max_new_tokens: Of each request.
    """

    def text(said: str) -> list[dict[str, Any]]:
        return [{"type": "text", "text": said}]

    placeholder = {"type": "image"}
    kinds: dict[str, list[tuple[list[tuple[str, Any]], int]]] = {
        "a system turn": [
            ([("system", content), ("user", [placeholder, *text("What is this?")])], 1)
            for content in (
                "Answer briefly.",
                text("Answer briefly."),
                [*text("Be brief."), *text("Be kind.")],
            )
        ],
        "an assistant turn": [
            (
                [
                    ("user", [placeholder, *text("What is this?")]),
                    ("assistant", content),
                    ("user", text("And where?")),
                ],
                1,
            )
            for content in ("A square.", text("A square."))
        ],
        "a begun answer": [
            ([("user", [placeholder, *text("What is this?")]), ("assistant", content)], 1)
            for content in ("This is a", text("This is a"))
        ],
        "a string": [([("user", "Name a colour.")], 0)],
        "a list": [([("user", text("Name a colour."))], 0)],
    }
    asked = {
        kind: [_ask(turns, image, count, max_new_tokens) for turns, count in held]
        for kind, held in kinds.items()
    }
    call = {"type": "function", "id": "call00001", "function": {"name": "measure", "arguments": {}}}
    asked["a tool turn"] = [
        VLMInput(
            prompt=[
                {"role": "user", "content": "How warm is it?"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "name": "measure", "tool_call_id": "call00001", "content": content},
            ],
            max_new_tokens=max_new_tokens,
            temperature=0,
        )
        for content in ("20 degrees", text("20 degrees"))
    ]
    return asked


def _ask(turns: list[tuple[str, Any]], image: str, images: int, max_new_tokens: int) -> VLMInput:
    messages = [{"role": role, "content": content} for role, content in turns]
    return VLMInput(prompt=messages, images=[image] * images, max_new_tokens=max_new_tokens, temperature=0)


def _first_difference(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _squeezed(text: str) -> str:
    """A text without its spaces, which a processor's own decoding may clean up."""
    return "".join(text.split())


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
