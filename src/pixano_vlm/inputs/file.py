"""One file of a manifest: on this machine or in a store, compressed or not. Knows bytes, not what is in them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from pixano_vlm.errors import ManifestError, MissingPackageError, UsageError
from pixano_vlm.extras import import_extra
from pixano_vlm.media.stores import STORES, is_store_url

__all__ = ["COMPRESSIONS", "HEAD", "InputFile", "store_of"]

HEAD = 1 << 16
"""So many bytes of a file are looked at to see what it is."""
_BUFFER = 1 << 20


def _open_zstd(file: IO[bytes]) -> io.RawIOBase:
    arrow = import_extra("pyarrow", extra="parquet", purpose="a file that ends with .zst")
    return _Raw(arrow.CompressedInputStream(arrow.PythonFile(file), "zstd"))


class _Raw(io.RawIOBase):
    """A stream of pyarrow as Python's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _Unpacked(io.BufferedReader):
    """An unpacked stream that closes the packed file with itself."""

    def __init__(self, stream: Any, packed: IO[bytes]) -> None:
        super().__init__(stream, _BUFFER)
        self._packed = packed

    def close(self) -> None:
        super().close()
        self._packed.close()


COMPRESSIONS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".zst": _open_zstd,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
"""What the name of a compressed file ends with -> what reads it."""
_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz"}
_STATES = frozenset(
    {"ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created", "generation", "md5Hash",
     "content_md5", "VersionId", "version_id", "blob_id", "last_commit", "sha256"}
)  # fmt: skip
"""Under which names stores say what distinguishes one state of an object from another."""
BROKEN = (EOFError, lzma.LZMAError, gzip.BadGzipFile)
"""What damaged compressed files raise, besides `OSError`."""


class InputFile:
    """One file.

    Args:
        name: A path, or the URL of an object in a store.
    """

    def __init__(self, name: str) -> None:
        self.url = name if is_store_url(name) else None
        self.path = None if self.url else Path(name)
        self.name = posixpath.basename(name) if self.url else Path(name).name
        """How messages call it."""
        lower = self.name.lower()
        self.compression = next((end for end in COMPRESSIONS if lower.endswith(end)), None)
        if self.compression is None and lower.endswith(".tgz"):
            self.compression, lower = ".gz", lower.removesuffix(".tgz") + ".tar.gz"
        plain = lower.removesuffix(self.compression or "")
        self.suffix = posixpath.splitext(plain)[1]
        """What the name ends with in small letters, a compression aside."""
        self.stem = self.name[: len(plain) - len(self.suffix)]

    def __str__(self) -> str:
        return self.url or str(self.path)

    @property
    def folder(self) -> Path | str:
        """What relative image paths start from."""
        if self.path is not None:
            return self.path.parent
        return str(self.url).rpartition("/")[0] + "/"

    @property
    def base(self) -> str:
        """The same, as a record keeps it."""
        return os.path.realpath(self.folder) if self.path is not None else str(self.folder)

    @property
    def is_plain(self) -> bool:
        """Whether its bytes lie on this machine as they are."""
        return self.path is not None and self.compression is None

    def open(self) -> IO[bytes]:
        """The file from its start, its compression undone.

        Raises:
            ManifestError: When it cannot be opened.
            MissingPackageError: When what reads it is not installed.
        """
        file = self.open_as_it_is()
        if self.compression is None:
            return file
        try:
            return _Unpacked(COMPRESSIONS[self.compression](file), file)
        except MissingPackageError:
            file.close()
            raise

    def open_as_it_is(self) -> IO[bytes]:
        """The file from its start; it can be sought in.

        Raises:
            ManifestError: When it cannot be opened.
        """
        try:
            if self.path is not None:
                return self.path.open("rb", buffering=_BUFFER)
            store, path = store_of(str(self.url))
            opened: IO[bytes] = store.open(path, "rb")
            return opened
        except UsageError:
            raise
        except OSError as error:
            raise ManifestError(f"{self} cannot be read: {error.strerror or error}.") from error
        except Exception as error:  # each store's package has exceptions of its own
            raise ManifestError(f"{self} cannot be read: {' '.join(str(error).split())[:300]}.") from error

    def head(self, size: int = HEAD) -> bytes:
        """Its first bytes, its compression undone.

        Raises:
            ManifestError: When it cannot be read, or is compressed and its name does not say so.
        """
        try:
            with self.open() as file:
                data = file.read(size)
        except (OSError, *BROKEN) as error:
            raise ManifestError(f"{self} cannot be read: {error}.") from error
        for magic, end in _MAGIC.items():
            if data.startswith(magic) and self.compression is None:
                raise ManifestError(
                    f"{self} is compressed, and its name does not say so.",
                    hint=f"Let its name end with {end}: {self.name}{end}",
                )
        return data

    def stamp(self) -> bytes | None:
        """16 bytes that tell one state of the file from another without reading it; None where nobody says."""
        if self.path is not None:
            status = self.path.stat()
            state: Any = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        else:
            store, path = store_of(str(self.url))
            try:
                info: dict[str, Any] = store.info(path)
            except Exception as error:  # each store's package has exceptions of its own
                raise ManifestError(
                    f"{self} cannot be read: {' '.join(str(error).split())[:300]}."
                ) from error
            if _STATES.isdisjoint(info):
                return None
            state = sorted(
                (key, str(value)) for key, value in info.items() if key in _STATES or key == "size"
            )
        return blake2b(repr(state).encode(), digest_size=16).digest()


def store_of(url: str) -> tuple[Any, str]:
    """The store of a URL, and the object's path in it.

    Raises:
        ManifestError: When the URL is not one of a single object.
        MissingPackageError: When the store's package is not installed.
    """
    scheme, _, rest = url.partition("://")
    # fsspec takes a second URL inside the first as one to open through it.
    if "::" in rest or "://" in rest or scheme.lower() not in STORES:
        raise ManifestError(f"{url} is not the URL of an object in a store.", hint="Name the object itself.")
    fsspec = import_extra("fsspec", extra="cloud", purpose=f"a manifest in {scheme}://")
    try:
        return fsspec.filesystem(scheme.lower()), rest
    except (ImportError, ValueError) as error:
        raise MissingPackageError(
            f"{url} cannot be read: {error}.", hint="Run: pip install 'pixano-vlm[cloud]'."
        ) from error
    except Exception as error:  # a store's own: settings that it lacks, above all
        raise ManifestError(f"{url} cannot be read: {' '.join(str(error).split())[:300]}.") from error
