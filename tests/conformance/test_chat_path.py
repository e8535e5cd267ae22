"""Conversations give the tokens of transformers' own chat path: `apply_chat_template` with `tokenize=True`, then
`generate`. The messages are the same objects on both sides; only this package's run is a batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.batching.workload import draw_pictures, load, requests
from tests.conformance.chat_path import SIZE, Messages, about_videos, by_chat_path, draw_frames, turn
from tests.conformance.running import ASKED_FOR_VIDEO, Alone, compare
from tests.tiny import ARCHITECTURES, build

from pixano_vlm.errors import ImageError, PromptError
from pixano_vlm.models import VLMInput
from pixano_vlm.models.limits import Limits

# transformers 5.23 hands tensors to numpy in an old way in some processors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WITH_IMAGES = ("idefics3", "llava", "gemma3", "qwen2_5_vl", "internvl")
WITH_VIDEOS = ("qwen2_5_vl", "qwen3_vl", "smolvlm", "llava_onevision", "internvl")
NEW_TOKENS = 20


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return draw_frames(tmp_path_factory.mktemp("frames"))


def ask(prompt: str | Messages, **fields: Any) -> VLMInput:
    return VLMInput(prompt=prompt, max_new_tokens=NEW_TOKENS, temperature=0, **fields)


def checkpoint(name: str, folder: Path) -> Path:
    missing = ARCHITECTURES[name].missing
    if missing:
        pytest.skip(f"{name} needs {', '.join(missing)}; `make test-torchvision` has them")
    return build(name, folder / "model")


def assert_as_wanted(
    path: Path, name: str, pictures: list[Path], asked: list[Messages], wanted: list[list[int]]
) -> None:
    """Runs the conversations twice each, among other records, and compares their tokens."""
    others = requests(name, pictures, 6, longest=40)
    model = load(path, max_batch_size=4)
    inputs = [*others[:3], *map(ask, asked), *others[3:], *map(ask, asked)]
    alone = Alone(path)
    rest = [alone.answer(other) for other in others]
    expected = [*rest[:3], *wanted, *rest[3:], *wanted]
    assert not [difference for difference in compare(model, inputs, expected) if difference]


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_three_turns_about_two_images_are_those_of_the_chat_path(
    name: str, tmp_path: Path, pictures: list[Path]
) -> None:
    path = checkpoint(name, tmp_path)
    first, second = ({"type": "image", "path": str(picture)} for picture in pictures[:2])
    asked = [
        [
            turn("user", first, "What is this?"),
            turn("assistant", "A red cat on a mat."),
            turn("user", "And this?", second),
            turn("assistant", "Seven blue birds."),
            turn("user", "Which of the two is older?"),
        ],
        [
            turn("system", "You are brief."),
            turn("user", "Compare", second, "with", first),
            turn("assistant", "The first is larger."),
            turn("user", "By how much?"),
            turn("assistant", "Twice."),
            turn("user", "Are you sure?"),
        ],
    ]
    alone = Alone(path)
    wanted = [by_chat_path(alone.model, alone.processor, messages, NEW_TOKENS) for messages in asked]
    assert wanted[0] != wanted[1]
    assert_as_wanted(path, name, pictures, asked, wanted)


@pytest.mark.parametrize("name", WITH_VIDEOS)
def test_a_video_of_frames_gives_the_tokens_of_the_chat_path(
    name: str, tmp_path: Path, pictures: list[Path], frames: list[str]
) -> None:
    """By itself, shorter, backwards, beside another video, and in a conversation after an image."""
    path = checkpoint(name, tmp_path)
    alone = Alone(path)

    kinds = about_videos(frames, str(pictures[0]))
    # SmolVLM's processor takes either images or one video.
    asked = (
        kinds["one video"]
        if name == "smolvlm"
        else [messages for kind in kinds.values() for messages in kind]
    )
    wanted = [
        by_chat_path(alone.model, alone.processor, messages, NEW_TOKENS, **ASKED_FOR_VIDEO)
        for messages in asked
    ]
    assert len({tuple(tokens) for tokens in wanted}) > 1, "the answer depends on the video"
    assert_as_wanted(path, name, pictures, asked, wanted)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "internvl"])
def test_a_video_file_is_sampled_as_its_processor_samples_it(
    name: str, tmp_path: Path, pictures: list[Path]
) -> None:
    path = checkpoint(name, tmp_path)
    pytest.importorskip("av")
    from transformers.video_utils import load_video

    file = write_video(tmp_path / "clip.mp4", 30)
    messages = [turn("user", {"type": "video", "video": str(file)}, "What happens here?")]
    alone = Alone(path)
    text = alone.processor.apply_chat_template(messages, add_generation_prompt=True)
    decoded, metadata = load_video(str(file), backend="pyav")
    inputs = alone.processor(
        text=[text], videos=[decoded], video_metadata=[dict(metadata)], return_tensors="pt"
    )
    with torch.inference_mode():
        row = alone.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    wanted = row[0, inputs["input_ids"].shape[1] :].tolist()
    assert_as_wanted(path, name, pictures, [messages], [wanted])


def write_video(file: Path, count: int) -> Path:
    """A small MPEG-4 video: a bright bar that walks."""
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(count):
            frame = np.full((*SIZE, 3), 40, dtype=np.uint8)
            frame[:, 2 * number : 2 * number + 6] = 220
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file


def test_a_model_without_a_video_part_refuses_a_video_and_answers_the_others(
    tmp_path: Path, pictures: list[Path], frames: list[str]
) -> None:
    model = load(checkpoint("llava", tmp_path))
    asked = [turn("user", {"type": "video", "video": frames}, "What happens here?")]
    answers = dict(
        model.stream([("video", ask(asked)), ("image", ask("What is this?", images=pictures[:1]))])
    )
    assert isinstance(answers["video"], PromptError)
    assert "takes no video" in str(answers["video"])
    assert not isinstance(answers["image"], Exception)


def test_a_video_that_cannot_be_used_is_its_records_error_and_names_the_frame(
    tmp_path: Path, pictures: list[Path], frames: list[str]
) -> None:
    model = load(checkpoint("qwen2_5_vl", tmp_path))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    cases: dict[str, tuple[list[str] | str, str]] = {
        "of two sizes": ([frames[0], str(pictures[0]), str(pictures[1])], pictures[1].name),
        "missing": ([frames[0], str(tmp_path / "none.png")], "none.png"),
        "too many": (frames * 100, "600 frames"),
        "broken": (str(broken), "broken.mp4"),
    }
    model.limits = Limits(max_video_frames=500)
    asked = [
        (name, ask([turn("user", {"type": "video", "video": video}, "What?")]))
        for name, (video, _) in cases.items()
    ]
    answers = dict(model.stream(asked))
    for name, (_, told) in cases.items():
        assert isinstance(answers[name], ImageError), name
        assert told in str(answers[name])


def test_frames_outside_the_image_root_are_refused(tmp_path: Path, frames: list[str]) -> None:
    model = load(checkpoint("qwen2_5_vl", tmp_path))
    inside = tmp_path / "inside"
    inside.mkdir()
    model.limits = Limits(image_root=inside)
    asked = ask([turn("user", {"type": "video", "video": frames[:2]}, "What?")])
    ((_, answer),) = model.stream([(0, asked)])
    assert isinstance(answer, ImageError)
    assert "outside the image root" in str(answer)
