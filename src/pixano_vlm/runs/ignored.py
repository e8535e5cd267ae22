"""What was asked of a model and took no part in its answers: a class of someone else's may leave out anything."""

from __future__ import annotations

from collections.abc import Collection

from pixano_vlm.models.generation import SETTINGS
from pixano_vlm.models.noted import NotedParameters
from pixano_vlm.models.vlm import VLMModel, VLMOutput

__all__ = ["ignored"]


def ignored(asked: Collection[str], model: VLMModel, output: VLMOutput) -> list[str]:
    """One sentence for each thing that was ignored.

    Args:
        asked: Names of settings and of parameters of the model's class that were given for this run.
        model: It has answered.
        output: Its answer: `generation_config` says which settings took part.
    """
    said = [f"{_flag(name)}: {type(model).__name__} does not read it." for name in _unread(asked, model)]
    wanted = [name for name in asked if name in SETTINGS and not SETTINGS[name].is_the_runs]
    used = output.generation_config
    if wanted and not used:
        flags = ", ".join(map(_flag, wanted))
        said.append(f"{flags}: {type(model).__name__} does not say whether it was used.")
        return said
    for name in wanted:
        if name in used:
            continue
        if SETTINGS[name].sampling and not used.get("do_sample", used.get("temperature", 1)):
            said.append(f"{_flag(name)} has no effect at temperature 0.")
        else:
            said.append(f"{_flag(name)}: {type(model).__name__} does not use it.")
    return said


def _unread(asked: Collection[str], model: VLMModel) -> list[str]:
    params = model.config.model_params
    if not isinstance(params, NotedParameters):
        return []
    return [name for name in asked if name in dict.keys(params) and name not in params.read]


def _flag(name: str) -> str:
    if name in SETTINGS and (flag := SETTINGS[name].flag):
        return flag
    return "--json-schema" if name == "response_format" else f"--{name.replace('_', '-')}"
