"""Where a checkpoint keeps its chat template: every place that published ones use, and what is done when none has it.

transformers looks in some of these places for the processor and in others for the tokenizer. Which file a template
came from is only looked up to be told to people. Knows the names of files; renders nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ConfigError

__all__ = ["NONE", "adopt_template", "find_source", "has_template"]

NONE = "none"
"""What the parameter `chat_template` says for prompts as they stand."""
DEFAULT = "default"
CONFIGS = ("chat_template.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
"""JSON files that may hold a template under `chat_template`, in the order in which they count."""


def adopt_template(processor: Any, folder: Path | None, chosen: str | None = None) -> None:
    """Sets the processor's `chat_template` to the one template that prompts are written with; None: there is none.

    Args:
        processor: A processor, or a tokenizer that stands for one.
        folder: The checkpoint, where it is on this machine.
        chosen: The parameter `chat_template`: the name of one of several templates, a file, or `none`.

    Raises:
        ConfigError: When `chosen` is neither a name nor a file, or nothing is chosen and no template is the default.
    """
    processor.chat_template = _choose(_found(processor, folder), chosen)


def find_source(template: str, folder: Path | None) -> str:
    """The file of a checkpoint that a template was read from, for people."""
    if folder is None:
        return "the checkpoint"
    files = [folder / "chat_template.jinja", *sorted(folder.glob("*/*.jinja"))]
    for file in files:
        if file.is_file() and _same(file.read_text(encoding="utf-8", errors="replace"), template):
            return str(file.relative_to(folder))
    for name in CONFIGS:
        for kind, text in _in_config(folder / name).items():
            if _same(text, template):
                return name if kind == DEFAULT else f"{name} ({kind})"
    return "the checkpoint"


def has_template(folder: Path) -> bool:
    """Whether a checkpoint's files hold any template."""
    files = [*folder.glob("*.jinja"), *folder.glob("*/*.jinja")]
    return bool(files) or any(_in_config(folder / name) for name in CONFIGS)


def _found(processor: Any, folder: Path | None) -> dict[str, str]:
    """Name -> template, from the first place that has any."""
    for holder in (processor, getattr(processor, "tokenizer", None)):
        found = _named(getattr(holder, "chat_template", None))
        if found:
            return found
    for name in CONFIGS if folder is not None else ():
        found = _in_config(folder / name)  # type: ignore[operator]  # there are names only where there is a folder
        if found:
            return found
    return {}


def _choose(found: dict[str, str], chosen: str | None) -> str | None:
    if chosen == NONE:
        return None
    if chosen is not None and chosen in found:
        return found[chosen]
    names = ", ".join(sorted(found)) or "no template"
    if chosen is not None:
        file = Path(chosen).expanduser()
        if not file.is_file():
            raise ConfigError(
                f"chat_template: {chosen!r} is neither a file nor one of the checkpoint's templates.",
                hint=f"The checkpoint has: {names}. For prompts as they are, write none.",
            )
        return file.read_text(encoding="utf-8")
    if len(found) > 1 and DEFAULT not in found:
        raise ConfigError(
            f"the checkpoint has several chat templates and none named {DEFAULT!r}: {names}.",
            hint="Choose one with the model parameter chat_template.",
        )
    return found.get(DEFAULT) or next(iter(found.values()), None)


def _in_config(file: Path) -> dict[str, str]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return _named(held.get("chat_template")) if isinstance(held, dict) else {}


def _named(held: Any) -> dict[str, str]:
    """Templates by name, from the forms they are kept in: one string, a mapping, a list of named ones."""
    if isinstance(held, str):
        held = {DEFAULT: held}
    elif isinstance(held, list):
        held = {item.get("name"): item.get("template") for item in held if isinstance(item, dict)}
    if not isinstance(held, dict):
        return {}
    return {
        name: text
        for name, text in held.items()
        if isinstance(name, str) and isinstance(text, str) and text.strip()
    }


def _same(first: str, second: str) -> bool:
    return first.strip() == second.strip()
