"""What an image of a `VLMInput` may be: a path, a URL, encoded bytes, or a Pillow image.

Imports no Pillow: whoever has such an image has imported it.
"""

from __future__ import annotations

import base64
import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeGuard

from pydantic import PlainSerializer
from pydantic_core import core_schema

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
else:

    class PillowImage:
        """Stands for `PIL.Image.Image` where pydantic checks a value."""

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
            """Lets through what is a Pillow image; as JSON it is a data URL."""
            return core_schema.no_info_plain_validator_function(
                _checked,
                serialization=core_schema.plain_serializer_function_ser_schema(
                    image_data_url, when_used="json"
                ),
            )

        @classmethod
        def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
            """What it is as JSON."""
            return {"type": "string", "contentMediaType": "image/png"}


if TYPE_CHECKING:
    _Bytes: TypeAlias = bytes
else:
    _Bytes = Annotated[
        bytes, PlainSerializer(lambda data: data_url(data, "application/octet-stream"), when_used="json")
    ]

ImageSource: TypeAlias = str | Path | _Bytes | PillowImage
"""A path or URL (http, s3, data), encoded bytes, or an image that is in memory."""


def is_pillow_image(value: object) -> TypeGuard[PillowImage]:
    """Whether it is a `PIL.Image.Image`."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def image_data_url(image: PillowImage) -> str:
    """A Pillow image as a data URL of a PNG, which holds every pixel as it is."""
    buffer = BytesIO()
    kept = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else image.convert("RGB")
    kept.save(buffer, "PNG")
    return data_url(buffer.getvalue(), "image/png")


def data_url(data: bytes, kind: str) -> str:
    """Bytes of a media type as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _checked(value: Any) -> Any:
    if not is_pillow_image(value):
        raise ValueError("must be a path, a URL, the bytes of an image, or a Pillow image")
    return value
