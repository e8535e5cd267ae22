"""All dialects of manifest lines, in the order in which a line is compared with them."""

from __future__ import annotations

from collections.abc import Mapping

from pixano_vlm.inputs.dialects.dialect import Dialect, Values
from pixano_vlm.inputs.dialects.openai_batch import OPENAI_BATCH
from pixano_vlm.inputs.dialects.providers import ANTHROPIC, BEDROCK, CHAT_REQUEST, GEMINI, OLLAMA, RESPONSES
from pixano_vlm.inputs.dialects.refused import IMPLICIT_PREFERENCE, LABEL_STUDIO
from pixano_vlm.inputs.dialects.training import (
    CONVERSATIONS,
    INSTRUCTION,
    MESSAGES,
    PROMPT_COMPLETION,
    QUERY_RESPONSE,
    SYSTEM,
    TEXTS,
)

__all__ = ["DIALECTS", "DIALECT_KEYS", "as_record", "dialect_of"]

DIALECTS = (
    OPENAI_BATCH, ANTHROPIC, BEDROCK, GEMINI, LABEL_STUDIO, IMPLICIT_PREFERENCE, CHAT_REQUEST, MESSAGES,
    CONVERSATIONS, TEXTS, PROMPT_COMPLETION, OLLAMA, QUERY_RESPONSE, INSTRUCTION, RESPONSES, SYSTEM,
)  # fmt: skip
"""The first that a line is of counts: requests to a server come before the turns that are in them."""

DIALECT_KEYS = frozenset().union(*(dialect.keys for dialect in DIALECTS))


def dialect_of(values: Mapping[str, object]) -> Dialect | None:
    """The dialect of a line; None where it is in the tool's own form."""
    if DIALECT_KEYS.isdisjoint(values):
        return None
    found = dict(values)
    return next((dialect for dialect in DIALECTS if dialect.matches(found)), None)


def as_record(values: Values) -> Values:
    """A line's values under the tool's own keys.

    Raises:
        RecordError: When it is of a dialect, and asks for what cannot be done.
    """
    dialect = dialect_of(values)
    return values if dialect is None else dialect.record(values)
