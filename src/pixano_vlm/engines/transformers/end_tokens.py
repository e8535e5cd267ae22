"""The tokens that end an answer, from everywhere a checkpoint names them.

Published checkpoints disagree with themselves: a generation config that names the end of texts where turns end with
another token, a tokenizer that was changed for chatting while the config was not. A token that any of them names ends
the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["EndTokens", "find_end_tokens"]

GENERATION, CONFIG, TOKENIZER, TEMPLATE = (
    "generation_config.json",
    "config.json",
    "tokenizer",
    "chat template",
)


@dataclass(frozen=True, slots=True)
class EndTokens:
    """The end tokens of one model."""

    sources: dict[int, tuple[str, ...]]
    """Token id -> who names it, in the order in which they are asked."""

    @property
    def ids(self) -> frozenset[int]:
        """All of them."""
        return frozenset(self.sources)

    @property
    def differ(self) -> bool:
        """Whether those who name any do not name the same ones."""
        named = {
            who: {id for id, by in self.sources.items() if who in by}
            for by in self.sources.values()
            for who in by
        }
        return len({frozenset(ids) for ids in named.values()}) > 1

    def describe(self, tokenizer: Any) -> str:
        """Them for people: `<|im_end|> (generation_config.json, tokenizer), <|endoftext|> (config.json)`."""
        found = (
            f"{tokenizer.convert_ids_to_tokens(id)} ({', '.join(by)})" for id, by in self.sources.items()
        )
        return ", ".join(found) or "none"


def find_end_tokens(model: Any, tokenizer: Any, closing: str) -> EndTokens:
    """The end tokens of a model.

    Args:
        model: The transformers model.
        tokenizer: Its tokenizer.
        closing: What its chat template writes behind an assistant's turn; "" where that is not known.
    """
    sources: dict[int, list[str]] = {}

    def note(ids: Any, who: str) -> None:
        for id in ids if isinstance(ids, (list, tuple)) else [ids]:
            if isinstance(id, int) and id >= 0 and who not in sources.setdefault(id, []):
                sources[id].append(who)

    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {id for id, token in added.items() if token.special}
    note(model.generation_config.eos_token_id, GENERATION)
    for config in (model.config, model.config.get_text_config(decoder=True)):
        ids = getattr(config, "eos_token_id", None)
        # A config class has a default, which is a word of the vocabulary where the checkpoint says nothing.
        note([id for id in (ids if isinstance(ids, (list, tuple)) else [ids]) if id in special], CONFIG)
    note(getattr(tokenizer, "eos_token_id", None), TOKENIZER)
    closed_by = [id for id, token in added.items() if closing.lstrip().startswith(token.content)]
    note(max(closed_by, key=lambda id: len(added[id].content), default=None), TEMPLATE)
    return EndTokens({id: tuple(by) for id, by in sources.items() if by})


def framing_ids(
    tokenizer: Any, ends: EndTokens, images: frozenset[str], between_turns: str
) -> frozenset[int]:
    """The tokens that frame turns, and are not part of an answer. An end token that is a plain word is a part of it.

    Args:
        tokenizer: The model's.
        ends: The model's end tokens.
        images: Tokens that stand for images, or frame them.
        between_turns: What the chat template writes from one turn to the next.
    """
    named = {
        getattr(tokenizer, f"{name}_token_id", None)
        for name in ("bos", "eos", "pad", "unk", "sep", "cls", "mask")
    }
    added = getattr(tokenizer, "added_tokens_decoder", {})
    framing = {
        id
        for id, token in added.items()
        if token.special and (token.content in images or token.content in between_turns)
    }
    return frozenset(id for id in named | framing | (ends.ids & added.keys()) if isinstance(id, int))
