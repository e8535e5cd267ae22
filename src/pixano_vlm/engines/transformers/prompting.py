"""What decides a loaded model's answers beside its weights, in words: its template, its end tokens, its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixano_vlm.batching.answer_decoder import AnswerDecoder
from pixano_vlm.engines.transformers.end_tokens import EndTokens
from pixano_vlm.engines.transformers.generation_defaults import GenerationDefaults
from pixano_vlm.prompts.chat_template import ChatTemplateRenderer
from pixano_vlm.prompts.template_files import find_source

__all__ = [
    "content_style",
    "end_tokens",
    "generation_defaults",
    "kept_special_tokens",
    "notices",
    "template_source",
    "thinking",
]

ROLES = ("user", "system", "assistant", "tool")
SHOWN = 5
"""How many tokens are listed by name."""


def template_source(template: str | None, folder: Path | None, chosen: str | None) -> str:
    """The file that the chat template is from; `none` where there is none."""
    if template is None:
        return "none"
    return chosen if chosen is not None and Path(chosen).is_file() else find_source(template, folder)


def content_style(renderer: ChatTemplateRenderer) -> str | None:
    """The form in which the template takes the content of a turn, by role where roles differ."""
    if not renderer.has_template:
        return None
    styles = {role: str(renderer.styles.of(role)) for role in ROLES}
    if len(set(styles.values())) == 1:
        return styles["user"]
    return ", ".join(f"{role}: {style}" for role, style in styles.items())


def thinking(renderer: ChatTemplateRenderer) -> str | None:
    """How the model marks its thoughts, and the template's variables, of which one may be the switch."""
    marks = renderer.thinking
    variables = ", ".join(sorted(renderer.variables))
    said = "none" if marks is None else f"between {marks.begins} and {marks.ends}"
    return said + (f"; variables of the template: {variables}" if variables else "")


def end_tokens(ends: EndTokens, tokenizer: Any, stop_strings: tuple[str, ...]) -> str:
    """The tokens that end an answer and who names them, and the checkpoint's stop strings."""
    said = ends.describe(tokenizer) + ("; they differ" if ends.differ else "")
    return said + (f"; stop strings {', '.join(map(repr, stop_strings))}" if stop_strings else "")


def kept_special_tokens(decoder: AnswerDecoder, tokenizer: Any) -> str:
    """The special tokens that are text in an answer."""
    if decoder.skip_special_tokens is not None:
        return "none" if decoder.skip_special_tokens else "all"
    added = getattr(tokenizer, "added_tokens_decoder", {})
    kept = [
        token.content for id, token in sorted(added.items()) if token.special and id not in decoder.framing
    ]
    more = len(kept) - SHOWN
    return (" ".join(kept[:SHOWN]) + (f" and {more} more" if more > 0 else "")) or "none"


def generation_defaults(defaults: GenerationDefaults) -> str:
    """What the generation config asks beside end tokens, sorted by what is done with it."""
    groups = {
        "heeded": defaults.heeded,
        "left to the records": defaults.of_records,
        "not heeded": defaults.not_heeded,
    }
    found = [f"{what}: {_settings(held)}" for what, held in groups.items() if held]
    return "; ".join(found) or "none"


def notices(
    renderer: ChatTemplateRenderer, defaults: GenerationDefaults, *, expects_template: bool
) -> list[str]:
    """What people should know before they trust the answers.

    Args:
        renderer: The model's.
        defaults: Of its generation config.
        expects_template: Whether models of this kind are asked in turns, and nobody chose to do without a template.
    """
    found = []
    if expects_template and not renderer.has_template:
        found.append(
            "the checkpoint has no chat template, so prompts go to the model as they are; if it was trained to chat, "
            "its answers will be poor. Set the parameter chat_template to a Jinja file, or to none if that is right"
        )
    if defaults.not_heeded:
        found.append(
            f"the checkpoint's generation config asks for what is not heeded: {_settings(defaults.not_heeded)}"
        )
    return found


def _settings(held: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in held.items())


def _short(value: Any) -> str:
    said = str(value)
    return said if len(said) <= 60 else said[:57] + "..."
