"""A checkpoint's files on this machine: where they are, and whether they are all there. Loads nothing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pixano_vlm.models.deployment import TransformersParams

__all__ = ["checkpoint_folder"]


def checkpoint_folder(params: TransformersParams) -> Path | None:
    """Where a checkpoint's files are, if they are on this machine."""
    if Path(params.path).is_dir():
        return Path(params.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        found = snapshot_download(
            params.path, revision=params.revision, cache_dir=params.cache_dir, local_files_only=True
        )
        return Path(found)
    return None
