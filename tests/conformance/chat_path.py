"""Conversations through transformers' own chat path, with pictures and videos in them.

The other side of comparisons, as `tests.tiny.reference` is for single questions: it shares no code with the
engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.tiny.reference import NewTokens
from transformers import LogitsProcessor, LogitsProcessorList

SIZE = (48, 64)
"""Height and width of a frame."""

Messages = list[dict[str, Any]]


def turn(role: str, *parts: str | dict[str, Any]) -> dict[str, Any]:
    """One message."""
    return {
        "role": role,
        "content": [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts],
    }


def draw_frames(folder: Path, count: int = 6) -> list[str]:
    """Pictures of one size: a bright square that walks over noise."""
    noise = np.random.default_rng(1).integers(0, 120, (*SIZE, 3), dtype=np.uint8)
    paths = []
    for number in range(count):
        frame = noise.copy()
        frame[8:24, 8 * number : 8 * number + 16] = 255 - 20 * number
        paths.append(str(folder / f"frame{number}.png"))
        Image.fromarray(frame).save(paths[-1])
    return paths


def about_videos(frames: list[str], picture: str) -> dict[str, list[Messages]]:
    """Kind -> conversations: about one video, and about several things."""

    def video(named: list[str]) -> dict[str, Any]:
        return {"type": "video", "video": named}

    return {
        "one video": [
            [turn("user", video(frames), "What happens here?")],
            [turn("user", video(frames[:4]), "What happens here?")],
            [turn("user", video(frames[::-1]), "What happens here?")],
        ],
        "two videos": [[turn("user", video(frames), video(frames[::-1]), "Which way?")]],
        "video and image": [
            [
                turn("user", {"type": "image", "path": picture}, "What is this?"),
                turn("assistant", "Noise."),
                turn("user", "And this?", video(frames)),
            ]
        ],
    }


def by_chat_path(
    model: Any,
    processor: Any,
    messages: Messages,
    new_tokens: int,
    watch: LogitsProcessor | None = None,
    **processor_kwargs: Any,
) -> list[int]:
    """The new tokens of one conversation as transformers' documentation shows it, its pictures opened."""
    inputs = processor.apply_chat_template(
        [{**message, "content": [_opened(part) for part in message["content"]]} for message in messages],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs=processor_kwargs,
    )
    recorder = NewTokens()
    with torch.inference_mode():
        model.generate(
            **inputs.to(model.dtype),
            max_new_tokens=new_tokens,
            do_sample=False,
            num_beams=1,
            streamer=recorder,
            logits_processor=LogitsProcessorList([] if watch is None else [watch]),
        )
    return recorder.tokens


def _opened(part: dict[str, Any]) -> dict[str, Any]:
    """A part with pictures in place of their paths: a torchvision without operators opens none."""
    if part["type"] == "image":
        return {"type": "image", "image": Image.open(part["path"]).convert("RGB")}
    if part["type"] == "video":
        return {"type": "video", "video": [Image.open(frame).convert("RGB") for frame in part["video"]]}
    return part
