"""What each architecture is asked: one kind of request after the other, then all of them in one stream.

Knows of an architecture only what its `Builder` tells: how many images it takes, and whether it chats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.batching.workload import requests
from tests.tiny import Builder

from pixano_vlm.models import VLMInput

MIXED = 24
"""Records of the mixed batch, beside those of the single kinds."""
NEW_TOKENS = 20
LONGEST = 60
"""Longest prompt of the mixed batch, in words."""


def cases(builder: Builder, pictures: list[Path]) -> dict[str, list[VLMInput]]:
    """Kind -> its requests; a kind that the architecture does not take is left out.

    `pictures` are at least four, of different sizes.
    """
    first, second, third, fourth = pictures[:4]
    several = builder.max_images is None or builder.max_images > 1
    found = {
        "string prompt": [_ask("What colour is the largest shape?", [first])],
        "one image": [_ask("Describe it.", [second]), _ask("How many birds are there, and where?", [third])],
    }
    if not builder.min_images:
        found["no image"] = [_ask("Name a colour."), _ask("Tell a story about an old house in the rain.")]
    if several:
        found["two images"] = [
            _ask("Compare the two.", [first, second]),
            _ask("Which one is brighter?", [fourth, third]),
        ]
    if builder.chat:
        found["chat prompt"] = [_ask([_turn("user", "What is in", None, "here?")], [second])]
        found["turns"] = turns(first)
        if several:
            found["conversation"] = [_ask(conversation(), [first, third])]
    found["mixed batch"] = [
        *(request for kind in found.values() for request in kind),
        *requests(builder.name, pictures, MIXED, longest=LONGEST),
    ]
    return found


def turns(picture: Path) -> list[VLMInput]:
    """System, assistant and tool turns and a begun answer, with string and with list contents."""
    question = _turn("user", None, "What is this?")

    def both(role: str, said: str) -> list[dict[str, Any]]:
        return [{"role": role, "content": said}, _turn(role, said)]

    return [
        *(_ask([turn, question], [picture]) for turn in both("system", "Answer in one word.")),
        *(_ask([question, turn, _turn("user", "Why?")], [picture]) for turn in both("assistant", "A cat.")),
        *(_ask([question, turn], [picture]) for turn in both("assistant", "This is a")),
        *(
            _ask([question, _turn("assistant", "I look."), turn, _turn("user", "So?")], [picture])
            for turn in both("tool", "A cat.")
        ),
    ]


def conversation() -> list[dict[str, Any]]:
    """Three turns about two images: one comes with the first question, one with the second."""
    return [
        _turn("user", None, "What is this?"),
        _turn("assistant", "A red cat on a mat."),
        _turn("user", "And this?", None),
        _turn("assistant", "Seven blue birds."),
        _turn("user", "Which of the two is older?"),
    ]


def _turn(role: str, *parts: str | None) -> dict[str, Any]:
    """One message; `None` stands for an image."""
    content = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def _ask(prompt: Any, images: list[Path] | None = None) -> VLMInput:
    return VLMInput(prompt=prompt, images=images, max_new_tokens=NEW_TOKENS, temperature=0)
