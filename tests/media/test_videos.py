"""Videos: what a manifest line may say of them, and how files and frames become arrays within limits."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixano_vlm.errors import ImageError, PromptError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.media import videos
from pixano_vlm.media.videos import VideoFacts, load_frames, load_video
from pixano_vlm.models.limits import Limits
from pixano_vlm.prompts.messages import image_sources
from pixano_vlm.records.content_key import ContentKey
from pixano_vlm.records.request import Request

SIZE = (16, 24)


@pytest.fixture
def frames(tmp_path: Path) -> list[str]:
    names = [f"{number}.png" for number in range(3)]
    for number, name in enumerate(names):
        Image.new("RGB", SIZE, (80 * number, 0, 0)).save(tmp_path / name)
    return names


def read(folder: Path, *parts: Any, limits: Limits | None = None) -> Request:
    """The request of a line with one user turn of these parts."""
    line = {"prompt": [{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}]}
    file = folder / "manifest.jsonl"
    file.write_text(json.dumps(line) + "\n", encoding="utf-8")
    (request,) = Manifest(file, limits=limits)
    return request


def video(source: Any) -> dict[str, Any]:
    return {"type": "video", "video": source}


def test_frames_and_files_are_resolved_from_the_manifests_folder(tmp_path: Path, frames: list[str]) -> None:
    request = read(tmp_path, video(frames), video("clip.mp4"))
    assert request.input is not None
    assert isinstance(request.input.prompt, list)
    parts = request.input.prompt[0]["content"]
    assert parts[0] == video([str(tmp_path / name) for name in frames])
    assert parts[1] == video(str(tmp_path / "clip.mp4"))
    assert [Path(file.path).name for file in request.files] == [*frames, "clip.mp4"]
    assert image_sources(request.input.prompt) == [], "frames are no images"


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"type": "video"}, "names no video"),
        (video([]), "an empty list of frames"),
        (video(["a.png", 3]), "not 3"),
        (video({"url": "a.mp4"}), "must be a path or URL"),
        ({"type": "video", "video": "a.mp4", "path": "b.mp4"}, "names its video twice"),
        (video(""), "must be a path or URL"),
    ],
)
def test_a_video_part_that_is_wrong_is_its_records_error(part: Any, told: str, tmp_path: Path) -> None:
    error = read(tmp_path, part).error
    assert isinstance(error, PromptError)
    assert told in str(error)


def test_frames_must_lie_in_the_image_root(tmp_path: Path, frames: list[str]) -> None:
    (tmp_path / "root").mkdir()
    error = read(tmp_path, video(frames), limits=Limits(image_root=tmp_path / "root")).error
    assert isinstance(error, ImageError)
    assert "0.png lies outside" in str(error)


def test_another_frame_is_another_question_when_resuming(tmp_path: Path, frames: list[str]) -> None:
    def key() -> bytes:
        return ContentKey(read(tmp_path, video(frames)), "model", 0).strong(Limits())

    first = key()
    assert key() == first
    Image.new("RGB", SIZE, (0, 0, 255)).save(tmp_path / frames[1])
    assert key() != first


def test_a_list_of_frames_is_looked_at_whole(tmp_path: Path, frames: list[str]) -> None:
    loaded = load_frames([tmp_path / name for name in frames], Limits())
    assert loaded.frames.shape == (3, SIZE[1], SIZE[0], 3)
    assert [int(frame[0, 0, 0]) for frame in loaded.frames] == [0, 80, 160]
    assert loaded.indices == [0, 1, 2]


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(max_video_frames=2), "3 frames to look at, and the limit is 2"),
        (Limits(max_video_pixels=1000), "1,000 in all"),
        (Limits(max_image_pixels=100), "and the limit is 100"),
    ],
)
def test_frames_beyond_a_limit_are_refused(
    limits: Limits, told: str, tmp_path: Path, frames: list[str]
) -> None:
    with pytest.raises(ImageError, match=told):
        load_frames([tmp_path / name for name in frames], limits)


def test_a_frame_of_another_size_is_named(tmp_path: Path, frames: list[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "odd.png")
    with pytest.raises(ImageError, match=r"odd\.png has 8 x 8 pixels, and the video's first frame"):
        load_frames([tmp_path / frames[0], tmp_path / "odd.png"], Limits())


def encode(file: Path, codec: str, *runs: tuple[int, int, int]) -> Path:
    """A clip of frames that grow brighter, at 10 a second; each of its `runs` is a width, a height and a count."""
    av = pytest.importorskip("av")
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *runs[0][:2], "yuv420p"
        base, times = Fraction(1, 10), count()
        for number, (width, height, frames) in enumerate(runs):
            encoder = stream if not number else av.CodecContext.create(codec, "w")
            if number:  # a container asks of no later packet whether it is of the size that was declared
                encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
                encoder.framerate = 10
                encoder.time_base = base
            pictures = [np.full((height, width, 3), 20 * index, dtype=np.uint8) for index in range(frames)]
            made = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]
            for packet in [packet for frame in [*made, None] for packet in encoder.encode(frame)]:
                packet.stream, packet.time_base = stream, base
                packet.pts = packet.dts = next(times)
                container.mux(packet)
    return file


class TestFiles:
    """Decoded by PyAV."""

    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        return encode(tmp_path / "clip.mp4", "mpeg4", (32, 16, 12))

    def test_only_the_frames_that_are_asked_for_are_decoded(self, clip: Path) -> None:
        seen: list[VideoFacts] = []

        def choose(facts: VideoFacts) -> list[int]:
            seen.append(facts)
            return [1, 5, 5, 9]

        loaded = load_video(clip, choose, Limits())
        assert seen == [VideoFacts(12, 10.0, 32, 16)]
        assert seen[0].seconds == 1.2
        assert loaded.frames.shape == (4, 16, 32, 3)
        for frame, number in zip(loaded.frames, (1, 5, 5, 9), strict=True):
            assert abs(float(frame.mean()) - 20 * number) < 6

    def test_limits_hold_before_anything_is_decoded(self, clip: Path) -> None:
        with pytest.raises(ImageError, match="12 frames to look at, and the limit is 5"):
            load_video(clip, lambda facts: range(facts.frames), Limits(max_video_frames=5))
        with pytest.raises(ImageError, match="32 x 16 pixels"):
            load_video(clip, lambda facts: range(facts.frames), Limits(max_video_pixels=1000))
        with pytest.raises(ImageError, match="the limit is 10"):
            load_video(clip, lambda facts: range(facts.frames), Limits(max_image_bytes=10))

    def test_a_damaged_file_is_told_by_its_name(self, clip: Path, tmp_path: Path) -> None:
        half = tmp_path / "half.mp4"
        half.write_bytes(clip.read_bytes()[:200])
        with pytest.raises(ImageError, match=r"half\.mp4 is not a video that can be decoded"):
            load_video(half, lambda facts: range(facts.frames), Limits())

    def test_a_data_url_of_a_video_is_one(self, clip: Path) -> None:
        body = base64.b64encode(clip.read_bytes()).decode()
        for kind in ("video/mp4", "application/octet-stream", ""):
            loaded = load_video(f"data:{kind};base64,{body}", lambda facts: [0, 3], Limits())
            assert loaded.frames.shape == (2, 16, 32, 3)
        for kind in ("text/html", "image/png"):
            with pytest.raises(
                ImageError, match=f"holds {kind}, not a video. Give a data URL of a video/ type"
            ):
                load_video(f"data:{kind};base64,{body}", lambda facts: [0], Limits())

    @pytest.mark.parametrize("container", ["mp4", "mkv", "avi", "mpg", "ts", "flv", "wmv", "gif"])
    def test_the_usual_containers_are_read(self, tmp_path: Path, container: str) -> None:
        pytest.importorskip("av")
        if container == "gif":
            file = tmp_path / "clip.gif"
            first, *rest = [Image.new("RGB", SIZE, (40 * number, 0, 0)) for number in range(4)]
            first.save(file, save_all=True, append_images=rest, duration=100)
        else:
            codec = {"flv": "flv1", "mpg": "mpeg2video", "ts": "mpeg2video"}.get(container, "mpeg4")
            file = encode(tmp_path / f"clip.{container}", codec, (*SIZE, 4))
        assert load_video(file, lambda facts: [0], Limits()).frames.shape == (1, SIZE[1], SIZE[0], 3)


class TestHostileFiles:
    """A file opens nothing but itself, and is what it claims to be."""

    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        return encode(tmp_path / "clip.mp4", "mpeg4", (32, 16, 4))

    @pytest.fixture
    def in_folder(self, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(clip.parent)

    @pytest.fixture
    def playlist(self, clip: Path) -> Path:
        """A list of one file, outside the only folder that may be read from."""
        (clip.parent / "root").mkdir()
        file = clip.parent / "root" / "playlist.mp4"
        file.write_text(f"ffconcat version 1.0\nfile '{clip.name}'\n")
        return file

    def test_a_playlist_is_not_a_video(self, in_folder: None, playlist: Path) -> None:
        with pytest.raises(
            ImageError, match=r"playlist\.mp4 is not a video that can be decoded: Invalid argument"
        ):
            load_video(playlist, lambda facts: [0], Limits(image_root=playlist.parent))

    def test_not_even_a_container_that_names_files_opens_them(
        self, in_folder: None, playlist: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(videos, "CONTAINERS", (*videos.CONTAINERS, "concat"))
        with pytest.raises(ImageError, match="is not a video that can be decoded"):
            load_video(playlist, lambda facts: [0], Limits(image_root=playlist.parent))

    def test_a_description_of_streams_opens_no_connection(self, tmp_path: Path) -> None:
        """Its port is taken: opening it would fail in another way, and where it is free, wait for ever."""
        pytest.importorskip("av")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("", 0))
            (tmp_path / "streams.mp4").write_text(
                "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                f"m=video {taken.getsockname()[1]} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
            )
            with pytest.raises(ImageError, match="is not a video that can be decoded: Invalid argument"):
                load_video(tmp_path / "streams.mp4", lambda facts: [0], Limits())

    @pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.webm", "libvpx")])
    def test_a_video_that_changes_its_size_is_told_by_its_frame(
        self, tmp_path: Path, name: str, codec: str
    ) -> None:
        file = encode(tmp_path / name, codec, (32, 16, 4), (64, 48, 4))
        assert load_video(file, lambda facts: [0, 3], Limits()).frames.shape == (2, 16, 32, 3)
        with pytest.raises(ImageError, match=r"frame 4 has 64 x 48 pixels, and the first 32 x 16"):
            load_video(file, lambda facts: [0, 7], Limits())

    def test_frames_larger_than_the_container_says_are_held_to_the_limits(self, tmp_path: Path) -> None:
        file = encode(tmp_path / "a.webm", "libvpx", (32, 16, 4))
        claims = bytearray(file.read_bytes())
        for element, claimed in ((b"\xb0\x81\x20", 16), (b"\xba\x81\x10", 8)):  # PixelWidth and PixelHeight
            claims[claims.index(element) + 2] = claimed
        file.write_bytes(claims)
        seen: list[VideoFacts] = []

        def choose(facts: VideoFacts) -> list[int]:
            seen.append(facts)
            return [0]

        with pytest.raises(ImageError, match="1 frames of 32 x 16 pixels, and the limits are 200 pixels"):
            load_video(file, choose, Limits(max_image_pixels=200))
        assert (seen[0].width, seen[0].height) == (16, 8)
        assert load_video(file, choose, Limits()).frames.shape == (1, 16, 32, 3)

    def test_a_number_of_frames_out_of_the_air_is_not_chosen_from(self, tmp_path: Path) -> None:
        file = encode(tmp_path / "a.avi", "mpeg4", (32, 16, 4))
        claims = bytearray(file.read_bytes())
        length = claims.index(b"strh") + 8 + 32  # of the stream, in frames
        claims[length : length + 4] = (2**31 - 1).to_bytes(4, "little")
        file.write_bytes(claims)
        with pytest.raises(ImageError, match=r"claims 2,147,483,647 frames in [\d,]+ bytes"):
            load_video(file, lambda facts: range(facts.frames), Limits())

    def test_the_frames_chosen_are_counted_before_they_are_listed(self, clip: Path) -> None:
        class TooMany(list[int]):
            def __len__(self) -> int:
                return 10**12

            def __iter__(self) -> Iterator[int]:
                raise AssertionError("listed")

        with pytest.raises(ImageError, match="1,000,000,000,000 frames to look at, and the limit is 768"):
            load_video(clip, lambda facts: TooMany(), Limits())
