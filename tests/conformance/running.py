"""One tiny checkpoint through `TransformersVLMModel`, and beside it through transformers alone.

The two sides share nothing: each loads its own model and its own processor from the folder.
"""

from __future__ import annotations

import json
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tests.batching.workload import draw_pictures, load
from tests.conformance.cases import NEW_TOKENS, cases
from tests.conformance.chat_path import about_videos, by_chat_path, draw_frames
from tests.conformance.findings import Finding
from tests.tiny import ARCHITECTURES, build
from tests.tiny.reference import ASKED_FOR, generate_alone, mark_images
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    pipeline,
)
from transformers.utils import logging

from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import PixanoVLMError, VLMError
from pixano_vlm.models import VLMInput

ROWS = 8
TIE = 1e-4
"""Gap between the two best logits below which rounding alone may choose either: in float32, batches of different
sizes move a logit by some 1e-6, and experts are summed in another order."""
ASKED_FOR_VIDEO = {"do_sample_frames": False}
"""A list of frames is looked at whole."""
ENDING_SHARE = 0.4
"""About how many records of the mixed batch are to end early."""


def quieten() -> None:
    """Readies a process of the suite's command."""
    torch.set_num_threads(1)  # matrices this small are slower on several
    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def examine_timed(name: str) -> tuple[Finding, float]:
    """What `examine` finds, and the seconds it took. A checkpoint that cannot be built is a finding, too."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            finding = examine(name, Path(folder))
        # The other types are still to be examined, whatever one of them raises.
        except Exception as error:
            traceback.print_exc()
            finding = Finding(
                name, name, list(ARCHITECTURES[name].needs), False, False, False, failure=repr(error)[:300]
            )
    return finding, time.perf_counter() - began


def examine(name: str, folder: Path) -> Finding:
    """Builds the checkpoint `name` in `folder` and finds out what the table says of it."""
    builder = ARCHITECTURES[name]
    path = build(name, folder / name)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    finding = Finding(
        checkpoint=name,
        type=config["model_type"],
        needs=list(builder.needs),
        chat_template=builder.chat,
        text_alone=not builder.min_images,
        several_images=builder.max_images is None or builder.max_images > 1,
    )
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    asked = cases(builder, draw_pictures(pictures, 5))
    alone = Alone(path)
    alone.end_sooner(asked["mixed batch"][-8:])
    videos = alone.about_videos(draw_frames(pictures), pictures / "0.png")
    finding.videos = "one video" in videos
    asked |= videos
    asked = {
        kind: [r for r in map(alone.before_tie, inputs) if r is not None] for kind, inputs in asked.items()
    }
    try:
        model = load(path, max_batch_size=ROWS)
    except PixanoVLMError as error:
        finding.failure = str(error)
        return finding
    capabilities = model._require().capabilities
    finding.in_flight, finding.shared_prefixes = capabilities.in_flight, capabilities.shared_prefill
    finding.reason = capabilities.reason
    for kind, inputs in asked.items():
        wanted = [alone.answer(request) for request in inputs]
        finding.records[kind] = len(inputs)
        finding.tokens += sum(map(len, wanted))
        finding.ended_early += sum(answer[-1] in alone.end_ids for answer in wanted)
        texts: dict[int, str] = {}
        wrong = [difference for difference in compare(model, inputs, wanted, texts) if difference]
        if wrong:
            finding.wrong[kind] = wrong
        for index, answer in enumerate(wanted):
            if texts.get(index) == alone.text(answer):
                finding.texts += 1
            else:
                finding.other_texts.append(f"{kind}: {texts.get(index)!r:.80} for {alone.text(answer)!r:.80}")
    finding.pipeline = alone.compare_pipeline(model, asked.get("one image") or asked["string prompt"])
    model.unload()
    return finding


def compare(
    model: TransformersVLMModel,
    inputs: list[VLMInput],
    wanted: list[list[int]],
    texts: dict[int, str] | None = None,
) -> Iterator[str]:
    """For each request of one stream how its tokens differ from those wanted; "" where they do not.

    The answers' texts go into `texts`.
    """
    failed: dict[Any, str] = {}

    def stream(pairs: Any) -> Iterator[Any]:
        for key, answer in model.stream(pairs):
            if isinstance(answer, VLMError):
                failed[key] = f"{type(answer).__name__}: {answer}"
            elif texts is not None:
                texts[key] = answer.generated_text
            yield key, answer

    got = stream_tokens(model._require().stop, stream, inputs)
    for index, tokens in enumerate(wanted):
        if index in failed:
            yield failed[index][:300]
        elif got[index] != tokens:
            yield f"record {index}: {got[index]} for {tokens}"
        else:
            yield ""


class Gaps(LogitsProcessor):
    """Notes at each step by how much the best token beats the second."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        best, second = scores[0].topk(2).values.tolist()
        self.found.append(best - second)
        return scores


class Alone:
    """A checkpoint as transformers' documentation runs it, one record at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32)
        self.processor = AutoProcessor.from_pretrained(path)
        self._known: dict[str, list[int]] = {}
        self._ties: dict[str, int] = {}

    @property
    def end_ids(self) -> list[int]:
        """The checkpoint's end tokens."""
        ids = self.model.generation_config.eos_token_id
        return [ids] if isinstance(ids, int) else list(ids or ())

    def answer(self, request: VLMInput) -> list[int]:
        """The new tokens of one request, computed once."""
        key = repr(request)
        if key not in self._known:
            pictures = [Image.open(path).convert("RGB") for path in request.images or []]
            prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
            gaps = Gaps()
            self._known[key] = generate_alone(
                self.model,
                self.processor,
                prompt,
                pictures,
                request.max_new_tokens,
                logits_processor=LogitsProcessorList([gaps]),
            )
            self._note_tie(key, gaps)
        return self._known[key]

    def text(self, tokens: list[int]) -> str:
        """What transformers' own decoding makes of an answer, without outer white space."""
        plain = str(self.processor.tokenizer.decode(tokens, skip_special_tokens=True))
        post_process = getattr(self.processor, "post_process_image_text_to_text", None)
        if post_process is None:
            return plain.strip()
        try:
            [text] = post_process(torch.tensor([tokens]), skip_special_tokens=True)
        # Some processors' own takes nothing but the sequence with its prompt.
        except Exception:
            return plain.strip()
        return str(text or plain).strip()

    def compare_pipeline(self, model: TransformersVLMModel, asked: list[VLMInput]) -> str:
        """What the pipeline says to the first of some requests, against the engine."""
        if not asked:
            return "every first token is a tie"
        request = asked[0]
        try:
            said = self._by_pipeline(request)
        # A type that the pipeline does not take says so in its own way.
        except Exception as error:
            return f"does not run: {' '.join(str(error).split())[:120]}"
        [(_, answer)] = model.stream([(0, request)])
        if isinstance(answer, VLMError):
            return f"{said!r:.60} for an error"
        return "equal" if answer.generated_text == said else f"{said!r:.80} for {answer.generated_text!r:.80}"

    def _by_pipeline(self, request: VLMInput) -> str:
        pipe = pipeline("image-text-to-text", model=self.model, processor=self.processor)
        options: dict[str, Any] = {
            "max_new_tokens": request.max_new_tokens,
            "return_full_text": False,
            "generate_kwargs": {"do_sample": False, "num_beams": 1},
        }
        pictures = [Image.open(str(path)).convert("RGB") for path in request.images or []]
        assert isinstance(request.prompt, str)
        if getattr(self.processor, "chat_template", None):
            parts = [
                *({"type": "image", "image": picture} for picture in pictures),
                {"type": "text", "text": request.prompt},
            ]
            [found] = pipe(text=[{"role": "user", "content": parts}], **options)
        else:
            text = mark_images(self.processor, request.prompt, pictures)
            [found] = pipe(images=pictures, text=text, **options)
        return str(found["generated_text"]).strip()

    def before_tie(self, request: VLMInput) -> VLMInput | None:
        """The request with so few new tokens that no two were equally good; None where the first two are."""
        tokens = self.answer(request)
        tie = self._ties.get(repr(request), len(tokens))
        if tie >= len(tokens):
            return request
        if not tie:
            return None
        shorter = request.model_copy(update={"max_new_tokens": tie})
        self._known[repr(shorter)] = tokens[:tie]
        return shorter

    def _note_tie(self, key: str, gaps: Gaps) -> None:
        tie = next((place for place, gap in enumerate(gaps.found) if gap < TIE), None)
        if tie is not None:
            self._ties[key] = tie

    def about_videos(self, frames: list[str], picture: Path) -> dict[str, list[VLMInput]]:
        """Questions about videos, as far as transformers' own chat path takes them, with their answers."""
        found: dict[str, list[VLMInput]] = {}
        options = ASKED_FOR_VIDEO | ASKED_FOR.get(self.model.config.model_type, {})
        if getattr(self.processor, "video_processor", None) is None:
            return found
        for kind, conversations in about_videos(frames, str(picture)).items():
            asked = [VLMInput(prompt=m, max_new_tokens=NEW_TOKENS, temperature=0) for m in conversations]
            try:
                for messages, request in zip(conversations, asked, strict=True):
                    gaps = Gaps()
                    self._known[repr(request)] = by_chat_path(
                        self.model, self.processor, messages, NEW_TOKENS, watch=gaps, **options
                    )
                    self._note_tie(repr(request), gaps)
            # What a processor or model does not take, it refuses in its own way.
            except Exception:
                continue
            found[kind] = asked
        return found

    def end_sooner(self, requests: list[VLMInput]) -> None:
        """Makes a token that some answers to these hold an end token of the checkpoint.

        Random weights choose their end token when they like; so every architecture is seen to end early. Some
        captioners' own `generate` heeds no list of end tokens: their checkpoint is left as it was.
        """
        answers = [self.answer(request) for request in requests]
        candidates = {token for answer in answers for token in answer[1:-1]} - set(self.end_ids)

        def miss(token: int) -> float:
            # Not as the very first token, or nothing would be left of the answer.
            share = sum(token in answer[1:] and token != answer[0] for answer in answers) / len(answers)
            return abs(share - ENDING_SHARE)

        if not candidates:
            return
        chosen = min(sorted(candidates), key=miss)
        file = self.path / "generation_config.json"
        before = file.read_text(encoding="utf-8")
        settings = json.loads(before) | {"eos_token_id": [*self.end_ids, chosen]}
        self._set_generation(file, json.dumps(settings))
        longer = next(answer for answer in answers if chosen in answer[:-1])
        if self.answer(requests[answers.index(longer)]) == longer:
            self._set_generation(file, before)

    def _set_generation(self, file: Path, settings: str) -> None:
        file.write_text(settings, encoding="utf-8")
        self.model.generation_config = GenerationConfig.from_pretrained(self.path)
        self._known.clear()
        self._ties.clear()
