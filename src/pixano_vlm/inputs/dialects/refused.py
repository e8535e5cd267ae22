"""Forms that are not records, each refused with the conversion."""

from __future__ import annotations

from pixano_vlm.errors import RecordError
from pixano_vlm.inputs.dialects.dialect import Dialect, Values

__all__ = ["IMPLICIT_PREFERENCE", "LABEL_STUDIO"]


def _refusal(name: str, key: str, message: str, hint: str, is_it: object) -> Dialect:
    def refuse(values: Values) -> Values:
        raise RecordError(message, hint=hint)

    return Dialect(name, frozenset({key}), is_it, refuse, refusal=(message, hint))  # type: ignore[arg-type]


LABEL_STUDIO = _refusal(
    "Label Studio",
    "data",
    "this is a task of Label Studio, which names an image and asks nothing.",
    "Convert it: jq -c '.[] | {id, prompt: \"Describe this image.\", images: [.data.image]}' export.json > "
    "manifest.jsonl",
    lambda values: (
        "prompt" not in values
        and isinstance(values.get("data"), dict)
        and any(isinstance(value, str) for value in values["data"].values())
    ),
)
IMPLICIT_PREFERENCE = _refusal(
    "preference data without a prompt",
    "chosen",
    "chosen and rejected hold whole conversations, and there is no prompt apart from them.",
    "Convert it: jq -c '{prompt: .chosen[:-1], images, metadata: {chosen: .chosen[-1], rejected: .rejected[-1]}}' "
    "data.jsonl > manifest.jsonl",
    lambda values: (
        "chosen" in values
        and "rejected" in values
        and values.keys().isdisjoint(
            {"prompt", "messages", "conversations", "instruction", "question", "query"}
        )
    ),
)
