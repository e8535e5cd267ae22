"""One config file: YAML text into `ModelDeploymentConfig` entries, every mistake named by file, line and key.

Knows YAML and the entry's fields; knows no registry and no class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pixano_vlm.errors import ConfigError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.generation import GenerationSettings
from pixano_vlm.nearest import nearest_path
from pixano_vlm.validation import first_problem

__all__ = ["read_config"]

# libyaml's parser where PyYAML was built with it: ten times as fast, and `list` reads every file.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

FILE_KEYS = ("models",)
LOCAL_PATHS = ("path", "adapter")
"""Parameters that may be relative to the file they are in."""


def read_config(file: Path) -> Iterator[tuple[int, ModelDeploymentConfig]]:
    """The entries of one file, each with the line it starts at.

    A path that starts with `./` or `../` is relative to the file's own folder.

    Raises:
        ConfigError: On the first mistake in it.
    """
    root, data = _parse(file)
    if root is None or not isinstance(data, dict) or not isinstance(data.get("models"), list):
        raise ConfigError(
            f"{file}: a config file is a mapping with a list under `models`.",
            hint="Each entry of the list has a name and model_params: {path: owner/name}.",
        )
    _refuse_unknown_keys(file, root, data)
    for position, entry in enumerate(data["models"]):
        line = _line(root, ("models", position))
        if not isinstance(entry, dict):
            raise ConfigError(f"{file}:{line}: an entry under `models` is a mapping with a name.")
        yield line, _entry(file, root, position, entry)


def _parse(file: Path) -> tuple[yaml.Node | None, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {file}.", hint=nearest_path(file)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config file {file} cannot be read: {error}.") from error
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        _refuse_repeated_keys(file, root)
        return root, None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ConfigError(f"{file}:{line}: not YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error}.") from error
    finally:
        loader.dispose()


def _refuse_repeated_keys(file: Path, node: yaml.Node | None) -> None:
    """YAML lets the second of two equal keys win in silence; here the first one's author is told."""
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_repeated_keys(file, child)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ConfigError(
                    f"{file}:{key.start_mark.line + 1}: the key {key.value!r} stands here twice."
                )
            seen.add(str(key.value))
            _refuse_repeated_keys(file, value)


def _refuse_unknown_keys(file: Path, root: yaml.Node, data: Mapping[Any, Any]) -> None:
    for key in data:
        if key not in FILE_KEYS:
            raise ConfigError(
                f"{file}:{_line(root, (key,))}: unknown key {key!r}.",
                hint=f"A config file has one key: {FILE_KEYS[0]}.",
            )


def _entry(file: Path, root: yaml.Node, position: int, entry: dict[str, Any]) -> ModelDeploymentConfig:
    try:
        config = ModelDeploymentConfig.model_validate(entry)
    except ValidationError as error:
        problem = first_problem(error)
        line = _line(root, ("models", position, *problem.location))
        raise ConfigError(
            f"{file}:{line}: model {entry.get('name', position)!r}: {problem.message()}",
            hint=problem.hint(_known(problem.location)),
        ) from error
    for name in LOCAL_PATHS:
        path = config.model_params.get(name)
        if isinstance(path, str) and path.startswith(("./", "../")):
            config.model_params[name] = str((file.parent / path).resolve())
    return config


def _known(location: Sequence[int | str]) -> list[str]:
    fields = GenerationSettings if location[:1] == ("generation",) else ModelDeploymentConfig
    return list(fields.model_fields)


def _line(node: yaml.Node, location: Iterable[int | str]) -> int:
    """The line, from 1, of the deepest node that `location` leads to."""
    line = node.start_mark.line
    for step in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
        elif isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            (key, node) = found[0]
            line = key.start_mark.line
        else:
            break
    return int(line) + 1
