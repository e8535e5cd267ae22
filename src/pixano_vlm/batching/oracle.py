"""One record through transformers alone, as its documentation shows it: the other side of `load --verify`.

It shares the model's weights with the engine and nothing else: a processor of its own, its template applied by
transformers to messages as they are, `generate`, and the tokenizer's decoding. In which form a template takes a turn
is decided here by what comes out: a rendered prompt must hold the words of every turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from pixano_vlm.batching.sampling import generation_config
from pixano_vlm.media.images import load_image
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMInput

__all__ = ["Oracle", "Refusal"]

Messages = list[dict[str, Any]]

NAMED = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")


class Refusal(Exception):
    """transformers itself cannot ask this."""


@dataclass(slots=True)
class Alone:
    """One record's answer."""

    prompt_ids: list[int]
    tokens: list[int]
    text: str


class Oracle:
    """transformers' own recommended path, for one model.

    Args:
        model: The transformers model.
        processor: A processor that nothing else uses.
        options: Further options of the processor's call.
        template: The chat template, where its holder is not the processor; None: the processor's, if any.
    """

    def __init__(
        self, model: Any, processor: Any, options: dict[str, Any], template: str | None = None
    ) -> None:
        self._model = model
        self._processor = processor
        self._options = options
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self.template = template or getattr(processor, "chat_template", None) or None
        self._prompted: frozenset[int] = frozenset()

    def answer(self, input: VLMInput) -> Alone:
        """The record's prompt, new tokens and text.

        Raises:
            Refusal: When no form of the messages keeps the words of every turn.
        """
        tensors = self._place(self.prepare(input))
        prompt_ids = _prompt_ids(tensors)
        self._prompted |= self._special & set(prompt_ids)
        tokens = self._generate(tensors, input)
        return Alone(prompt_ids, tokens, self.text(tokens))

    def prompt_ids(self, input: VLMInput) -> list[int]:
        """The tokens of the record's prompt. Raises as `answer`."""
        return _prompt_ids(self.prepare(input))

    def text(self, tokens: list[int]) -> str:
        """The text of an answer: all but the tokens that frame its turn, without outer white space."""
        kept = [token for token in tokens if token not in self.framing]
        return str(self._tokenizer.decode(kept, skip_special_tokens=False)).strip()

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """The tokens that should end an answer: of both configs, of the tokenizer, and what closes a turn."""
        found = {*_ids(self._model.generation_config.eos_token_id), *_ids(self._tokenizer.eos_token_id)}
        found |= {id for id in _ids(getattr(self._model.config, "eos_token_id", None)) if id in self._special}
        if self.template is not None:
            closing = self._turns(("user", "plum"), ("assistant", "peach"), answer=False).partition("peach")[
                2
            ]
            closed_by = [id for id, content in self._added.items() if closing.lstrip().startswith(content)]
            found |= set(sorted(closed_by, key=lambda id: len(self._added[id]))[-1:])
        return frozenset(found)

    @property
    def framing(self) -> frozenset[int]:
        """Tokens that are not an answer's text: those that frame turns, and special ones that prompts are made of."""
        return self._framing | self._prompted

    @cached_property
    def _framing(self) -> frozenset[int]:
        named = {id for name in NAMED for id in _ids(getattr(self._tokenizer, f"{name}_token_id", None))}
        tokens = {
            str(value) for name, value in vars(self._processor).items() if name.endswith(("_token", "_tag"))
        }
        tokens |= {str(getattr(self._processor, "image_token", None))}
        # A tokenizer names what frames images among its own.
        named_by_tokenizer = getattr(self._tokenizer, "special_tokens_map", {})
        tokens |= {
            str(value) for name, value in named_by_tokenizer.items() if name.endswith(("_token", "_tag"))
        }
        rendered = ""
        if self.template is not None:
            turns = (("user", "plum"), ("assistant", "peach"), ("user", "pear"))
            rendered = self._turns(*turns, answer=True).partition("plum")[2]
        written = {id for id in self._special if self._added[id] in rendered or self._added[id] in tokens}
        return frozenset(named | written | (self.end_ids & self._added.keys()))

    @cached_property
    def content_tokens(self) -> list[int]:
        """Special tokens that answers may be made of."""
        return sorted(self._special - self.framing)

    # -- the prompt --------------------------------------------------------------------------------------------

    def prepare(self, input: VLMInput) -> dict[str, Any]:
        """The inputs of `generate`, by the processor's own calls: its chat path where it has a template."""
        pictures = [load_image(source, Limits()).image for source in input.images or ()]
        if self.template is not None:
            prompt = input.prompt
            if isinstance(prompt, str):
                images = [{"type": "image", "image": picture} for picture in pictures]
                prompt = [{"role": "user", "content": [*images, {"type": "text", "text": prompt}]}]
            inputs = self._chat(_with_pictures(prompt, pictures))
        else:
            assert isinstance(input.prompt, str)
            inputs = self._process(input.prompt, pictures)
        tensors = {name: value for name, value in inputs.items() if name != "labels"}
        taken = signature(self._model.forward).parameters
        if self._model.config.is_encoder_decoder and "input_ids" not in taken:
            # The encoder takes the image alone: what it has no argument for is the prompt, for the decoder.
            tensors = {name: value for name, value in tensors.items() if name in taken}
            if input.prompt and "decoder_input_ids" not in tensors:
                words = self._processor.tokenizer(input.prompt, add_special_tokens=False, return_tensors="pt")
                tensors["decoder_input_ids"] = words["input_ids"]
        return tensors

    def _chat(self, messages: Messages) -> Any:
        answer = messages[-1]["role"] != "assistant"
        forms = [messages, _as_strings(messages), _as_lists(messages)]
        if self._image_token is not None:
            forms.append(_as_strings(messages, self._image_token))
        for form in forms:
            rendered = self._rendered(form, answer=answer)
            if rendered is None or not self._holds(rendered, messages):
                continue
            if form is not messages:
                return self._process_rendered(rendered, messages)
            return self._processor.apply_chat_template(
                messages,
                chat_template=self.template,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                add_generation_prompt=answer,
                continue_final_message=not answer,
                processor_kwargs=dict(self._options),
            )
        raise Refusal("no form of these messages keeps the words of every turn")

    def _rendered(self, messages: Messages, *, answer: bool, closed: bool = False) -> str | None:
        try:
            text: str = self._processor.apply_chat_template(
                messages,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=answer,
                continue_final_message=not answer and not closed,
            )
        except Exception:  # a template's own code: it may take another form
            return None
        return text

    def _turns(self, *turns: tuple[str, str], answer: bool) -> str:
        """Plain turns as the template writes them; "" where it takes none."""
        messages = [{"role": role, "content": said} for role, said in turns]
        for form in (messages, _as_lists(messages)):
            rendered = self._rendered(form, answer=answer, closed=not answer)
            if rendered is not None and self._holds(rendered, messages):
                return rendered
        return ""

    def _process_rendered(self, text: str, messages: Messages) -> Any:
        pictures = [part["image"] for part in _parts(messages) if part["type"] == "image"]
        bos = getattr(self._tokenizer, "bos_token", None)
        options = dict(self._options) | (
            {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        )
        images = [pictures] if pictures else None
        return self._processor(text=[text], images=images, return_tensors="pt", **options)

    def _holds(self, rendered: str, messages: Messages) -> bool:
        """Whether a prompt has every text as it is, and a place for every image."""
        parts = _parts(messages)
        images = sum(part["type"] == "image" for part in parts)
        printed = any(sign in rendered for sign in ("'type': 'text'", '"type": "text"'))
        texts = all(part["text"].strip() in rendered for part in parts if part["type"] == "text")
        known = self._image_token is not None and self._image_token in rendered
        return texts and not printed and (not known or rendered.count(str(self._image_token)) >= images)

    def _process(self, prompt: str, pictures: list[Any]) -> Any:
        """The processor's call on a plain prompt, behind placeholders where it puts none in itself."""
        place = getattr(self._model.config, "image_token_id", None)
        texts = [prompt]
        if pictures and self._image_token is not None:
            texts.append(self._image_token * len(pictures) + prompt)
        failure: Exception | None = None
        for text in texts:
            for images in ([pictures], pictures) if pictures else (None,):
                try:
                    inputs = self._processor(text=[text], images=images, return_tensors="pt", **self._options)
                except (
                    Exception
                ) as error:  # the model's own code: what it refuses, it may take in the next form
                    failure = failure or error
                    continue
                named = text is not prompt or not pictures or place is None
                if named or "input_ids" not in inputs or bool((inputs["input_ids"] == place).any()):
                    return inputs
        raise failure or AssertionError("no form of the prompt has a place for its images")

    # -- the answer --------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _generate(self, tensors: dict[str, Any], input: VLMInput) -> list[int]:
        recorder = _NewTokens()
        config = generation_config(self._model, input, input.max_new_tokens)
        self._model.generate(**tensors, generation_config=config, streamer=recorder)
        ends = [place for place, token in enumerate(recorder.tokens) if token in self.end_ids]
        return recorder.tokens[: ends[0] + 1] if ends else recorder.tokens

    def _place(self, tensors: dict[str, Any]) -> dict[str, Any]:
        model = self._model
        return {
            name: value.to(model.device, model.dtype if value.is_floating_point() else None)
            if isinstance(value, Tensor)
            else value
            for name, value in tensors.items()
        }

    @property
    def _image_token(self) -> str | None:
        token = getattr(self._processor, "image_token", None)
        return None if token is None else str(token)

    @cached_property
    def _added(self) -> dict[int, str]:
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        return {id: token.content for id, token in added.items()}

    @cached_property
    def _special(self) -> set[int]:
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        return {id for id, token in added.items() if token.special}


class _NewTokens(BaseStreamer):
    """What `generate` adds to the prompt, which some models cut or lengthen in what they return."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._in_prompt = True

    def put(self, value: Tensor) -> None:
        """Takes the prompt, which comes first, and then each token."""
        if not self._in_prompt:
            self.tokens += map(int, value.flatten())
        self._in_prompt = False

    def end(self) -> None:
        """Nothing was held back."""


def _parts(messages: Messages) -> list[dict[str, Any]]:
    contents = (message["content"] for message in messages)
    return [
        part
        for content in contents
        for part in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
    ]


def _as_strings(messages: Messages, image_token: str | None = None) -> Messages:
    """Turns of text alone as strings; with an image token, all turns."""

    def content(parts: Any) -> Any:
        if isinstance(parts, str):
            return parts
        if image_token is None and any(part["type"] != "text" for part in parts):
            return parts
        lines = [part["text"] if part["type"] == "text" else str(image_token) for part in parts]
        return "\n".join(lines)

    return [{**message, "content": content(message["content"])} for message in messages]


def _as_lists(messages: Messages) -> Messages:
    """Every content as a list of parts."""
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message["content"], str)
        else message
        for message in messages
    ]


def _with_pictures(messages: Messages, pictures: list[Any]) -> Messages:
    waiting = iter(pictures)
    return [
        {
            **message,
            "content": message["content"]
            if isinstance(message["content"], str)
            else [
                {"type": "image", "image": part.get("image") or next(waiting)}
                if part["type"] == "image"
                else part
                for part in message["content"]
            ],
        }
        for message in messages
    ]


def _ids(value: Any) -> list[int]:
    held = value if isinstance(value, (list, tuple)) else [value]
    return [id for id in held if isinstance(id, int)]


def _prompt_ids(tensors: dict[str, Any]) -> list[int]:
    named = "input_ids" if "input_ids" in tensors else "decoder_input_ids"
    return [int(id) for id in tensors[named][0]] if named in tensors else []
