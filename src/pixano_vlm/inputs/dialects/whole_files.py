"""JSON files that are one object: which format each is, and how to make a manifest of it."""

from __future__ import annotations

from pixano_vlm.inputs.dialects.dialect import Values
from pixano_vlm.inputs.dialects.known import dialect_of

__all__ = ["holds_records", "is_columns", "refusal_of"]

_MANY = frozenset(
    {"is in COCO's format", "is in Karpathy's format of captions", "is in the format of VQA", "is a project of VIA",
     "is one object with a record under each key"}
)  # fmt: skip
"""What is surely no record, even alone in a file of lines."""
_ASK = '"Describe this image."'


def refusal_of(values: Values, name: str) -> tuple[str, str]:
    """What a file is that holds one object, and the conversion.

    Args:
        values: The object.
        name: The file's name.
    """
    what, program = _format_of(values)
    if is_columns(values):
        return (
            "holds columns, each with the values of all records; it is not a list of records.",
            f"Convert it: python -c \"import pandas; pandas.read_json('{name}').to_json('manifest.jsonl', "
            "orient='records', lines=True)\"",
        )
    return f"{what}; it is not a list of records.", f"Convert it: jq -c '{program}' {name} > manifest.jsonl"


def is_columns(values: Values) -> bool:
    """Whether each key holds a column: a list, or an object of values by row as pandas writes it."""
    prompts = values.get("prompt")
    columns = list(values.values())
    if isinstance(prompts, list) and all(isinstance(prompt, str) for prompt in prompts):
        return bool(prompts) and all(isinstance(c, list) and len(c) == len(prompts) for c in columns)
    first = columns[0] if columns else None
    if (
        not isinstance(first, dict)
        or len(columns) < 2
        or not first
        or isinstance(next(iter(first.values())), dict)
    ):
        return False
    return all(isinstance(column, dict) and column.keys() == first.keys() for column in columns) and all(
        key.isdecimal() for key in first
    )


def holds_records(values: Values) -> bool:
    """Whether an object is one of the known formats that hold many records."""
    if is_columns(values):
        return True
    if not values.keys().isdisjoint({"prompt", "messages", "conversations", "body"}):
        return False
    return _format_of(values)[0] in _MANY


def _format_of(values: Values) -> tuple[str, str]:
    images, first = values.get("images"), _first(values.get("images"))
    if "file_name" in first:
        return "is in COCO's format", f".images[] | {{id, prompt: {_ASK}, images: [.file_name]}}"
    if "filename" in first and "sentences" in first:
        return (
            "is in Karpathy's format of captions",
            f'.images[] | {{id: .imgid, prompt: {_ASK}, images: [.filepath + "/" + .filename]}}',
        )
    if "question" in _first(values.get("questions")):
        return (
            "is in the format of VQA",
            '.questions[] | {id: .question_id, prompt: .question, images: ["\\(.image_id).jpg"]}',
        )
    if isinstance(values.get("_via_img_metadata"), dict):
        return "is a project of VIA", f"._via_img_metadata[] | {{prompt: {_ASK}, images: [.filename]}}"
    if "imagePath" in values:
        return "is an annotation of LabelMe", f"{{prompt: {_ASK}, images: [.imagePath]}}"
    for key in ("requests", "data", "annotations", "records", "examples", "train", "test"):
        first = _first(values.get(key))
        if first and ("prompt" in first or dialect_of(first) is not None):
            return f"is one object with its records under {key!r}", f".{key}[]"
        if first:
            return f"is one object with its records under {key!r}", f".{key}[] | {_program(first)}"
    if isinstance(images, list) and images:
        return "is one object", f".images[] | {{prompt: {_ASK}, images: [.]}}"
    objects = [value for value in values.values() if isinstance(value, dict)]
    if objects and len(objects) == len(values):
        if objects[0].keys() & {"caption", "tags"}:  # kohya's metadata
            return (
                "is one object of captions by image",
                f"to_entries[] | {{prompt: {_ASK}, images: [.key], metadata: .value}}",
            )
        return (
            "is one object with a record under each key",
            f"to_entries[] | {{id: .key}} + (.value | {_program(objects[0])})",
        )
    if values and all(isinstance(value, str) for value in values.values()):
        return (
            "is one object of texts by key",
            f"to_entries[] | {{prompt: {_ASK}, images: [.key], metadata: {{text: .value}}}}",
        )
    return "is one object that is not a record", _program(values)


def _first(value: object) -> Values:
    if isinstance(value, dict):
        value = list(value.values())
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def _program(values: Values) -> str:
    """The record to make of an object, as far as its keys tell."""
    asked = next(
        (f".{key}" for key in ("prompt", "question", "query", "text", "instruction") if key in values), _ASK
    )
    image = next(
        (
            key
            for key in (
                "image",
                "image_path",
                "image_file",
                "file_name",
                "filename",
                "image_url",
                "path",
                "url",
            )
            if key in values
        ),
        "image",
    )
    return f"{{prompt: {asked}, images: [.{image}], metadata: .}}"
