"""JSON that validates, enforced token by token: what each record's schema still allows.

Every record has its own state, so constrained and free records share a batch. The grammar and the masks are
llguidance's (extra `json`). What is added here is an end in time: near `max_new_tokens` the answer is brought to a
close, so that it is never cut off in the middle of an object. Knows no model.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixano_vlm.batching.grammar_tokenizer import grammar_tokenizer
from pixano_vlm.errors import PromptError
from pixano_vlm.prompts.response_format import INSTALL, schema_of

HINT = "Use the parts of JSON Schema that llguidance knows."

LONGEST = 10_000
"""Tokens up to which the shortest answer is looked for."""
CLOSERS = ("}", "]", '"', ",", "0", "a", "true")
"""What brings an open JSON value to its end, best first. The comma ends a number that something must follow."""


class Grammars:
    """Compiles the schemas of a run for one tokenizer.

    Args:
        tokenizer: The model's tokenizer, a fast one.
        vocabulary: How many logits the model gives.
        end_ids: The tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._end_ids = sorted(end_ids)
        self._lock = threading.Lock()
        self._compiled: Any = None
        self._closers: list[int | None] = []
        self._constraints = lru_cache(maxsize=64)(self._compile)

    def constrain(self, response_format: dict[str, Any], max_new_tokens: int) -> Constraint | None:
        """A fresh state for one record; None where it asks for free text.

        Args:
            max_new_tokens: Must have room for the shortest answer that follows the schema.
            response_format: OpenAI's: `{"type": "json_object"}`, or `{"type": "json_schema", "json_schema":
                {"schema": {...}}}`.

        Raises:
            PromptError: When the form or the schema cannot be enforced, or llguidance is not installed; says why.
        """
        try:
            schema = schema_of(response_format)
        except ValueError as error:
            raise PromptError(f"response_format {error}.") from None
        if schema is None:
            return None
        with self._lock:
            constraint = self._constraints(json.dumps(schema))
        if constraint.shortest > max_new_tokens:
            raise PromptError(
                f"an answer that follows the schema takes about {constraint.shortest:,} tokens or more; "
                f"max_new_tokens is {max_new_tokens:,}.",
                hint="Raise max_new_tokens.",
            )
        return constraint.fresh()

    def _compile(self, schema: str) -> Constraint:
        try:
            from llguidance import LLMatcher
        except ImportError as error:
            raise PromptError(
                "an answer in JSON needs the package llguidance.", hint=f"{INSTALL}."
            ) from error
        if self._compiled is None:
            self._compiled = grammar_tokenizer(self._tokenizer, self._vocabulary, self._end_ids)
            found = [self._tokenizer.encode(text, add_special_tokens=False) for text in CLOSERS]
            self._closers = [ids[0] if len(ids) == 1 else None for ids in found]
        matcher = LLMatcher(self._compiled, _grammar(schema))
        if matcher.is_error():
            raise PromptError(f"the response_format {_unenforceable(schema, matcher.get_error())}", hint=HINT)
        return Constraint(matcher, self._vocabulary, self._end_ids, self._closers)


class Constraint:
    """What one record may still say.

    Args:
        matcher: At the beginning of an answer. It stays there.
        vocabulary: How many logits the model gives.
        end_ids: The tokens that end an answer.
        closers: The token of each of `CLOSERS`, where it is a single one.
        shortest: Tokens of about the shortest answer that there is, where that is known already.
    """

    def __init__(
        self,
        matcher: Any,
        vocabulary: int,
        end_ids: list[int],
        closers: list[int | None],
        shortest: int | None = None,
    ) -> None:
        self._fresh = matcher
        self._vocabulary = vocabulary
        self.end_ids = end_ids
        """The tokens that end an answer."""
        self._closers = closers
        self._plan: list[int] = []
        if shortest is None:
            way = self._closing(matcher, LONGEST)
            shortest = LONGEST + 1 if way is None else len(way)
        self.shortest = shortest
        """Tokens of about the shortest answer that there is."""
        self._matcher = matcher.deep_copy()
        # What `_matcher` allows next, once it was asked for: masks and probabilities both need it.
        self._allowed: NDArray[np.bool_] | None = None
        self._way_out: list[int] | None = None
        """Tokens that would bring the answer to its end from here, if that is known."""

    def fresh(self) -> Constraint:
        """The same for another record, at the beginning."""
        return Constraint(self._fresh, self._vocabulary, self.end_ids, self._closers, self.shortest)

    @property
    def is_complete(self) -> bool:
        """Whether the answer has ended."""
        return bool(self._matcher.is_stopped())

    def restart(self) -> None:
        """Back to the beginning."""
        self._matcher = self._fresh.deep_copy()
        self._allowed = None
        self._plan, self._way_out = [], None

    def restrict(self, scores: Tensor) -> Tensor:
        """Minus infinity for every token that may not come next.

        Args:
            scores: `[..., vocabulary]` of one record.
        """
        if self._plan:
            only = torch.full_like(scores, float("-inf"))
            only[..., self._plan[0]] = 0.0
            return only
        forbidden = torch.from_numpy(~self.allowed()).to(scores.device)
        return scores.masked_fill(forbidden, float("-inf"))

    def allows(self, token: int) -> bool:
        """Whether a token may come next: quicker than a mask, and for most tokens of a model that follows, enough."""
        return not self._plan and self._matcher.validate_tokens([token]) == 1

    def allowed(self) -> NDArray[np.bool_]:
        """The tokens `[vocabulary]` that the schema allows next, whether or not there is time for all of them."""
        if self._allowed is None:
            self._allowed = _bits(self._matcher, self._vocabulary)
        return self._allowed

    def accept(self, token: int, remaining: int) -> int:
        """Takes the chosen token, or a closing one in its place when there would be no time to close after it.

        Args:
            token: One that is allowed.
            remaining: Tokens that may be generated, this one included.

        Returns:
            The token that really comes next.
        """
        self._allowed = None
        if self._plan:
            token = self._plan.pop(0)
        elif remaining <= 4 * self.shortest + 64:
            # Only near the end is it worth looking whether the end can still be reached.
            after = self._matcher.deep_copy()
            after.consume_token(token)
            way_out = self._way_out_after(token, after, remaining - 1)
            if way_out is not None:
                self._matcher, self._way_out = after, way_out
                return token
            plan = self._way_out or self._closing(self._matcher, remaining)
            if plan:
                token, *self._plan = plan
        self._matcher.consume_token(token)
        return token

    def _way_out_after(self, token: int, after: Any, limit: int) -> list[int] | None:
        """Tokens that bring the answer to its end from `after`, which `token` has led to; None: more than `limit`."""
        known = self._way_out
        if known:
            if known[0] == token:
                return known[1:]
            # Most tokens are one more of a text or a number: the way out is as it was.
            if len(known) <= limit and after.validate_tokens(known) == len(known):
                probe = after.deep_copy()
                probe.consume_tokens(known)
                if probe.is_stopped():  # or else a backslash has made its quotes part of the text
                    return known
        return self._closing(after, limit)

    def _closing(self, matcher: Any, limit: int) -> list[int] | None:
        """Tokens that bring the answer to its end, about as few as can be; None when more than `limit`."""
        state = matcher.deep_copy()
        plan: list[int] = []
        while not state.is_stopped():
            forced = state.compute_ff_tokens()
            step = list(forced) if forced else [self._towards_end(state)]
            if step[0] < 0 or len(plan) + len(step) > limit or not state.consume_tokens(step):
                return None
            plan += step
        return plan

    def _towards_end(self, state: Any) -> int:
        allowed = _bits(state, self._vocabulary)
        for end in self.end_ids:
            if allowed[end]:
                return end
        brace, bracket, quote, comma, zero, letter, true = self._closers
        # A letter is allowed in a string, where a brace is only one more character.
        in_string = letter is not None and allowed[letter] and brace is not None and allowed[brace]
        order = (quote, letter) if in_string else (brace, bracket, quote, comma, zero, true, letter)
        for token in order:
            if token is not None and allowed[token]:
                return token
        first = np.flatnonzero(allowed)
        return int(first[0]) if len(first) else -1


def _bits(matcher: Any, vocabulary: int) -> NDArray[np.bool_]:
    """The tokens `[vocabulary]` that may come next."""
    packed = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[:vocabulary].astype(np.bool_)
    return bits if len(bits) == vocabulary else np.pad(bits, (0, vocabulary - len(bits)))


def _grammar(schema: str) -> str:
    from llguidance import LLMatcher

    # Free white space would let a model write nothing but blanks for ever.
    return str(LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_flexible": False}))


def unenforceable(response_format: dict[str, Any]) -> str | None:
    """Why a `response_format` of the right form cannot be enforced, whatever the model; None when it can be."""
    from llguidance import LLMatcher

    schema = schema_of(response_format)
    if schema is None:
        return None
    error = LLMatcher.validate_grammar(_grammar(json.dumps(schema)))
    return f"{_unenforceable(json.dumps(schema), error)} {HINT}" if error else None


def _unenforceable(schema: str, error: str) -> str:
    return f"cannot be enforced{_where(schema)}: {' '.join(error.split())[:300].rstrip('.')}."


def _where(schema: str) -> str:
    """The innermost part of a schema that cannot be enforced by itself, in words."""
    from llguidance import LLMatcher

    whole = json.loads(schema)
    definitions = {key: whole[key] for key in ("$defs", "definitions") if key in whole}
    for path, part in _parts(whole):
        if path and LLMatcher.validate_grammar(_grammar(json.dumps({**definitions, **part}))):
            return f", at {path}"
    return ""


def _parts(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas inside a schema, innermost first, and where each stands."""
    if isinstance(schema, dict):
        for key in ("properties", "patternProperties", "$defs", "definitions"):
            inner = schema.get(key)
            for name, part in inner.items() if isinstance(inner, dict) else ():
                yield from _parts(part, f"{path}.{key}.{name}")
        for key in ("items", "additionalProperties", "contains", "not", "if", "then", "else"):
            yield from _parts(schema.get(key), f"{path}.{key}")
        for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            inner = schema.get(key)
            for number, part in enumerate(inner if isinstance(inner, list) else ()):
                yield from _parts(part, f"{path}.{key}.{number}")
        yield path.removeprefix("."), schema
