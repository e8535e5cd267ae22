"""Videos: what a manifest line may say of them, and how files and frames become arrays within limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixano_vlm.errors import ImageError, PromptError
from pixano_vlm.models.limits import Limits
from pixano_vlm.records.content import ContentKey
from pixano_vlm.records.manifest import read_manifest
from pixano_vlm.records.messages import image_sources
from pixano_vlm.records.request import Request
from pixano_vlm.records.videos import VideoFacts, load_frames, load_video

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
    (request,) = read_manifest(file, limits=limits)
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


class TestFiles:
    """Decoded by PyAV."""

    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        av = pytest.importorskip("av")
        file = tmp_path / "clip.mp4"
        with av.open(str(file), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
            for number in range(12):
                picture = np.full((16, 32, 3), 20 * number, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        return file

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
