"""From a request to what vLLM takes: the prompt's text, its opened images, and the settings of its sampling.

Knows no engine and no batch. Imports vLLM only when a request is made.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from PIL import Image

from pixano_vlm.engines.base import check_image_count, refuse_budget
from pixano_vlm.engines.transformers.end_tokens import EndTokens, find_end_tokens
from pixano_vlm.engines.transformers.generation_defaults import GenerationDefaults
from pixano_vlm.engines.vllm.thoughts import ThoughtRules
from pixano_vlm.errors import PromptError
from pixano_vlm.media.images import read_image
from pixano_vlm.models.generation import named_elsewhere, settings_used
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.chat_template import ChatTemplateRenderer, RenderedPrompt
from pixano_vlm.prompts.control_tokens import ControlTokens, heed_marks, unmarked
from pixano_vlm.prompts.labels import LabelTree, check_labels, tree_of
from pixano_vlm.prompts.response_format import schema_of
from pixano_vlm.prompts.thinking import check_thinking_budget

__all__ = ["NO_BUDGET", "RequestMaker", "VLLMRequest"]

NO_BUDGET = "cannot be held to for one run or record: vLLM takes it for the model, under `processor_kwargs`"
"""Why no image is held to a budget of pixels."""

KEPT_PIXELS = 32 * 2**20
"""Most pixels, of three bytes each, of images that are kept opened."""


@dataclass(frozen=True, slots=True)
class VLLMRequest:
    """A request as vLLM takes it."""

    prompt: dict[str, Any]
    params: Any
    """Its `SamplingParams`; None where its labels are scored."""
    tokenization: dict[str, Any]
    labels: LabelTree | None = None
    """What its answer is one of, where that was asked for; the prompt has token ids then."""
    thinks: bool = False
    """Whether its answer begins inside of thoughts."""


class RequestMaker:
    """Makes requests for one model.

    Args:
        processor: The model's own.
    """

    def __init__(self, processor: Any) -> None:
        token = getattr(processor, "image_token", None)
        named = bool(getattr(processor, "chat_template", None)) or _is_named(processor, token)
        self.renderer = ChatTemplateRenderer(processor, prepends_images=named)
        self._tokenizer = getattr(processor, "tokenizer", processor)
        heed_marks(self._tokenizer, ControlTokens.of(processor))
        self._pictures = _Pictures()
        self._bos = getattr(getattr(processor, "tokenizer", processor), "bos_token", None)
        self.thoughts = ThoughtRules.of(self.renderer, self._tokenizer)
        self.end_ids: frozenset[int] = frozenset()
        """The tokens that end an answer; vLLM itself heeds only those of the generation config."""
        self.defaults = GenerationDefaults({}, {}, {})
        """What the generation config asks, of which vLLM itself heeds its end tokens alone."""

    def prepare(self, input: VLMInput, limits: Limits) -> VLLMRequest:
        """Renders the prompt and opens its images. Safe to call from many threads.

        Raises:
            VLMError: When the request cannot be prepared; says why.
        """
        refuse_budget(input, NO_BUDGET)
        check_thinking_budget(input, self.renderer.thinking)
        rendered = self.renderer.render(input)
        if rendered.videos:
            raise PromptError(
                "videos are not taken by this way of running a model.", hint="Give frames as images."
            )
        check_image_count(len(rendered.images), limits)
        # A template that writes the first token itself must not get a second one.
        twice = bool(self._bos and rendered.text.startswith(self._bos))
        prompt: dict[str, Any] = {"prompt": rendered.text}
        labels = None if input.choices is None else self._labels(input, rendered)
        if labels is not None or unmarked(rendered.text) != rendered.text:
            # Control tokens in a user's text are text: vLLM would look for them in a string.
            ids = self._tokenizer(rendered.text, add_special_tokens=not twice)["input_ids"]
            prompt = {"prompt_token_ids": list(ids)}
        if rendered.images:
            opened = [self._pictures.open(source, limits) for source in rendered.images]
            prompt["multi_modal_data"] = {"image": [picture for _, picture in opened]}
            # By these vLLM recognises an image that it has processed, without hashing its pixels.
            prompt["multi_modal_uuids"] = {"image": [digest.hex() for digest, _ in opened]}
        tokenization = {"add_special_tokens": False} if twice else {}
        if labels is not None:
            return VLLMRequest(prompt, None, tokenization, labels)
        grammar, thinks, budget = None, False, None
        if self.thoughts is not None:
            grammar = self.thoughts.grammar(input, rendered, self.end_ids)
            budget = self.thoughts.budget(input, rendered)
            # A schema that holds from the first token on leaves no thoughts, whatever the prompt ends with.
            thinks = rendered.thinks and (grammar is not None or not self.thoughts.is_held(input))
        params = sampling(
            input,
            self.end_ids,
            stop_strings=self.defaults.stop_strings,
            grammar=grammar,
            thinking_budget=budget,
        )
        return VLLMRequest(prompt, params, tokenization, thinks=thinks)

    def _labels(self, input: VLMInput, rendered: RenderedPrompt) -> LabelTree:
        labels = check_labels(input.choices, input.response_format, thinks=rendered.thinks)

        def tokenize(text: str) -> list[int]:
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

        return tree_of(labels, unmarked(rendered.text), tokenize)

    def end_tokens(self, config: Any, eos_token_id: Any) -> EndTokens:
        """The model's end tokens.

        Args:
            config: The model's, of transformers.
            eos_token_id: What its generation config names; None where there is none.
        """
        generation = SimpleNamespace(eos_token_id=eos_token_id)
        model = SimpleNamespace(config=config, generation_config=generation)
        return find_end_tokens(model, self._tokenizer, self.renderer.closing())


class _Pictures:
    """Opens images, and keeps the last ones: several records often ask about one. Safe from many threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, int], Image.Image] = OrderedDict()
        self._pixels = 0
        self._lock = threading.Lock()

    def open(self, source: ImageSource, limits: Limits) -> tuple[bytes, Image.Image]:
        """The digest of the image's file, and the image, upright and RGB.

        Raises:
            ImageError: When it cannot be used.
        """
        encoded = read_image(source, limits)
        digest = encoded.digest
        key = (digest, limits.max_image_pixels)  # one that was let in once need not be let in again
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return digest, self._kept[key]
        picture = encoded.decode(limits).image
        picture.info = {}  # upright already: vLLM would turn it again by the EXIF that it came with
        with self._lock:
            if key not in self._kept:
                self._kept[key] = picture
                self._pixels += picture.width * picture.height
            while self._pixels > KEPT_PIXELS:
                _, dropped = self._kept.popitem(last=False)
                self._pixels -= dropped.width * dropped.height
        return digest, picture


def sampling(
    input: VLMInput,
    end_ids: frozenset[int] = frozenset(),
    *,
    stop_strings: tuple[str, ...] = (),
    grammar: str | None = None,
    thinking_budget: int | None = None,
) -> Any:
    """A record's settings as vLLM takes them: what it leaves open is left out, so that nothing else takes part.

    Args:
        input: The record.
        end_ids: The tokens that end an answer.
        stop_strings: The strings that end every answer, beside the record's own.
        grammar: What the answer must follow, thoughts included, instead of the record's schema alone.
        thinking_budget: As vLLM counts it: from the mark that begins thoughts on.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    given = named_elsewhere(settings_used(input, input.max_new_tokens))
    given.pop("chat_template_kwargs", None)  # the prompt is rendered here
    given.pop("thinking_token_budget", None)
    if thinking_budget is not None:
        given["thinking_token_budget"] = thinking_budget
    told, count = given.pop("logprobs", None), given.pop("top_logprobs", None)
    if told or (told is None and count is not None):
        given["logprobs"] = count or 0  # the chosen token, and so many others
    structured = structured_outputs(input.response_format)
    if structured is not None:
        given["structured_outputs"] = (
            structured if grammar is None else StructuredOutputsParams(grammar=grammar)
        )
    if end_ids:
        given["stop_token_ids"] = sorted(end_ids)
    if stop_strings:
        given["stop"] = [*given.get("stop", []), *stop_strings]
    try:
        # Special tokens may be part of an answer, or mark its thoughts: what is dropped is decided here.
        return SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, skip_special_tokens=False, **given)
    except ValueError as error:
        raise PromptError(f"vLLM refuses this record's settings: {error}") from error


def structured_outputs(response_format: dict[str, Any] | None) -> Any:
    """What vLLM calls a `response_format`; None for free text."""
    try:
        schema = None if response_format is None else schema_of(response_format)
    except ValueError as error:
        raise PromptError(f"response_format {error}.") from error
    if schema is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    return StructuredOutputsParams(json=schema)


def _is_named(processor: Any, token: str | None) -> bool:
    """Whether a prompt without a template must name its images, or the processor puts their places in."""
    if token is None:
        return False
    # A processor that refuses the trial wants its places named.
    with suppress(Exception):
        ids = processor(text=["a"], images=[Image.new("RGB", (32, 32))], return_tensors="pt")["input_ids"]
        return bool((ids != processor.tokenizer.convert_tokens_to_ids(token)).all())
    return True
