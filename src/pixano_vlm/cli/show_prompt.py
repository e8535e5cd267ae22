"""`load --show-prompt`: the exact text and token ids that a model is given for one record."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.vlm import VLMInput, VLMModel

__all__ = ["print_prompt", "prompt_of", "read_record"]


def read_record(file: Path, config: ModelDeploymentConfig) -> VLMInput:
    """The record in a JSON file, as a line of a manifest would have it; of a JSONL file, the first.

    Raises:
        ManifestError: When the file cannot be read, or holds no record.
        VLMError: When the record is wrong.
    """
    from pixano_vlm.inputs.manifest import Manifest

    try:
        text = file.read_bytes()
    except OSError as error:
        raise ManifestError(f"{file} cannot be read: {error.strerror}.") from error
    with suppress(ValueError):  # several lines, or wrong: the manifest's reader says which
        text = json.dumps(json.loads(text)).encode()  # in one line, however it was indented
    manifest = Manifest(
        None, stream=BytesIO(text), name=file.name, base_dir=file.parent, settings=config.generation
    )
    request = next(iter(manifest), None)
    if request is None:
        raise ManifestError(f"{file} holds no record.", hint='Write {"prompt": "...", "images": ["..."]}.')
    if request.input is None:
        assert request.error is not None, "a request without an input has an error"
        raise request.error
    return request.input


def prompt_of(model: VLMModel, input: VLMInput) -> dict[str, Any]:
    """What the loaded model is given.

    Raises:
        UsageError: When the model's class does not tell.
        VLMError: When it does not take the record.
    """
    show = getattr(model, "show_prompt", None)
    if show is None:
        raise UsageError(
            f"the class of model {model.model_name!r}, {model.config.model_class}, shows no prompts."
        )
    shown: dict[str, Any] = show(input)
    return shown


def print_prompt(shown: dict[str, Any]) -> None:
    """The text as it is, then the ids."""
    sys.stdout.write(f"\nprompt, {len(shown['token_ids'])} tokens\n{shown['prompt']}\n\ntoken ids\n")
    sys.stdout.write(" ".join(map(str, shown["token_ids"])) + "\n")
