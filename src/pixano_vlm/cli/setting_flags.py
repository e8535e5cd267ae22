"""A flag for each setting of generation, made from its one definition in `models/generation.py`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, TypeVar, get_args, get_origin

import typer

from pixano_vlm.cli.flags import GENERATION
from pixano_vlm.models.generation import DEFAULT_GENERATION, SETTINGS, GenerationFields

__all__ = ["with_setting_flags"]

Command = TypeVar("Command", bound=Callable[..., None])

BEFORE = "json_schema"
"""The parameter before which the flags are in a command's help."""

OTHERWISE = frozenset({"seed", "response_format", "logprobs"})
"""Settings that have no flag of their name: `--seed` is the run's, `--json-schema` makes a
`response_format`, and `--logprobs K` is `top_logprobs`."""


def with_setting_flags(command: Command) -> Command:
    """Gives a command that takes `**settings` a flag for each of them."""
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name == BEFORE:
            parameters += _parameters()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(parameter)
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect
    command.__annotations__.pop("settings", None)
    return command


def _parameters() -> list[inspect.Parameter]:
    """A parameter for each setting that a flag can give: a number, or texts."""
    made = []
    for name, setting in SETTINGS.items():
        field = GenerationFields.model_fields[name]
        kind = next(kind for kind in get_args(field.annotation) if kind is not type(None))
        is_list = get_origin(kind) is list
        if name in OTHERWISE or not (kind in (int, float, str, bool) or is_list):
            continue
        text = (field.description or "") + setting.flag_text + (" Repeatable." if is_list else "")
        default = getattr(DEFAULT_GENERATION, name)
        if default is not None:
            text += f" Default: the model's config, else {default:g}."
        option = typer.Option(
            setting.flag or "--" + name.replace("_", "-"),
            metavar="" if kind is bool else setting.metavar or ("TEXT" if is_list or kind is str else "N"),
            help=text,
            rich_help_panel=GENERATION,
        )
        made.append(
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=None,
                annotation=Annotated[kind | None, option],
            )
        )
    return made
