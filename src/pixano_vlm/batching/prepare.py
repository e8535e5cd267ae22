"""Preparation beside the model: requests become token ids and pixel values in worker threads, within bounds.

Knows no batch: one request in, one `Prompt` or its error out. Decoding a JPEG, resizing and tokenising release
the interpreter's lock for most of their time, so threads are enough.
"""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixano_vlm.batching.answer_constraints import AnswerConstraints
from pixano_vlm.batching.constraint import Grammars
from pixano_vlm.batching.frames import FrameChooser
from pixano_vlm.batching.image_budget import ImageBudget, budget_of
from pixano_vlm.batching.image_memo import DIGEST, ImageProcessorMemo, nbytes_of
from pixano_vlm.batching.image_size import image_sizes
from pixano_vlm.batching.sequence import PreparedImage, Prompt
from pixano_vlm.errors import GenerationError, PromptError, VLMError
from pixano_vlm.media.images import load_image
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.region import ImageSize
from pixano_vlm.models.samples import check_samples
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.chat_template import ChatTemplateRenderer, RenderedPrompt
from pixano_vlm.prompts.control_tokens import unmarked
from pixano_vlm.prompts.labels import LabelTree, check_labels, tree_of
from pixano_vlm.prompts.thinking import check_thinking_budget


class PromptMaker:
    """Turns one request into a `Prompt`. Called from several threads at once.

    Args:
        processor: The model's processor.
        renderer: Renders the text.
        grammars: Compiles the schemas that records ask for.
        image_token_id: The placeholder in the model's vocabulary, or None.
        limits: What may be opened.
        context: Longest prompt in tokens, or None.
        prompts_decoder: Whether the prompt is what the decoder starts from, since the encoder reads the
            image alone.
        options: Further options of the processor's call.
        memo_bytes: Budget for processed images that may be asked about again.
    """

    def __init__(
        self,
        processor: Any,
        renderer: ChatTemplateRenderer,
        grammars: Grammars,
        *,
        image_token_id: int | None,
        limits: Limits,
        context: int | None,
        prompts_decoder: bool = False,
        options: dict[str, Any] | None = None,
        memo_bytes: int = 256 * 2**20,
    ) -> None:
        self._processor = processor
        self.renderer = renderer
        self._image_token_id = image_token_id
        self.limits = limits
        self._context = context
        self._prompts_decoder = prompts_decoder
        self._options = options or {}
        inner = getattr(processor, "image_processor", None)
        if isinstance(inner, ImageProcessorMemo):
            inner = inner._inner
        self._memo = None if inner is None else ImageProcessorMemo(inner, memo_bytes)
        if self._memo is not None:
            processor.image_processor = self._memo
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self._constraints = AnswerConstraints(renderer, grammars, self._tokenizer)
        self._frames = FrameChooser(getattr(processor, "video_processor", None))
        self._flat: bool | None = None  # how this processor took its first images
        self._image_processor = inner
        self._budget: ImageBudget | None = None

    def make(self, input: VLMInput) -> Prompt:
        """Opens the images, renders the prompt, and runs the model's processor.

        Raises:
            VLMError: When the request cannot be prepared; says why.
        """
        check_samples(input)
        check_thinking_budget(input, self.renderer.thinking)
        rendered = self.renderer.render(input)
        self._check_counts(rendered)
        pictures = [self._open(source) for source in rendered.images]
        options = self._frames.options(rendered.videos, self.limits)
        options |= self._budget_options(input, pictures)
        tensors, images = self._process(rendered.text, pictures, options)
        processed = [image.pixels for image in images]
        if rendered.videos:
            # Its frames are encoded with its prompt: what the processor gave goes to the model as a whole, which
            # the engine does where pixels are named that no single image accounts for.
            images = []
            tensors.setdefault("pixel_values", None)
        tensors.pop("labels", None)  # for training; some processors always give them
        if self._prompts_decoder:
            self._move_to_decoder(tensors, rendered.text)
        named = "input_ids" if "input_ids" in tensors else "decoder_input_ids"
        # A model that reads its prompt off the image alone (Pix2Struct) has no ids at all.
        ids = np.asarray(tensors[named][0], dtype=np.int64) if named in tensors else np.zeros(0, np.int64)
        self._check_length(len(ids))
        sizes = None
        if input.regions or input.min_pixels is not None or input.max_pixels is not None:
            sizes = self._sizes(pictures, processed or ([tensors] if len(pictures) == 1 else []), ids)
        constraint = self._constraints.of(input, rendered)
        nbytes = nbytes_of(tensors) + sum(nbytes_of(image.pixels) for image in images)
        labels = None if input.choices is None else self._labels(input, rendered)
        return Prompt(ids, tensors, tuple(images), nbytes, constraint, labels, rendered.thinks, sizes)

    @property
    def image_budget(self) -> ImageBudget:
        """How images are held to a budget of pixels; found out when it is asked for first."""
        if self._budget is None:
            self._budget = budget_of(self._image_processor)
        return self._budget

    def _budget_options(self, input: VLMInput, pictures: list[Image.Image]) -> dict[str, Any]:
        least, most = input.min_pixels, input.max_pixels
        if not pictures or (least is None and most is None):
            return {}
        asked = "max_pixels" if least is None else "min_pixels"
        if self.image_budget.refusal is not None:
            raise PromptError(
                f"{asked} {self.image_budget.refusal}.", hint=f"Leave {asked} out, or use another model."
            )
        if least is not None and most is not None and least > most:
            raise PromptError(
                f"min_pixels is {least:,}, and max_pixels is {most:,}.", hint="Give less, then more."
            )
        return {
            "images_kwargs": self.image_budget.options(least, most, [picture.size for picture in pictures])
        }

    def _sizes(
        self, pictures: list[Image.Image], processed: list[dict[str, Any]], ids: NDArray[np.int64]
    ) -> tuple[ImageSize, ...]:
        sizes = [picture.size for picture in pictures]
        return image_sizes(sizes, processed, self._image_processor, ids, self._image_token_id)

    def _labels(self, input: VLMInput, rendered: RenderedPrompt) -> LabelTree:
        labels = check_labels(input.choices, input.response_format, thinks=rendered.thinks)

        def tokenize(text: str) -> list[int]:
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

        return tree_of(labels, unmarked(rendered.text), tokenize)

    def shared_ids(self, prompt: Prompt) -> NDArray[np.int64] | None:
        """Ids in which placeholders stand for their image's content; None when that is not known."""
        if not prompt.images:
            return None if "pixel_values" in prompt.tensors else prompt.ids
        if self._image_token_id is None:
            return None
        content = hashlib.blake2b(b"".join(image.digest for image in prompt.images), digest_size=8).digest()
        # Negative, so that it can never be taken for a token.
        stand_in = -1 - int.from_bytes(content, "little") % 2**62
        return np.where(prompt.ids == self._image_token_id, stand_in, prompt.ids)

    def _check_counts(self, rendered: RenderedPrompt) -> None:
        counts = (
            ("images", len(rendered.images), self.limits.max_images),
            ("videos", len(rendered.videos), self.limits.max_videos),
        )
        for what, count, limit in counts:
            if count > limit:
                raise PromptError(
                    f"the record has {count} {what}; the limit is {limit}.",
                    hint="Use fewer, or raise the limit.",
                )

    def _open(self, source: Any) -> Image.Image:
        loaded = load_image(source, self.limits)
        loaded.image.info[DIGEST] = loaded.digest
        return loaded.image

    def _process(
        self, text: str, pictures: list[Image.Image], videos: dict[str, Any]
    ) -> tuple[dict[str, Any], list[PreparedImage]]:
        options = {"return_tensors": "pt", **self._options, **videos}
        bos = getattr(self._tokenizer, "bos_token", None)
        if bos and text.startswith(bos):
            options["add_special_tokens"] = False  # the template wrote it already
        if self._memo is None:
            return dict(self._call(text, pictures, options)), []
        with self._memo.watch() as seen:
            tensors = dict(self._call(text, pictures, options))
        return tensors, seen if len(seen) == len(pictures) else []

    def _call(self, text: str, pictures: list[Image.Image], options: dict[str, Any]) -> Any:
        # Chat models take a list of images for each text; some captioners take only the images themselves.
        forms: list[Any] = [[pictures], pictures] if pictures else [None]
        if self._flat:
            forms.reverse()
        failure: Exception | None = None
        for form in forms:
            try:
                tensors = self._processor(text=[text], images=form, **options)
            # The processor is a model's own code over a user's own prompt: what it refuses is that record's error.
            except Exception as error:
                failure = failure or error
            else:
                if pictures and self._flat is None:
                    self._flat = form is pictures
                return tensors
        raise PromptError(f"the model's processor refuses this prompt: {failure}.") from failure

    def _move_to_decoder(self, tensors: dict[str, Any], text: str) -> None:
        # Without ids a mask is of the image's patches, and the encoder needs it.
        if tensors.pop("input_ids", None) is not None:
            tensors.pop("attention_mask", None)
        if text and "decoder_input_ids" not in tensors:
            started = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")
            tensors["decoder_input_ids"] = started["input_ids"]

    def _check_length(self, length: int) -> None:
        limit = self.limits.max_prompt_tokens
        if limit is not None and length > limit:
            raise PromptError(
                f"the prompt has {length} tokens, image tokens included; the limit is {limit}.",
                hint="Shorten it, use fewer or smaller images, or raise --max-prompt-tokens.",
            )
        if self._context is not None and length >= self._context:
            raise PromptError(
                f"the prompt has {length} tokens, image tokens included; the model's context is {self._context}.",
                hint="Shorten it, or use fewer or smaller images.",
            )


def options_for(processor: Any, model: Any) -> dict[str, Any]:
    """Options of the processor's call for what the model's forward takes and the processor leaves out unasked.

    Token types tell apart the positions of words and of images; most processors whose model takes them give
    them by default.
    """
    takes = "mm_token_type_ids" in inspect.signature(model.forward).parameters
    if takes and getattr(processor, "return_mm_token_type_ids", None) is False:
        return {"return_mm_token_type_ids": True}
    return {}


def _asked_about(source: ImageSource) -> Hashable:
    """What tells an image from another without opening it."""
    return str(source) if isinstance(source, (str, Path)) else id(source)


Prepared = tuple[Hashable, VLMInput, Prompt | VLMError]


@dataclass(slots=True)
class Preparer:
    """Prepares the requests of a stream ahead of the model, never more than fits.

    Args:
        inputs: The stream; read in the caller's thread, as late as possible.
        maker: Prepares one.
        workers: Threads.
        window: Most requests read and not yet taken by `take`.
        budget: Most bytes prepared and not yet taken, about.
    """

    inputs: Iterator[tuple[Hashable, VLMInput]]
    maker: PromptMaker
    workers: int
    window: int
    budget: int = 512 * 2**20
    is_exhausted: bool = False
    _pending: int = 0
    _ready_bytes: int = 0
    _ready: SimpleQueue[Prepared] = field(default_factory=SimpleQueue)
    _pool: ThreadPoolExecutor | None = None
    _followers: dict[tuple[Hashable, ...], list[tuple[Hashable, VLMInput]]] = field(default_factory=dict)
    """The images that a request under way asks about -> requests that wait for what it makes of them."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Preparer:
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="prepare")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            with self._lock:
                pool, self._pool = self._pool, None
            pool.shutdown(wait=True, cancel_futures=True)

    @property
    def pending(self) -> int:
        """Requests read and not yet taken."""
        return self._pending

    def take(self, room: int, wait: float | None) -> list[Prepared]:
        """Up to `room` prepared requests.

        Args:
            room: Most to take.
            wait: Seconds to wait for the first when none is ready; None: until there is one, 0: not at all.
        """
        self._read(room)
        taken: list[Prepared] = []
        while len(taken) < room and self._pending:
            try:
                block = not taken and wait != 0
                item = self._ready.get(block=block, timeout=wait if block else None)
            except Empty:
                break
            self._pending -= 1
            if isinstance(item[2], Prompt):
                with self._lock:
                    self._ready_bytes -= item[2].nbytes
            taken.append(item)
        self._read(room)
        return taken

    def _read(self, room: int) -> None:
        # One at least is always under way, however large it is.
        while not self.is_exhausted and (
            self._pending == 0
            or (self._pending < min(self.window, max(room, 1)) and self._ready_bytes < self.budget)
        ):
            try:
                key, input = next(self.inputs)
            except StopIteration:
                self.is_exhausted = True
                return
            self._pending += 1
            images = tuple(map(_asked_about, input.images or ()))
            with self._lock:
                if images in self._followers:
                    # Threads that want the same image would wait for one another; meanwhile they do another.
                    self._followers[images].append((key, input))
                    continue
                if images:
                    self._followers[images] = []
            self._submit(key, input, images)

    def _submit(self, key: Hashable, input: VLMInput, images: tuple[Hashable, ...] = ()) -> None:
        """Has one prepared; `images` where others may wait for it."""
        with self._lock:
            if self._pool is None:  # the stream was left
                return
            future = self._pool.submit(self.maker.make, input)
        future.add_done_callback(partial(self._finish, key, input, images))

    def _finish(
        self, key: Hashable, input: VLMInput, images: tuple[Hashable, ...], done: Future[Prompt]
    ) -> None:
        if done.cancelled():
            return
        with self._lock:
            followers = self._followers.pop(images, [])
        for follower in followers:
            self._submit(*follower)
        error = done.exception()
        if error is None:
            prompt = done.result()
            with self._lock:
                self._ready_bytes += prompt.nbytes
            self._ready.put((key, input, prompt))
        elif isinstance(error, VLMError):
            self._ready.put((key, input, error))
        else:
            self._ready.put(
                (key, input, GenerationError(f"preparing failed: {type(error).__name__}: {error}"))
            )
