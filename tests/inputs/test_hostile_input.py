"""No input stops a run: each bad line, image or URL yields one error record that says why, or a right answer."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fakes import run

from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.rules import MAX_LINE_BYTES, MAX_TEXT_BYTES
from pixano_vlm.media import http as fetch
from pixano_vlm.models import GenerationSettings, Limits

GREEDY = GenerationSettings(temperature=0, max_new_tokens=16)
LIMITS = Limits(
    allow_private_hosts=True,
    max_image_pixels=1_000_000,
    max_image_bytes=200_000,
    max_images=4,
    fetch_timeout=1.0,
    fetch_attempts=2,
)
GOOD = {"prompt": "a good neighbour"}


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    size = width * height * len(Image.new(mode, (1, 1)).tobytes())
    return Image.frombytes(mode, (width, height), bytes((i * 7919 >> 3) & 0xFF for i in range(size)))


PNG = encoded(noise(8, 6))


def png_that_claims(width: int, height: int) -> bytes:
    """A few bytes that promise a picture of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def run_lines(folder: Path, lines: list[bytes], limits: Limits = LIMITS) -> list[dict[str, Any]]:
    manifest = folder / "manifest.jsonl"
    manifest.write_bytes(b"".join(lines))
    run(manifest, folder / "out.jsonl", limits=limits, settings=GREEDY, overwrite=True)
    return [json.loads(line) for line in (folder / "out.jsonl").read_text("utf-8").splitlines()]


def as_line(line: Any) -> bytes:
    return (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"


def outcome(folder: Path, line: Any, limits: Limits = LIMITS) -> dict[str, Any]:
    """The output of one line between two good ones, which must not notice."""
    before, it, after = run_lines(folder, [as_line(GOOD), as_line(line), as_line(GOOD)], limits)
    assert before["status"] == after["status"] == "ok"
    if it["status"] == "error":
        assert it["error"]["message"].startswith("manifest.jsonl:2")
        assert "Traceback" not in it["error"]["message"]
        assert it["generated_text"] is it["usage"] is it["finish_reason"] is None
    return it


def assert_error(line: dict[str, Any], type: str, *words: str) -> None:
    assert line["status"] == "error"
    assert line["error"]["type"] == type
    for word in words:
        assert word in line["error"]["message"]


def text_part(text: str = "q") -> dict[str, str]:
    return {"type": "text", "text": text}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


LINES = {
    "not json": (b"hello", "RecordError", "not JSON"),
    "a truncated object": (b'{"prompt": "q", "id": "x', "RecordError", "not JSON"),
    "two objects": (b'{"prompt": "q"} {"prompt": "r"}', "RecordError", "not JSON"),
    "a list": (b'["q"]', "RecordError", "a JSON list"),
    "a string": (b'"q"', "RecordError", "a JSON string"),
    "a number": (b"42", "RecordError", "a JSON number"),
    "null": (b"null", "RecordError", "a JSON null"),
    "single quotes": (b"{'prompt': 'q'}", "RecordError", "not JSON"),
    "no prompt": ({"images": []}, "RecordError", "there is no prompt"),
    "a null prompt": ({"prompt": None}, "RecordError", "there is no prompt"),
    "a question instead of a prompt": ({"question": "q"}, "RecordError", "Rename 'question'"),
    "an empty prompt": ({"prompt": " "}, "RecordError", "empty"),
    "a number as prompt": ({"prompt": 5}, "RecordError", "prompt must be"),
    "an object as prompt": ({"prompt": {"role": "user"}}, "RecordError", "prompt must be"),
    "no messages": ({"prompt": []}, "PromptError", "empty list"),
    "a message that is a string": ({"prompt": ["q"]}, "PromptError", "prompt[0]"),
    "a message without a role": ({"prompt": [{"content": "q"}]}, "PromptError", "role"),
    "an unknown role": ({"prompt": [{"role": "robot", "content": "q"}]}, "PromptError", "'robot'"),
    "a role that is a list": ({"prompt": [{"role": [], "content": "q"}]}, "PromptError", "role"),
    "a message without content": ({"prompt": [{"role": "user"}]}, "PromptError", "content"),
    "an unknown part": ({"prompt": [user({"type": "sound"})]}, "PromptError", "'sound'"),
    "a text part without text": ({"prompt": [user({"type": "text"})]}, "PromptError", "text"),
    "an image_url without url": ({"prompt": [user({"type": "image_url"})]}, "PromptError", "url"),
    "an image named twice": (
        {"prompt": [user({"type": "image", "url": "a", "path": "b"})]},
        "PromptError",
        "twice",
    ),
    "a placeholder without an image": (
        {"prompt": [user({"type": "image"}, text_part())]},
        "PromptError",
        "names 0",
    ),
    "an image without a placeholder": (
        {"prompt": [user(text_part())], "images": ["a.png"]},
        "PromptError",
        "hold 0",
    ),
    "invalid utf-8": (b'{"prompt": "\xff\xfe"}', "RecordError", "not UTF-8 at byte 13"),
    "latin-1": ('{"prompt": "caf\xe9"}'.encode("latin-1"), "RecordError", "not UTF-8"),
    "a NUL byte": (b'{"prompt": "a\0b"}', "RecordError", "not JSON"),
    "nothing but NUL bytes": (b"\0\0\0\0", "RecordError", "not JSON"),
    "half a surrogate pair": (b'{"prompt": "\\ud800"}', "RecordError", "surrogate"),
    "deep nesting": (b'{"prompt": "q", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "RecordError", "deep"),
    "very deep nesting": (b"[" * 200_000, "RecordError", ""),
    "101 levels": (b'{"prompt": "q", "x": ' + b"[" * 101 + b"]" * 101 + b"}", "RecordError", "deep"),
    "NaN": (b'{"prompt": "q", "temperature": NaN}', "RecordError", "NaN"),
    "Infinity in metadata": (b'{"prompt": "q", "metadata": {"x": Infinity}}', "RecordError", "Infinity"),
    "a number past all floats": (b'{"prompt": "q", "metadata": {"x": 1e999}}', "RecordError", "1e999"),
    "a number of 5000 digits": (b'{"prompt": "q", "x": ' + b"9" * 5000 + b"}", "RecordError", "digits"),
    "max_new_tokens 0": (
        {"prompt": "q", "max_new_tokens": 0},
        "RecordError",
        "max_new_tokens must be 1 or more",
    ),
    "max_new_tokens negative": ({"prompt": "q", "max_new_tokens": -5}, "RecordError", "not -5"),
    "max_new_tokens huge": (
        {"prompt": "q", "max_new_tokens": 10**9},
        "RecordError",
        "1,000,000,000",
        "65,536",
    ),
    "max_new_tokens astronomic": ({"prompt": "q", "max_new_tokens": 10**30}, "RecordError", "max_new_tokens"),
    "max_new_tokens a string": ({"prompt": "q", "max_new_tokens": "16"}, "RecordError", "'16'"),
    "max_new_tokens true": ({"prompt": "q", "max_new_tokens": True}, "RecordError", "True"),
    "max_new_tokens a fraction": ({"prompt": "q", "max_new_tokens": 1.5}, "RecordError", "1.5"),
    "temperature negative": (
        {"prompt": "q", "temperature": -1},
        "RecordError",
        "temperature must be at least 0",
    ),
    "temperature a string": ({"prompt": "q", "temperature": "hot"}, "RecordError", "'hot'"),
    "top_p above 1": ({"prompt": "q", "top_p": 1.5}, "RecordError", "top_p"),
    "top_k 0": ({"prompt": "q", "top_k": 0}, "RecordError", "top_k"),
    "stop a number": ({"prompt": "q", "stop": 5}, "RecordError", "stop"),
    "an empty stop string": ({"prompt": "q", "stop": [""]}, "RecordError", "stop"),
    "seed negative": ({"prompt": "q", "seed": -1}, "RecordError", "seed"),
    "images a number": ({"prompt": "q", "images": 5}, "RecordError", "images must be"),
    "images of numbers": ({"prompt": "q", "images": [5]}, "RecordError", "images must hold"),
    "an empty image": ({"prompt": "q", "images": [""]}, "RecordError", "empty string"),
    "an image path with NUL": ({"prompt": "q", "images": ["a\0b"]}, "RecordError", "NUL"),
    "too many images": ({"prompt": "q", "images": ["a.png"] * 5}, "RecordError", "5 images", "limit is 4"),
    "metadata a list": ({"prompt": "q", "metadata": []}, "RecordError", "metadata must be an object"),
    "id a list": ({"prompt": "q", "id": []}, "RecordError", "id must be"),
    "an empty id": ({"prompt": "q", "id": ""}, "RecordError", "id must not be empty"),
    "a long id": ({"prompt": "q", "id": "x" * 2000}, "RecordError", "at most 1,024"),
    "a misspelt key": ({"prompt": "q", "max_tokens": 5}, "RecordError", "'max_tokens'", "'max_new_tokens'"),
    "a key twice": (b'{"prompt": "q", "prompt": "r"}', "RecordError", "'prompt' stands twice"),
}


@pytest.mark.parametrize("case", LINES, ids=lambda case: case.replace(" ", "_"))
def test_a_bad_line_is_one_error_record(tmp_path: Path, case: str) -> None:
    line, *expected = LINES[case]
    assert_error(outcome(tmp_path, line), *expected)


@pytest.mark.parametrize(
    "text",
    [
        b'\xef\xbb\xbf{"prompt": "q"}\n',
        b'{"prompt": "q"}\r\n',
        b'{"prompt": "q"}',
        b'\n\n  \r\n{"prompt": "q"}\n\n',
        b'\xef\xbb\xbf\r\n{"prompt": "q"}\r\n',
        '{"prompt": "größe 🙂 \u2028"}\n'.encode(),
        b'{"prompt": "\\ud83d\\ude42"}\n',
        b'{"prompt": "q", "max_new_tokens": 8.0, "id": 7, "images": null, "seed": null}\n',
    ],
    ids=[
        "bom",
        "crlf",
        "no_line_end",
        "blank_lines",
        "bom_and_crlf",
        "unicode",
        "surrogate_pair",
        "loose_types",
    ],
)
def test_an_odd_but_right_manifest_is_answered(tmp_path: Path, text: bytes) -> None:
    (line,) = run_lines(tmp_path, [text])
    assert line["status"] == "ok"


def test_duplicate_ids_make_the_second_an_error(tmp_path: Path) -> None:
    first, second, third = run_lines(tmp_path, [as_line({"prompt": "q", "id": i}) for i in ("a", "a", "b")])
    assert (first["status"], third["status"]) == ("ok", "ok")
    assert_error(second, "RecordError", "manifest.jsonl:2 (id 'a')", "an earlier line")


def test_a_line_that_is_too_long_is_one_error_and_is_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    limit = 8 * 2**20
    defaults = Manifest.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "max_line_bytes", limit)
    manifest = tmp_path / "manifest.jsonl"
    with manifest.open("wb") as file:
        file.write(as_line(GOOD) + b'{"prompt": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n' + as_line(GOOD))
    tracemalloc.start()
    try:
        run(manifest, tmp_path / "out.jsonl", settings=GREEDY)
        assert tracemalloc.get_traced_memory()[1] < 2 * limit + 8 * 2**20
    finally:
        tracemalloc.stop()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["ok", "error", "ok"]
    assert_error(lines[1], "RecordError", f"longer than {limit:,} bytes")


class TestLongLines:
    """A line has room for the images that are written out in it, and not for more text than ever."""

    @pytest.fixture(autouse=True)
    def short_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pixano_vlm.inputs.line_parser.MAX_TEXT_BYTES", 2_000)

    def test_the_longest_line_holds_three_images_of_the_most_bytes(self) -> None:
        assert 3 * Limits().max_image_bytes * 4 // 3 <= MAX_LINE_BYTES - MAX_TEXT_BYTES

    @pytest.mark.parametrize("form", ["images", "a part", "base64 alone", "a frame"])
    def test_images_are_not_text(self, tmp_path: Path, form: str) -> None:
        written = base64.b64encode(encoded(noise(36, 36), "BMP")).decode()
        url = f"data:image/bmp;base64,{written}"
        parts = {
            "a part": {"type": "image_url", "image_url": {"url": url}},
            "a frame": {"type": "video", "video": [url, url]},
        }
        line: dict[str, Any] = {"prompt": "q", "images": [written if form == "base64 alone" else url]}
        if form in parts:
            line = {"prompt": [{"role": "user", "content": [parts[form], {"type": "text", "text": "q"}]}]}
        assert len(json.dumps(line)) > 4_000
        assert outcome(tmp_path, line)["status"] == "ok"

    @pytest.mark.parametrize(
        "line",
        [
            {"prompt": "q" * 3_000},
            {"prompt": [{"role": "user", "content": "q" * 3_000}]},
            {"prompt": "q", "note": "q" * 3_000},
            {"prompt": "q", "metadata": {"note": "data:image/png;base64," + "A" * 3_000}},
        ],
    )
    def test_text_is_one_error_that_says_so(self, tmp_path: Path, line: dict[str, Any]) -> None:
        found = outcome(tmp_path, line)
        assert_error(found, "RecordError", "the line is longer than 2,000 bytes without the images in it")


# --- images ---


def missing(path: Path) -> None: ...


def bytes_of(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def unreadable(path: Path) -> None:
    path.write_bytes(PNG)
    path.chmod(0)


BAD_IMAGES = {
    "missing": (missing, "No such file"),
    "a folder": (Path.mkdir, "is a folder"),
    "empty": (bytes_of(b""), "0 bytes"),
    "a truncated PNG": (bytes_of(PNG[:-40]), "damaged"),
    "a truncated JPEG": (bytes_of(encoded(noise(64, 64), "JPEG")[:900]), "damaged"),
    "a truncated WEBP": (bytes_of(encoded(noise(64, 64), "WEBP")[:300]), "damaged"),
    "a truncated GIF": (bytes_of(encoded(noise(64, 64).convert("P"), "GIF")[:900]), "damaged"),
    "a truncated TIFF": (bytes_of(encoded(noise(64, 64), "TIFF")[:900]), "damaged"),
    "a truncated BMP": (bytes_of(encoded(noise(64, 64), "BMP")[:900]), "damaged"),
    "a header and no more": (bytes_of(PNG[:20]), "damaged"),
    "text": (bytes_of(b"not a picture"), "not an image"),
    "HTML": (bytes_of(b"<!DOCTYPE html><html>"), "HTML"),
    "SVG": (bytes_of(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "SVG"),
    "PDF": (bytes_of(b"%PDF-1.7"), "PDF"),
    "a Git LFS pointer": (bytes_of(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "PostScript, which Pillow would run": (bytes_of(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "not an image"),
    "a decompression bomb": (bytes_of(png_that_claims(50_000, 50_000)), "50,000 x 50,000 pixels"),
    "a picture past the limit": (bytes_of(png_that_claims(1001, 1000)), "limit is 1,000,000"),
    "a huge claim": (bytes_of(png_that_claims(2**31 - 1, 2**31 - 1)), ""),
    "no pixels": (bytes_of(png_that_claims(0, 5)), ""),
    "a file past the limit": (bytes_of(PNG + bytes(200_001)), "200,000"),
    "a pipe": (os.mkfifo, "is a pipe"),
    "a loop of links": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
}


@pytest.mark.parametrize("case", BAD_IMAGES, ids=lambda case: case.replace(" ", "_"))
def test_a_bad_image_is_one_error_record(tmp_path: Path, case: str) -> None:
    make, words = BAD_IMAGES[case]
    make(tmp_path / "bad.png")
    assert_error(outcome(tmp_path, {"prompt": "q", "images": "bad.png"}), "ImageError", "bad.png", words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_image_is_one_error_record(tmp_path: Path) -> None:
    unreadable(tmp_path / "bad.png")
    assert_error(outcome(tmp_path, {"prompt": "q", "images": "bad.png"}), "ImageError", "Permission denied")


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/dev/tty", "/proc/self/mem", "/etc/passwd", "\udce9.png", "x" * 5000]
)
def test_no_path_stops_the_run(tmp_path: Path, path: str) -> None:
    line = outcome(tmp_path, {"prompt": "q", "images": [path]})
    assert line["status"] == "error"
    assert "root:" not in line["error"]["message"]


GOOD_IMAGES = {
    "1x1": encoded(noise(1, 1)),
    "30000x1": encoded(noise(30_000, 1)),
    "1x30000": encoded(noise(1, 30_000)),
    "CMYK": encoded(noise(8, 8, "CMYK"), "JPEG"),
    "16-bit grey": encoded(noise(8, 8, "I;16")),
    "32-bit TIFF": encoded(noise(8, 8, "I"), "TIFF"),
    "float TIFF": encoded(Image.new("F", (8, 8), 0.5), "TIFF"),
    "one bit": encoded(noise(16, 8, "L").convert("1")),
    "grey with alpha": encoded(noise(8, 8, "LA")),
    "palette with alpha": encoded(noise(8, 8, "RGBA").quantize(16)),
    "animated GIF": encoded(
        noise(8, 8).convert("P"), "GIF", save_all=True, append_images=[Image.new("P", (8, 8), 3)]
    ),
    "animated WEBP": encoded(noise(8, 8), "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
    "lossless WEBP": encoded(noise(8, 8, "RGBA"), "WEBP", lossless=True),
    "progressive JPEG": encoded(noise(64, 64), "JPEG", progressive=True),
    "BMP": encoded(noise(8, 8), "BMP"),
    "PPM": encoded(noise(8, 8), "PPM"),
    "trailing bytes": PNG + b"more",
}


@pytest.mark.parametrize("case", GOOD_IMAGES, ids=lambda case: case.replace(" ", "_"))
def test_an_odd_image_is_answered_whatever_its_name(tmp_path: Path, case: str) -> None:
    (tmp_path / "wrong.txt").write_bytes(GOOD_IMAGES[case])
    assert outcome(tmp_path, {"prompt": "q", "images": "wrong.txt"})["status"] == "ok"


def test_a_link_out_of_the_image_root_is_refused_and_one_inside_it_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(PNG)
    (root / "sub" / "a.png").write_bytes(PNG)
    (root / "out.png").symlink_to("../secret.png")
    (root / "in.png").symlink_to("sub/a.png")
    (root / "folder").symlink_to("..")
    limits = Limits(image_root=root)
    for inside in ("root/sub/a.png", "root/in.png", f"file://{root}/sub/a.png", "root/../root/in.png"):
        assert outcome(tmp_path, {"prompt": "q", "images": inside}, limits)["status"] == "ok"
    for outside in ("root/out.png", "secret.png", "root/folder/secret.png", "root/../secret.png", "/etc/passwd",
                    f"file://{tmp_path}/secret.png", f"FILE://{tmp_path}/secret.png", "file:///etc/passwd",
                    f"file://localhost{tmp_path}/secret.png"):  # fmt: skip
        assert_error(
            outcome(tmp_path, {"prompt": "q", "images": outside}, limits), "ImageError", "image root"
        )
        for key in ("image", "url", "path"):
            message = user({"type": "image", key: outside}, text_part())
            assert_error(outcome(tmp_path, {"prompt": [message]}, limits), "ImageError", "image root")
    part = {"type": "image_url", "image_url": {"url": "secret.png"}}
    assert_error(outcome(tmp_path, {"prompt": [user(part)]}, limits), "ImageError", "image root")


def test_a_root_whose_name_starts_another_folders_name_does_not_admit_that(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root-secret").mkdir()
    (tmp_path / "root-secret" / "a.png").write_bytes(PNG)
    line = outcome(
        tmp_path, {"prompt": "q", "images": "root-secret/a.png"}, Limits(image_root=tmp_path / "root")
    )
    assert_error(line, "ImageError", "image root")


# --- data URLs ---


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png;base64,!!!!", "base64"),
        ("data:image/png;base64,AAAAA", "base64"),
        ("data:image/png;base64", "comma"),
        ("data:image/png;base64,", "0 bytes"),
        ("data:,", "0 bytes"),
        (data_url(PNG, "text/html"), "text/html"),
        (data_url(PNG, "application/pdf"), "application/pdf"),
        (data_url(b"hello"), "not an image"),
        (data_url(PNG[:-30]), "damaged"),
        (data_url(bytes(300_000)), "300,000"),
        ("data:image/svg+xml,<svg/>", "SVG"),
    ],
)
def test_a_bad_data_url_is_one_error_record(tmp_path: Path, url: str, words: str) -> None:
    line = outcome(tmp_path, {"prompt": "q", "images": url})
    assert_error(line, "ImageError", words)
    assert len(line["error"]["message"]) < 300


@pytest.mark.parametrize(
    "url",
    [
        data_url(PNG),
        data_url(PNG, "image/jpeg"),
        data_url(PNG, ""),
        data_url(PNG, "IMAGE/PNG;charset=x").replace("data:", "DATA:"),
        data_url(PNG).rstrip("="),
        data_url(PNG).replace("+", "-").replace("/", "_").replace("data:image_png", "data:image/png"),
        "data:image/png," + "".join(f"%{byte:02x}" for byte in PNG),
    ],
    ids=["plain", "wrong_type", "no_type", "capitals", "no_padding", "url_safe", "percent"],
)
def test_a_data_url_is_answered_and_cut_short_in_the_output(tmp_path: Path, url: str) -> None:
    line = outcome(tmp_path, {"prompt": "q", "images": [url]})
    assert line["status"] == "ok"
    assert len(line["images"][0]) < 80


# --- URLs ---


class Handler(BaseHTTPRequestHandler):
    """A server with every bad habit."""

    protocol_version = "HTTP/1.1"
    seen: list[str] = []  # noqa: RUF012 - one list for all requests

    def log_message(self, *args: Any) -> None: ...

    def do_GET(self) -> None:
        type(self).seen.append(self.path)
        try:
            getattr(self, "get_" + self.path.strip("/").split("/")[0].split("?")[0])()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Type": "image/png", "Content_Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def get_good(self) -> None:
        self.send(200, PNG)

    def get_404(self) -> None:
        self.send(404, b"gone")

    def get_500(self) -> None:
        self.send(500, b"oops")

    def get_flaky(self) -> None:
        first = self.seen.count(self.path) == 1
        self.send(503 if first else 200, b"" if first else PNG, **({"Retry_After": "0"} if first else {}))

    def get_busy(self) -> None:
        self.send(429, b"", Retry_After="3600")

    def get_endless(self) -> None:
        self.send(200, b"", Content_Length="", Connection="close")
        for _ in range(10_000):
            self.wfile.write(b"x" * 4096)

    def get_slow(self) -> None:
        time.sleep(3)

    def get_drip(self) -> None:
        self.send(200, b"", Content_Length="1000")
        for _ in range(30):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.1)

    def get_drip_headers(self) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"y" * 100:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.1)

    def get_loop(self) -> None:
        self.send(302, Location="/loop")

    def get_hop(self) -> None:
        self.send(302, Location="/good")

    def get_private(self) -> None:
        self.send(302, Location=f"http://127.0.0.2:{self.server.server_address[1]}/good")

    def get_file(self) -> None:
        self.send(302, Location="file:///etc/passwd")

    def get_large(self) -> None:
        self.send(200, b"", Content_Length="999999999")

    def get_html(self) -> None:
        self.send(200, b"<html>", Content_Type="text/html")

    def get_mislabelled(self) -> None:
        self.send(200, PNG, Content_Type="text/plain")

    def get_short(self) -> None:
        self.send(200, PNG[:50], Content_Length=str(len(PNG)))
        self.close_connection = True

    def get_half(self) -> None:
        self.send(200, PNG[:-30])

    def get_garbage(self) -> None:
        self.wfile.write(b"\0\1\2 not http at all\r\n\r\n")
        self.close_connection = True

    def get_hangup(self) -> None:
        self.close_connection = True

    def get_zipped(self) -> None:
        self.send(200, zlib.compress(PNG), Content_Encoding="deflate")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    for allow in (True, False):
        fetch._pool(allow).close()
    fetch._pool.cache_clear()
    httpd.shutdown()
    httpd.server_close()


BAD_URLS = {
    "404": "answers 404",
    "500": "answers 500",
    "busy": "answers 429",
    "endless": "limit of 200,000",
    "slow": "within 1 seconds",
    "drip": "within 1 seconds",
    "drip_headers": "within 1 seconds",
    "loop": "more than 5 redirects",
    "file": "file: URL",
    "large": "999,999,999",
    "html": "text/html",
    "short": "the connection broke",
    "half": "damaged",
    "garbage": "the connection broke",
    "hangup": "the connection broke",
    "zipped": "deflate",
}


@pytest.mark.parametrize("path", BAD_URLS)
def test_a_bad_url_is_one_error_record_within_its_time(tmp_path: Path, server: str, path: str) -> None:
    started = time.monotonic()
    line = outcome(tmp_path, {"prompt": "q", "images": f"{server}/{path}"})
    assert_error(line, "ImageError", f"{server}/{path}", BAD_URLS[path])
    # Once for the run and once for nothing else: no answer takes longer than the limit and a little.
    assert time.monotonic() - started < 2 * LIMITS.fetch_timeout + 0.5


@pytest.mark.parametrize("path", ["good", "hop", "flaky", "mislabelled", "good?x=ü&y=1 2"])
def test_a_url_is_answered(tmp_path: Path, server: str, path: str) -> None:
    assert outcome(tmp_path, {"prompt": "q", "images": f"{server}/{path}"})["status"] == "ok"


def test_a_fault_that_passes_is_tried_again_and_one_that_does_not_is_not(tmp_path: Path, server: str) -> None:
    for path, times in (("500", 2), ("404", 1)):
        Handler.seen.clear()
        outcome(tmp_path, {"prompt": "q", "images": f"{server}/{path}"})
        assert len(Handler.seen) == times


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://", "names no host"),
        ("http:///x", "names no host"),
        ("http://[::1", "not a URL"),
        ("http://host:99999/", "not a URL"),
        ("ftp://example.com/a.png", "ftp: URL"),
        ("javascript://x", "javascript: URL"),
        ("file://other/etc/passwd", "host"),
        ("http://127.0.0.1:1/a.png", "no connection"),
    ],
)
def test_a_wrong_url_is_one_error_record(tmp_path: Path, url: str, words: str) -> None:
    assert_error(outcome(tmp_path, {"prompt": "q", "images": url}), "ImageError", words)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "10.0.0.1", "192.168.1.1", "169.254.169.254", "2130706433",
             "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0x7f.1", "[fe80::1]", "224.0.0.1"],
)  # fmt: skip
def test_a_private_address_is_refused_unless_allowed(tmp_path: Path, server: str, host: str) -> None:
    Handler.seen.clear()
    url = f"http://{host}:{server.rsplit(':', 1)[1]}/good"
    line = outcome(tmp_path, {"prompt": "q", "images": url}, Limits(fetch_attempts=1, fetch_timeout=2))
    assert_error(line, "ImageError", "private" if host != "[fe80::1]" else "")
    assert Handler.seen == []


def test_a_redirect_to_a_private_address_is_refused(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    limits = Limits(fetch_timeout=2)
    assert outcome(tmp_path, {"prompt": "q", "images": f"{server}/hop"}, limits)["status"] == "ok"
    line = outcome(tmp_path, {"prompt": "q", "images": f"{server}/private"}, limits)
    assert_error(line, "ImageError", "private address 127.0.0.2")


def test_a_name_that_changes_its_address_is_reached_only_where_it_was_checked(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    real, answers = socket.getaddrinfo, iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])

    def resolve(host: str, *args: Any, **options: Any) -> Any:
        return real(next(answers) if host == "rebinding.example" else host, *args, **options)

    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    Handler.seen.clear()
    url = f"http://rebinding.example:{server.rsplit(':', 1)[1]}/good"
    assert outcome(tmp_path, {"prompt": "q", "images": url}, Limits(fetch_timeout=2))["status"] == "ok"


def test_no_urls_refuses_them_all_but_data_urls(tmp_path: Path, server: str) -> None:
    limits = Limits(allow_urls=False, allow_private_hosts=True)
    part = {"type": "image_url", "image_url": {"url": f"{server}/good"}}
    assert_error(
        outcome(tmp_path, {"prompt": "q", "images": f"{server}/good"}, limits), "ImageError", "not allowed"
    )
    assert_error(outcome(tmp_path, {"prompt": [user(part)]}, limits), "ImageError", "not allowed")
    assert outcome(tmp_path, {"prompt": "q", "images": data_url(PNG)}, limits)["status"] == "ok"
