"""What servers are sent of images: formats that each of them reads, and no more bytes than the file has."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.engines.scripted_server import ScriptedServer, page, status
from tests.engines.served import ask, collected, connect, impatient, served_image

from pixano_vlm.errors import GenerationError, RunError
from pixano_vlm.media.pixels import FORMATS, decode_image
from pixano_vlm.models import Limits

__all__ = ["collected", "connect", "impatient"]  # fixtures

pytest.importorskip("openai")
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def photo(size: tuple[int, int] = (243, 161)) -> Image.Image:
    """Soft shapes and some noise, which compress as a photo does."""
    random = np.random.default_rng(0)
    soft = Image.fromarray(random.integers(0, 255, (9, 13, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    noisy = np.asarray(soft).astype(int) + random.normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def turned(way: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = way
    return {"exif": exif}


def drawing() -> Image.Image:
    return photo().quantize(16)


def clear() -> Image.Image:
    image = photo().convert("RGBA")
    image.putalpha(128)
    return image


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.linspace(0, 65535, 243 * 161).astype(np.uint16).reshape(161, 243))


def send(connect: Any, path: Path, **params: Any) -> tuple[str, bytes, Image.Image]:
    with ScriptedServer() as server:
        connect(server, **params).predict(ask(images=[path]))
    return served_image(server)


def difference(sent: Image.Image, path: Path) -> float:
    upright = decode_image(path.read_bytes(), Limits(), "x")
    found = np.asarray(sent.convert("RGB")).astype(int) - np.asarray(upright).astype(int)
    return float(np.abs(found).mean())


class TestFormats:
    @pytest.mark.parametrize(
        ("image", "name", "options"),
        [
            (photo(), "a.jpg", {"quality": 90}),
            (photo(), "progressive.jpg", {"progressive": True}),
            (photo().convert("L"), "grey.jpg", {}),
            (photo(), "a.png", {}),
            (photo().convert("L"), "grey.png", {}),
            (drawing(), "palette.png", {}),
            (photo().convert("1"), "scan.png", {}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_plain_jpeg_or_png_is_sent_byte_for_byte(
        self, connect: Any, tmp_path: Path, image: Image.Image, name: str, options: dict[str, Any]
    ) -> None:
        path = tmp_path / name
        image.save(path, **options)
        head, data, _ = send(connect, path)
        assert data == path.read_bytes()
        assert head == f"data:image/{'jpeg' if name.endswith('jpg') else 'png'};base64"

    @pytest.mark.parametrize(
        ("image", "name", "options", "mode"),
        [
            (photo(), "lossless.webp", {"lossless": True}, "RGB"),
            (photo(), "a.tiff", {}, "RGB"),
            (photo().convert("1"), "fax.tiff", {"compression": "group4"}, "1"),
            (photo(), "a.bmp", {}, "RGB"),
            (drawing(), "a.gif", {}, "P"),
            (photo(), "a.ppm", {}, "RGB"),
            (clear(), "clear.png", {}, "RGB"),
            (sixteen_bits(), "scan.png", {}, "L"),
            (photo().convert("LA"), "la.png", {}, "L"),
            (photo(), "turned.png", turned(6), "RGB"),
            (drawing(), "turned-palette.png", turned(8), "P"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_an_exact_image_of_another_format_becomes_a_png_of_the_same_pixels(
        self, connect: Any, tmp_path: Path, image: Image.Image, name: str, options: dict[str, Any], mode: str
    ) -> None:
        path = tmp_path / name
        image.save(path, **options)
        head, _, sent = send(connect, path)
        assert (head, sent.format, sent.mode) == ("data:image/png;base64", "PNG", mode)
        assert difference(sent, path) == 0

    @pytest.mark.parametrize(
        ("image", "name", "options"),
        [
            (photo(), "a.webp", {"quality": 80}),
            (clear(), "clear.webp", {"quality": 80}),
            (photo(), "a.avif", {"quality": 70}),
            (photo(), "jpeg.tiff", {"compression": "jpeg"}),
            (photo().convert("CMYK"), "cmyk.jpg", {"quality": 90}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_lossy_image_of_another_format_becomes_a_jpeg(
        self, connect: Any, tmp_path: Path, image: Image.Image, name: str, options: dict[str, Any]
    ) -> None:
        if name.endswith("avif") and "AVIF" not in FORMATS:
            pytest.skip("this Pillow reads no AVIF")
        path = tmp_path / name
        image.save(path, **options)
        head, data, sent = send(connect, path)
        assert (head, sent.format) == ("data:image/jpeg;base64", "JPEG")
        assert difference(sent, path) < 6
        assert len(data) < 2 * path.stat().st_size

    def test_the_first_frame_of_an_animation_is_sent(self, connect: Any, tmp_path: Path) -> None:
        path = tmp_path / "moving.png"
        photo().save(path, save_all=True, append_images=[Image.new("RGB", (243, 161))])
        _, _, sent = send(connect, path)
        assert getattr(sent, "n_frames", 1) == 1
        assert difference(sent, path) == 0

    def test_one_of_two_images_in_a_file_of_a_phone_is_sent(self, connect: Any, tmp_path: Path) -> None:
        path = tmp_path / "two.jpg"
        photo().save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (243, 161))], quality=90)
        head, data, sent = send(connect, path)
        assert (head, sent.format) == ("data:image/jpeg;base64", "JPEG")
        assert difference(sent, path) < 2
        assert len(data) <= path.stat().st_size


class TestSizes:
    @pytest.mark.parametrize("way", [2, 3, 6, 8])
    @pytest.mark.parametrize("quality", [40, 75, 95])
    def test_a_jpeg_that_is_turned_stays_a_jpeg_and_does_not_grow(
        self, connect: Any, tmp_path: Path, way: int, quality: int
    ) -> None:
        path = tmp_path / "turned.jpg"
        photo().save(path, quality=quality, **turned(way))
        head, data, sent = send(connect, path)
        assert head == "data:image/jpeg;base64"
        assert len(data) <= path.stat().st_size
        assert difference(sent, path) < 4
        assert 0x0112 not in sent.getexif()

    @pytest.mark.parametrize("subsampling", [0, 1, 2])
    def test_its_colours_are_as_finely_sampled_as_before(
        self, connect: Any, tmp_path: Path, subsampling: int
    ) -> None:
        path = tmp_path / "turned.jpg"
        photo().save(path, quality=85, subsampling=subsampling, **turned(6))
        _, data, sent = send(connect, path)
        assert len(data) <= path.stat().st_size
        assert difference(sent, path) < 3

    def test_a_jpeg_that_is_made_smaller_is_not_larger_in_bytes(self, connect: Any, tmp_path: Path) -> None:
        path = tmp_path / "coarse.jpg"
        photo((800, 600)).save(path, quality=20)
        _, data, sent = send(connect, path, max_image_side=780)
        assert sent.size == (780, 585)
        assert len(data) <= path.stat().st_size

    def test_a_webp_that_is_made_smaller_becomes_a_jpeg(self, connect: Any, tmp_path: Path) -> None:
        path = tmp_path / "a.webp"
        photo().save(path, quality=80)
        head, data, sent = send(connect, path, max_image_side=100)
        assert (head, sent.size) == ("data:image/jpeg;base64", (100, 66))
        assert len(data) <= path.stat().st_size

    @pytest.mark.parametrize(
        "act",
        [
            status(413, "Request Entity Too Large"),
            page("413 Request Entity Too Large", code=413),
            status(
                400, "messages.0.content.1.image: image exceeds 5 MB maximum: 6129904 bytes > 5242880 bytes"
            ),
            status(400, "The image is too large. Please limit to 75 megapixels."),
        ],
    )
    def test_an_image_that_is_too_large_for_the_server_names_the_parameter_that_helps(
        self, connect: Any, tmp_path: Path, act: Any
    ) -> None:
        path = tmp_path / "a.jpg"
        photo().save(path)
        with ScriptedServer(act) as server, pytest.raises(GenerationError) as raised:
            connect(server).predict(ask(images=[path]))
        assert "max_image_side" in (raised.value.hint or "")
        assert "<" not in raised.value.message

    def test_where_no_image_is_small_enough_the_run_ends_with_that_hint(
        self, connect: Any, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.jpg"
        photo().save(path)
        with ScriptedServer(always=status(413, "too large")) as server, pytest.raises(RunError) as raised:
            list(connect(server).stream((n, ask(images=[path])) for n in range(200)))
        assert "max_image_side" in (raised.value.hint or "")
        assert len(server.bodies) < 40


def test_a_server_is_never_sent_a_file_that_only_looks_like_an_image(connect: Any, tmp_path: Path) -> None:
    buffer = BytesIO()
    photo().save(buffer, "JPEG")
    (tmp_path / "half.jpg").write_bytes(buffer.getvalue()[:900])
    with ScriptedServer() as server:
        answers = dict(connect(server).stream([(0, ask(images=[tmp_path / "half.jpg"]))]))
    assert "damaged" in str(answers[0])
    assert server.bodies == []
