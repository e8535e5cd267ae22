"""Copies of the embedded checkpoint, changed as what people bring is, and what they answer to the examples.

The examples' right answers are known, so that a wrong prompt shows.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import VLMError
from pixano_vlm.models import ModelDeploymentConfig, VLMInput, VLMOutput

REPOSITORY = Path(__file__).parents[1]
CHECKPOINT = REPOSITORY / "src" / "pixano_vlm" / "shapes" / "model"
EXAMPLES = REPOSITORY / "examples" / "shapes"

TEMPLATE = (CHECKPOINT / "chat_template.jinja").read_text(encoding="utf-8")
"""Its own: takes strings and lists."""
END = "<end_of_utterance>"


def copy_checkpoint(folder: Path, template: str | None = TEMPLATE, **configs: dict[str, Any]) -> Path:
    """Copies the embedded checkpoint.

    Args:
        folder: Where it goes.
        template: Its chat template, in `chat_template.jinja`; None: no such file.
        configs: By a JSON file's name without its suffix, what is changed in it; None takes a key out.
    """
    shutil.copytree(CHECKPOINT, folder)
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    for name, changes in configs.items():
        change_json(folder / f"{name}.json", changes)
    return folder


def rename_word(folder: Path, word: str, mark: str, *, special: bool) -> None:
    """Renames the token of a word and the space before it in a copied checkpoint, and adds it as another."""
    file = folder / "tokenizer.json"
    held = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = held["model"]["vocab"]
    gone = "Ġ" + word
    number = vocabulary.pop(gone)
    vocabulary[mark] = number
    held["model"]["merges"] = [
        merge for merge in held["model"]["merges"] if gone not in (*merge, "".join(merge))
    ]
    added = {"id": number, "content": mark, "special": special}
    held["added_tokens"].append(
        added | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    )
    held["added_tokens"].sort(key=lambda token: token["id"])
    file.write_text(json.dumps(held), encoding="utf-8")


def change_json(file: Path, changes: dict[str, Any]) -> None:
    """Changes keys of a JSON object; None takes a key out."""
    held = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({k: v for k, v in held.items() if v is not None}), encoding="utf-8")


def open_checkpoint(folder: Path, **params: Any) -> TransformersVLMModel:
    """The model, loaded; with static batches where nothing else is asked, which load fastest."""
    config = {"path": str(folder), "engine": "static", **params}
    model = TransformersVLMModel(ModelDeploymentConfig(name="m", model_params=config))
    model.load_model()
    return model


@cache
def _examples() -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (EXAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def examples(count: int = 8, prompt: str = "{}") -> list[tuple[VLMInput, str]]:
    """Questions with their right answers, every few of the examples; `prompt` has the question in its braces."""
    held = _examples()
    return [
        (
            VLMInput(
                prompt=prompt.format(record["prompt"]),
                images=[EXAMPLES / name for name in record["images"]],
                max_new_tokens=32,
                temperature=0,
            ),
            record["metadata"]["answer"],
        )
        for record in held[:: len(held) // count][:count]
    ]


def answers(model: TransformersVLMModel, inputs: list[VLMInput]) -> list[VLMOutput | VLMError]:
    """The answers, in order."""
    found = dict(model.stream(enumerate(inputs)))
    return [found[number] for number in range(len(inputs))]


def count_right(model: TransformersVLMModel, asked: list[tuple[VLMInput, str]]) -> int:
    """How many answers are right."""
    found = answers(model, [input for input, _ in asked])
    return sum(
        isinstance(answer, VLMOutput) and answer.generated_text == right
        for answer, (_, right) in zip(found, asked, strict=True)
    )
