"""Reads one object of a store such as S3, within limits of size and time, through fsspec.

Only kinds of store whose address comes from their own settings, never from the URL: a manifest must not be able
to lead elsewhere. Knows nothing of images. A store's own package does the work and has the credentials.
"""

from __future__ import annotations

import errno
import random
import time
from typing import Any

from pixano_vlm.errors import ImageError
from pixano_vlm.media.sources import shortened
from pixano_vlm.models.limits import Limits

__all__ = ["STORES", "is_store_url", "read_object"]

STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "hf", "memory"})
"""The kinds of URL that are read here. `memory` is fsspec's own, inside one process."""
NOT_IN_THE_EXTRA = {"oss": "ossfs"}
"""Kinds whose package the extra `cloud` does not have, and that package."""
FIRST_WAIT = 0.5
"""Seconds before the second try; each further wait is twice as long."""


def is_store_url(url: str) -> bool:
    """Whether `url` names an object of a store."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.lower() in STORES


def read_object(url: str, limits: Limits) -> bytes:
    """The bytes of the object that `url` names.

    Args:
        url: Of a kind in `STORES`.
        limits: `max_image_bytes`; `fetch_timeout` seconds for all tries together; `fetch_attempts` tries.

    Raises:
        ImageError: Naming the URL, the cause, and how often it was tried; or when the object is larger than
            `limits.max_image_bytes`.
    """
    store, path = _locate(url)
    most = limits.max_image_bytes
    # One request, which brings at most a byte too many: asking for the size first would be a second one.
    options: dict[str, Any] = {"start": 0, "end": most + 1}
    end = time.monotonic() + limits.fetch_timeout
    wait = FIRST_WAIT
    for attempt in range(1, limits.fetch_attempts + 1):
        if store.async_impl:  # the others have limits of time of their own
            options["timeout"] = max(end - time.monotonic(), 0.001)
        try:
            data = bytes(store.cat_file(path, **options))
        except FileNotFoundError:
            raise ImageError(
                f"{shortened(url)} cannot be read: there is no such object.", hint="Check the URL."
            ) from None
        # Each store's package has exceptions of its own; of few can it be told here that they will not pass.
        except Exception as error:
            if (
                isinstance(error, PermissionError | ValueError)
                or getattr(error, "errno", None) == errno.EINVAL
            ):
                raise ImageError(
                    f"{shortened(url)} cannot be read: {_cause(error)}.",
                    hint="Check the URL; the store's credentials decide what may be read.",
                ) from None
            pause = wait * random.uniform(0.75, 1.25)
            if attempt == limits.fetch_attempts or time.monotonic() + pause >= end:
                tries = "" if attempt == 1 else f" after {attempt} tries"
                raise ImageError(
                    f"{shortened(url)} cannot be read{tries}: {_cause(error)}.", hint="Try again later."
                ) from None
            time.sleep(pause)
            wait *= 2
        else:
            if len(data) > most:
                raise ImageError(
                    f"{shortened(url)} holds more bytes than the limit of {most:,}.",
                    hint="Make it smaller, or raise --max-image-bytes.",
                )
            return data
    raise ImageError(f"{shortened(url)} cannot be read: no try is allowed.", hint="Raise fetch_attempts.")


def _locate(url: str) -> tuple[Any, str]:
    """The store, and the object's path in it."""
    scheme, _, rest = url.partition("://")
    # fsspec takes a second URL inside the first as one to open through it, on this machine's disk for instance.
    if "::" in rest or "://" in rest:
        raise ImageError(f"{shortened(url)} is a URL within a URL.", hint="Name the object itself.")
    try:
        from fsspec import filesystem

        return filesystem(scheme.lower()), rest
    except (ImportError, ValueError) as error:
        package = NOT_IN_THE_EXTRA.get(scheme.lower(), "'pixano-vlm[cloud]'")
        raise ImageError(
            f"{shortened(url)} cannot be read: {_cause(error)}.", hint=f"Run: pip install {package}."
        ) from None
    except Exception as error:  # a store's own: settings that it lacks, above all
        raise ImageError(f"{shortened(url)} cannot be read: {_cause(error)}.") from None


def _cause(error: Exception) -> str:
    text = " ".join(str(error).split())[:300].rstrip(".")
    return text or type(error).__name__
