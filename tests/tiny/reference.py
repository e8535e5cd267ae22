"""One record through transformers alone, as its documentation does it: what every other way must equal.

It shares no code with the engine on purpose: it is the other side of the comparison.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from PIL import Image
from transformers.generation import BaseStreamer

Messages = Sequence[Mapping[str, Any]]

ASKED_FOR = {"cosmos3_edge": {"return_mm_token_type_ids": True}}
"""Options without which a processor leaves out what its model's `generate` insists on, by model type."""


def generate_alone(
    model: Any,
    processor: Any,
    prompt_or_messages: str | Messages,
    images: Sequence[Image.Image] = (),
    max_new_tokens: int = 16,
    **generate_kwargs: Any,
) -> list[int]:
    """Generate greedily for one record, at batch size 1.

    A string prompt becomes one user turn, its images first, where the processor has a chat template, and
    otherwise the text itself, behind one placeholder an image where the processor has one. Messages are taken
    as they are.

    Returns:
        The new tokens alone, with the end token where it was generated; an encoder-decoder's start token is
        no new token.
    """
    inputs = prepare_alone(model, processor, prompt_or_messages, images)
    recorder = NewTokens()
    with torch.inference_mode():
        model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            streamer=recorder,
            **{"do_sample": False, "num_beams": 1} | generate_kwargs,
        )
    return recorder.tokens


class NewTokens(BaseStreamer):
    """What `generate` adds to the prompt, which some families cut or lengthen."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._in_prompt = True

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, which comes first, and then each token."""
        if not self._in_prompt:
            self.tokens += map(int, value.flatten())
        self._in_prompt = False

    def end(self) -> None:
        """Do nothing: there is nothing held back."""


def prepare_alone(
    model: Any, processor: Any, prompt_or_messages: str | Messages, images: Sequence[Image.Image] = ()
) -> Any:
    """Process one record's text and images as documentation shows it, into tensors of batch size 1."""
    if getattr(processor, "chat_template", None):
        messages = as_messages(prompt_or_messages, len(images))
        begun = messages[-1]["role"] == "assistant"
        text = processor.apply_chat_template(
            messages, add_generation_prompt=not begun, continue_final_message=begun, tokenize=False
        )
    elif isinstance(prompt_or_messages, str):
        text = mark_images(processor, prompt_or_messages, images)
    else:
        raise ValueError("this processor has no chat template, so it takes a string prompt")
    # The template has placed the beginning token already; a tokenizer that adds one would double it.
    bos = processor.tokenizer.bos_token
    options = dict(ASKED_FOR.get(model.config.model_type, {}))
    if bos is not None and text.startswith(bos):
        options["add_special_tokens"] = False
    inputs = process(processor, text, images, **options)
    inputs.pop("labels", None)  # for training; some processors always give them
    if model.config.is_encoder_decoder and "input_ids" not in signature(model.forward).parameters:
        # The encoder reads the image alone, so the prompt is what the decoder starts from (Donut's
        # documentation).
        if "input_ids" in inputs:
            del inputs["input_ids"], inputs["attention_mask"]
        if text and "decoder_input_ids" not in inputs:
            prompt = processor.tokenizer(text, add_special_tokens=False, return_tensors="pt")
            inputs["decoder_input_ids"] = prompt["input_ids"]
    return inputs.to(model.dtype)  # Llama 4's processor gives bfloat16 whatever the model is


def process(processor: Any, text: str, images: Sequence[Image.Image], **options: Any) -> Any:
    """Call the processor for one record, its images as the record's list, or flat where it must be."""
    options = {"text": [text], "return_tensors": "pt"} | options
    if not images:
        return processor(**options)
    try:
        return processor(images=[list(images)], **options)
    except (TypeError, ValueError):
        return processor(images=list(images), **options)


def mark_images(processor: Any, prompt: str, images: Sequence[Image.Image]) -> str:
    """The prompt, behind a placeholder an image where the processor has one and does not place it itself."""
    placeholder = str(getattr(processor, "image_token", None) or "")
    if not images or not placeholder or placeholder in prompt:
        return prompt
    try:
        ids = process(processor, prompt, images)["input_ids"][0].tolist()
    except ValueError:  # placeholders and images do not match in number, so the prompt has to bring them
        ids = []
    placed = processor.tokenizer.convert_tokens_to_ids(placeholder) in ids
    return prompt if placed else placeholder * len(images) + prompt


def as_messages(prompt: str | Messages, images: int) -> list[dict[str, Any]]:
    """A string prompt as one user turn, its images first; messages as plain dicts."""
    if not isinstance(prompt, str):
        return [dict(message) for message in prompt]
    content: list[dict[str, Any]] = [{"type": "image"} for _ in range(images)]
    return [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
