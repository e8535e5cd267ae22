"""An image in a store is read as one on the disk is, and within the same limits."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from pixano_vlm.errors import ImageError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.media import stores
from pixano_vlm.media.images import load_image
from pixano_vlm.models import Limits


@pytest.fixture(autouse=True)
def store() -> Iterator[MemoryFileSystem]:
    """fsspec's own in memory, with one picture, `memory://bucket/a.png`, of 2 x 1 pixels."""
    there = fsspec.filesystem("memory")
    there.pipe_file("/bucket/a.png", png())
    yield there
    there.store.clear()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_image_is_read_from_a_store() -> None:
    assert load_image("memory://bucket/a.png", Limits()).size == (2, 1)


@pytest.mark.parametrize(
    ("url", "limits", "told"),
    [
        ("memory://bucket/a.png", Limits(allow_urls=False), "URLs are not allowed"),
        ("memory://bucket/a.png", Limits(image_root=Path("/")), "outside the image root"),
        ("memory://bucket/a.png", Limits(max_image_bytes=10), "more bytes than the limit of 10"),
        ("memory://bucket/b.png", Limits(), "no such object"),
        ("memory://x::file:///etc/hostname", Limits(), "a URL within a URL"),
        ("s3://x/file:///etc/hostname", Limits(), "a URL within a URL"),
        ("local:///etc/hostname", Limits(), "is a local: URL"),
        ("sftp://10.0.0.1/a.png", Limits(), "is a sftp: URL"),
        ("zip://a.png", Limits(), "is a zip: URL"),
    ],
)
def test_what_may_not_be_read_is_refused(url: str, limits: Limits, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        load_image(url, limits)


def test_a_file_url_is_a_path_and_confined_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "root").mkdir()
    with pytest.raises(ImageError, match="outside the image root"):
        load_image(f"file://{tmp_path}/a.png", Limits(image_root=tmp_path / "root"))
    assert load_image(f"file://{tmp_path}/a.png", Limits(image_root=tmp_path)).size == (2, 1)


def test_a_manifest_names_it_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"prompt": "q", "images": ["s3://bucket/a.png"]}) + "\n")
    (request,) = Manifest(tmp_path / "m.jsonl")
    assert request.input is not None
    assert request.input.images == ["s3://bucket/a.png"]


@pytest.mark.parametrize(
    ("kind", "module", "install"),
    [
        ("s3", "s3fs", "'pixano-vlm[cloud]'"),
        ("gs", "gcsfs", "'pixano-vlm[cloud]'"),
        ("az", "adlfs", "'pixano-vlm[cloud]'"),
        ("oss", "ossfs", "ossfs"),
    ],
)
def test_a_store_whose_package_is_missing_says_what_to_install(
    kind: str, module: str, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(import_module("fsspec.registry")._registry, kind, raising=False)
    with pytest.raises(ImageError, match="cannot be read") as caught:
        load_image(f"{kind}://bucket/a.png", Limits())
    assert str(caught.value).endswith(f"Run: pip install {install}.")


def test_the_extra_has_the_packages_that_the_hint_says(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    (extra,) = re.findall(r"^cloud = (\[.*?\])", text, re.MULTILINE)
    assert [name in extra for name in ("s3fs", "gcsfs", "adlfs", "ossfs")] == [True, True, True, False]


class Flaky(MemoryFileSystem):
    """Fails as often as `failures` says, with an exception that is nobody else's."""

    protocol = "s3"
    cachable = False
    failures = 0
    error: Exception = RuntimeError("slow down")

    def cat_file(self, path: str, **options: Any) -> bytes:
        if type(self).failures:
            type(self).failures -= 1
            raise self.error
        return super().cat_file(path, **options)


class Silent(AsyncFileSystem):
    """Never answers."""

    protocol = "s3"
    cachable = False

    async def _cat_file(self, path: str, **options: Any) -> bytes:
        await asyncio.sleep(60)
        return b""


@pytest.fixture
def as_s3(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(stores, "FIRST_WAIT", 0.001)

    def register(kind: type) -> None:
        monkeypatch.setitem(import_module("fsspec.registry")._registry, "s3", kind)

    return register


def test_a_failure_that_passes_is_tried_again(as_s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    as_s3(Flaky)
    monkeypatch.setattr(Flaky, "failures", 3)
    assert load_image("s3://bucket/a.png", Limits()).size == (2, 1)
    monkeypatch.setattr(Flaky, "failures", 4)
    with pytest.raises(ImageError, match="after 4 tries: slow down"):
        load_image("s3://bucket/a.png", Limits())


@pytest.mark.parametrize(
    "error",
    [PermissionError("Denied"), ValueError("Denied: no bucket"), OSError(22, "Denied: an empty object")],
)
def test_a_failure_that_does_not_pass_is_not_tried_again(
    as_s3: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    as_s3(Flaky)
    monkeypatch.setattr(Flaky, "failures", 4)
    monkeypatch.setattr(Flaky, "error", error)
    with pytest.raises(ImageError, match="Denied"):
        load_image("s3://bucket/a.png", Limits())
    assert Flaky.failures == 3


def test_a_store_that_does_not_answer_is_left_after_the_limit_of_time(as_s3: Any) -> None:
    as_s3(Silent)
    with pytest.raises(ImageError, match="cannot be read"):
        load_image("s3://bucket/a.png", Limits(fetch_timeout=0.2))
