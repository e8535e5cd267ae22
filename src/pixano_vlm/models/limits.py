"""What one record may open and how large it may be: plain numbers that travel with a model.

Knows how nothing is enforced: `media` and the engines do that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one record. The defaults admit what a camera makes and refuse what an attacker does."""

    image_root: Path | None = None
    """When set, image paths must lie inside it, symbolic links resolved."""
    allow_urls: bool = True
    """Whether URLs are fetched at all, those of stores such as S3 included."""
    allow_private_hosts: bool = False
    """Whether URLs may lead to loopback, private or link-local addresses."""
    max_image_bytes: int = 64 * 2**20
    """Largest encoded image or video, in bytes."""
    max_image_pixels: int = 100_000_000
    """Largest decoded image, in pixels."""
    max_images: int = 64
    """Most images in one record; a video is none."""
    max_videos: int = 8
    """Most videos in one record."""
    max_video_frames: int = 768
    """Most frames of one video that are looked at."""
    max_video_pixels: int = 500_000_000
    """Pixels of all the frames of one video that are looked at, together."""
    max_prompt_tokens: int | None = None
    """Longest prompt in tokens, image tokens included; None: what the model's context admits."""
    max_new_tokens: int = 65_536
    """Most new tokens that a record may ask for."""
    fetch_timeout: float = 30.0
    """Seconds that fetching one URL may take in all."""
    fetch_attempts: int = 4
    """Tries for a fetch that fails in a way that may pass."""
