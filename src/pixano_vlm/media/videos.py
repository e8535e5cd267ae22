"""A video -> the frames that a model looks at, within limits. Knows no model.

A video is a file, read as images are (same paths, URLs, data and confinement), or a list of images that are
its frames. Files are decoded by PyAV (extra `video`), and of them only the frames that are asked for; nothing else
is opened, whatever a file names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixano_vlm.errors import ImageError
from pixano_vlm.media.images import load_image
from pixano_vlm.media.reading import read_bytes
from pixano_vlm.media.sources import shortened
from pixano_vlm.models.limits import Limits

Source = str | Path

CONTAINERS = ("mov", "matroska", "avi", "mpeg", "mpegts", "flv", "ogg", "asf", "gif")
"""FFmpeg's names of what is read: MP4 is `mov`, WebM `matroska`, WMV `asf`. It knows more, some of which open files
and connections that they name: playlists (concat, HLS, DASH), descriptions of streams (SDP)."""
_CONVERT = "Convert it to MP4 or WebM, or give the video as a list of its frames."


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a file says of itself."""

    frames: int
    """In all."""
    fps: float | None
    width: int
    height: int

    @property
    def seconds(self) -> float | None:
        """How long it plays."""
        return self.frames / self.fps if self.fps else None


@dataclass(frozen=True, slots=True)
class LoadedVideo:
    """The frames of one video that are looked at."""

    frames: NDArray[np.uint8]
    """`[frames, height, width, 3]`, RGB."""
    facts: VideoFacts
    indices: list[int]
    """Which of the file's frames they are, in order."""


Choose = Callable[[VideoFacts], Sequence[int]]
"""Which frames of a file to look at."""


def load_frames(sources: Sequence[Source], limits: Limits) -> LoadedVideo:
    """Reads a video given as a list of images: every one of them is looked at.

    Raises:
        ImageError: When one cannot be used, or they are not all of one size; names it.
    """
    _check_count(len(sources), f"the video of frames from {shortened(str(sources[0]))}", limits)
    pictures: list[Image.Image] = []
    for source in sources:
        picture = load_image(source, limits).image
        if pictures and picture.size != pictures[0].size:
            raise ImageError(
                f"{shortened(str(source))} has {_by(picture.size)} pixels, and the video's first frame, "
                f"{shortened(str(sources[0]))}, {_by(pictures[0].size)}.",
                hint="Give all frames of a video the same size.",
            )
        if not pictures:
            _check_pixels(len(sources), picture.size, shortened(str(source)), limits)
        pictures.append(picture)
    width, height = pictures[0].size
    facts = VideoFacts(len(pictures), None, width, height)
    return LoadedVideo(np.stack([np.asarray(p) for p in pictures]), facts, list(range(len(pictures))))


def load_video(source: Source, choose: Choose, limits: Limits) -> LoadedVideo:
    """Reads a video file and decodes the frames that `choose` names. Safe to call from many threads.

    Raises:
        ImageError: When it cannot be read or decoded, or is larger than the limits; says which.
    """
    name = shortened(str(source))
    try:
        import av
    except ModuleNotFoundError:
        raise ImageError(
            f"{name} is a video file, and decoding those needs the package av.",
            hint="Run: pip install 'pixano-vlm[video]', or give the video as a list of its frames.",
        ) from None
    data, _ = read_bytes(source, limits, kind="video")
    # No protocol is called `none`: even a container that is read here can open nothing but these bytes.
    only = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "none"}
    try:
        with av.open(BytesIO(data), container_options=only) as container:
            facts = _facts(container, name, len(data))
            chosen = choose(facts)
            _check_count(len(chosen), name, limits)
            indices = [int(index) for index in chosen]
            _check_pixels(len(indices), (facts.width, facts.height), name, limits)
            container.seek(0)
            found = dict(_decode(container, indices, name, limits))
    except ImageError:
        raise
    except Exception as error:  # on damaged data, decoders raise whatever their parsing runs into
        reason = getattr(error, "strerror", None) or str(error).rstrip(".") or type(error).__name__
        raise ImageError(f"{name} is not a video that can be decoded: {reason}.", hint=_CONVERT) from None
    if len(found) != len(set(indices)):
        raise ImageError(f"{name} is damaged: it ends before its last frame.", hint="Replace it.")
    return LoadedVideo(np.stack([found[index] for index in indices]), facts, indices)


def _facts(container: Any, name: str, size: int) -> VideoFacts:
    if not container.streams.video:
        raise ImageError(f"{name} has no images, only sound.", hint="Name a video.")
    stream = container.streams.video[0]
    frames = int(stream.frames)
    if not frames:  # some containers do not say: their packets are counted, without decoding
        frames = sum(1 for packet in container.demux(stream) if packet.size)
    if not frames:
        raise ImageError(f"{name} has no frames.", hint="Replace it.")
    if frames > size:  # none takes less than a byte; a number out of the air would be sampled from
        raise ImageError(
            f"{name} is damaged: it claims {frames:,} frames in {size:,} bytes.", hint="Replace it."
        )
    rate = stream.average_rate
    return VideoFacts(frames, float(rate) if rate else None, int(stream.width), int(stream.height))


def _decode(
    container: Any, indices: Sequence[int], name: str, limits: Limits
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    wanted, last = set(indices), max(indices)
    first: tuple[int, int] | None = None
    for index, frame in enumerate(container.decode(video=0)):
        size = (int(frame.width), int(frame.height))
        if first is None:
            _check_pixels(len(indices), size, name, limits)  # the container may have said another
            first = size
        elif size != first:
            raise ImageError(
                f"{name} changes its size: frame {index:,} has {_by(size)} pixels, and the first {_by(first)}.",
                hint=_CONVERT,
            )
        if index in wanted:
            yield index, frame.to_ndarray(format="rgb24")
        if index >= last:
            return


def _check_count(count: int, name: str, limits: Limits) -> None:
    if count > limits.max_video_frames:
        raise ImageError(
            f"{name} has {count:,} frames to look at, and the limit is {limits.max_video_frames:,}.",
            hint="Shorten it, or give fewer frames.",
        )
    if not count:
        raise ImageError(f"no frame of {name} would be looked at.", hint="Give a longer one.")


def _check_pixels(count: int, size: tuple[int, int], name: str, limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_image_pixels or count * width * height > limits.max_video_pixels:
        raise ImageError(
            f"{name} has {count:,} frames of {_by(size)} pixels, and the limits are "
            f"{limits.max_image_pixels:,} pixels a frame and {limits.max_video_pixels:,} in all.",
            hint="Make it smaller or shorter.",
        )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"
