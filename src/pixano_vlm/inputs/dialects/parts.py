"""Parts of a message in the forms of other services -> text, image and video parts as messages here have them."""

from __future__ import annotations

import base64
from typing import Any

from pixano_vlm.errors import RecordError

__all__ = ["IMAGE_KEYS", "REFUSED_KEYS", "as_part", "as_source", "image_part"]

IMAGE_KEYS = frozenset(
    {"images", "image", "image_url", "image_urls", "image_path", "image_paths", "image_file", "image_files", "img",
     "imgs", "picture", "pictures", "file_name", "image_base64", "image_b64"}
)  # fmt: skip
"""Under which keys a message may name its images."""
REFUSED_KEYS = frozenset(
    {"audio", "audios", "input_audio", "file", "files", "document", "documents", "attachments", "attachment",
     "experimental_attachments", "media"}
)  # fmt: skip
"""What a message may hold that can not be sent."""

_TEXT = frozenset({"text", "input_text", "output_text"})
_IMAGE = frozenset(
    {"image", "input_image", "image_path", "image_file", "image_base64", "img", "picture", "photo"}
)
_SOURCE_KEYS = (
    "image", "url", "path", "image_url", "source", "base64", "image_base64", "data", "image_path", "img",
    "inline_data", "inlineData", "file_data", "fileData",
    "file_name", "file", "src", "picture", "photo", "image_file", "image_data",
)  # fmt: skip
_OWN = frozenset({"image", "url", "path"})
_UNTYPED_IMAGE = frozenset(
    {"image", "image_url", "img", "inline_data", "inlineData", "file_data", "fileData", "image_path"}
)
_PLAIN_TYPE = "application/octet-stream"


def image_part(source: str) -> dict[str, Any]:
    """A part that names its image."""
    return {"type": "image", "image": source}


def as_part(part: Any, where: str) -> Any:
    """A part as messages here have it; what is in that form, or in none that is known, stays the same object.

    Raises:
        RecordError: When it names what cannot be sent.
    """
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    given = {key for key, value in part.items() if value is not None} - {"type"}
    if kind is None:
        return _untyped(part, given, where)
    if kind in _TEXT:
        named = sorted(given & _UNTYPED_IMAGE)
        if named:
            raise RecordError(
                f"{where} is text and names an image, as {named[0]}.",
                hint="Give the image a part of its own.",
            )
        return part if kind == "text" else {"type": "text", "text": part.get("text")}
    if kind == "image_url":
        return _image_url(part, where)
    if kind in _IMAGE:
        return _image(part, given, where)
    if kind in ("video", "video_url", "input_video") and ("video_url" in given or kind != "video"):
        return {
            "type": "video",
            "video": as_source(part.get("video_url") or part.get("video") or part.get("url"), where),
        }
    return part


def _untyped(part: dict[str, Any], given: set[str], where: str) -> Any:
    if given & _UNTYPED_IMAGE:
        if "text" in given:
            raise RecordError(f"{where} is text and image at once.", hint="Write a part for each.")
        return _image({**part, "type": "image"}, given, where)
    if "video" in given:
        return {"type": "video", "video": part["video"]}
    return {"type": "text", "text": part["text"]} if isinstance(part.get("text"), str) else part


def _image_url(part: dict[str, Any], where: str) -> Any:
    value = part.get("image_url")
    if value is None and part.get("url") is not None:
        return image_part(as_source(part["url"], where))
    if isinstance(value, dict) and not isinstance(value.get("url"), str) and value.get("url") is not None:
        return image_part(as_source(value["url"], where))
    return part


def _image(part: dict[str, Any], given: set[str], where: str) -> Any:
    named = [key for key in _SOURCE_KEYS if key in given]
    if not named:
        if "file_id" in given:
            raise RecordError(
                f"{where} names a file at a service, by its file_id.", hint="Give its path or URL."
            )
        return {"type": "image"} if given <= {"text"} and part != {"type": "image"} else part
    if part["type"] == "image" and set(named) <= _OWN and all(isinstance(part[key], str) for key in named):
        return part
    if len(named) > 1:
        raise RecordError(
            f"{where} names its image twice, as {' and as '.join(named)}.", hint="Keep one of them."
        )
    key = named[0]
    mime = part.get("media_type") or part.get("mime_type") or part.get("mimeType")
    if key in ("base64", "image_base64", "data", "image_data") and isinstance(part[key], str):
        return image_part(_data_url(part[key], mime))
    return image_part(as_source(part[key], f"{where}.{key}"))


def as_source(value: Any, where: str) -> Any:
    """What names an image, as a path or URL: a string, bytes, or an object of one of the known forms.

    Raises:
        RecordError: When it is none of them.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return _data_url(base64.b64encode(value).decode("ascii"), None)
    if isinstance(value, list) and len(value) == 1:
        return as_source(value[0], where)
    if isinstance(value, dict):
        mime = value.get("media_type") or value.get("mime_type") or value.get("mimeType")
        if mime is None and isinstance(value.get("format"), str):
            mime = f"image/{value['format']}"
        for key in ("data", "base64", "bytes", "b64_json"):
            held = value.get(key)
            if isinstance(held, bytes):
                held = base64.b64encode(held).decode("ascii")
            if isinstance(held, str) and held:
                return _data_url(held, mime)
        for key in ("url", "path", "fileUri", "file_uri", "uri", "file_name", "image", "src"):
            if isinstance(value.get(key), (str, dict)) and value[key]:
                return as_source(value[key], where)
        if isinstance(value.get("source"), dict):
            return as_source({"format": value.get("format"), **value["source"]}, where)
    raise RecordError(
        f"{where} must be a path or URL, not {str(value)[:60]!r}.", hint='Write "image": "a.jpg".'
    )


def _data_url(text: str, mime: Any) -> str:
    if text[:5].lower() == "data:":
        return text
    return f"data:{mime if isinstance(mime, str) and mime else _PLAIN_TYPE};base64,{text}"
