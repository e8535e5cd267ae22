"""Imports an optional package, or raises the error that says how to install it. Knows no package by itself."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from pixano_vlm.errors import MissingPackageError

__all__ = ["import_extra", "pyarrow_parquet"]


def import_extra(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Imports a package that comes with one of this project's extras.

    Args:
        module: The package's import name.
        extra: The extra that installs it.
        purpose: What needs it, for the message.

    Raises:
        MissingPackageError: When it is not installed, or cannot be imported; says which extra to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise MissingPackageError(
            f"{purpose} needs the package {missing!r}, which is not installed.",
            hint=f"Run: pip install 'pixano-vlm[{extra}]'.",
        ) from error
    # A compiled package that does not fit the others (torch, CUDA, the processor) fails as it likes.
    except Exception as error:
        raise MissingPackageError(
            f"{purpose} needs the package {module!r}, which is installed but cannot be imported: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}.",
            hint=f"Install the versions that belong together: pip install -U 'pixano-vlm[{extra}]'.",
        ) from error


def pyarrow_parquet() -> Any:
    """The module `pyarrow.parquet`, which reading and writing Parquet files need.

    Raises:
        MissingPackageError: When pyarrow is not installed.
    """
    return import_extra("pyarrow.parquet", extra="parquet", purpose="a Parquet file")
