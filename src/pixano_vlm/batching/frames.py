"""Videos as the model's processor takes them: which frames, and what is told of them.

Which frames of a file are looked at, the model's own video processor decides. A list of frames is looked at
whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pixano_vlm.media.videos import LoadedVideo, VideoFacts, load_frames, load_video
from pixano_vlm.models.limits import Limits
from pixano_vlm.prompts.messages import VideoSource

NOT_OF_SAMPLING = ("input_data_format", "do_convert_rgb", "do_sample_frames", "device", "video_metadata")
"""Settings of a video processor that it does not hand on to the choice of frames."""


class FrameChooser:
    """Opens videos for one model.

    Args:
        video_processor: The model's, or None where it takes no video.
    """

    def __init__(self, video_processor: Any) -> None:
        self._processor = video_processor

    def options(self, sources: Sequence[VideoSource], limits: Limits) -> dict[str, Any]:
        """The options of the processor's call for these videos; none for no videos.

        Raises:
            ImageError: When one cannot be used; names it.
        """
        if not sources:
            return {}
        videos = [
            load_frames(source, limits)
            if isinstance(source, tuple)
            else load_video(source, self._choose, limits)
            for source in sources
        ]
        return {
            "videos": [video.frames for video in videos],
            "video_metadata": [_metadata(video) for video in videos],
            "do_sample_frames": False,  # done already, or every frame was named
        }

    def _choose(self, facts: VideoFacts) -> Sequence[int]:
        """The frames of a file that the video processor would take by itself."""
        if not getattr(self._processor, "do_sample_frames", False):
            return range(facts.frames)
        from transformers.video_utils import VideoMetadata

        settings = {
            name: getattr(self._processor, name, None)
            for name in self._processor.valid_kwargs.__annotations__
            if name not in NOT_OF_SAMPLING
        }
        metadata = VideoMetadata(
            total_num_frames=facts.frames,
            fps=facts.fps,
            width=facts.width,
            height=facts.height,
            duration=facts.seconds,
        )
        return [
            int(index) for index in np.asarray(self._processor.sample_frames(metadata=metadata, **settings))
        ]


def _metadata(video: LoadedVideo) -> dict[str, Any]:
    facts = video.facts
    return {
        "total_num_frames": facts.frames,
        "fps": facts.fps,
        "width": facts.width,
        "height": facts.height,
        "duration": facts.seconds,
        "frames_indices": list(video.indices),
    }
