"""The contract of a vision-language model: what goes in, what comes out, what a model class implements.

Knows no file format, no screen and no deep-learning library. Shapes and meanings follow the documented
`pixano_inference.models.vlm`; every field that is added here defaults to the documented behaviour.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pixano_vlm.errors import GenerationError, RunError, VLMError
from pixano_vlm.models.base import InferenceModel
from pixano_vlm.models.batches import answer_in_batches, batch_size
from pixano_vlm.models.fault import raised
from pixano_vlm.models.generation import GenerationFields
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.region import ImageSize, Region

Key = TypeVar("Key", bound=Hashable)

DECIMALS = 6
"""Of a confidence in an output."""


class UsageInfo(BaseModel):
    """Token counts of one record. Padding is never counted; an end token that was generated counts once."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    prompt_tokens: int = Field(description="Tokens in the prompt, image tokens included.")
    completion_tokens: int = Field(description="Tokens generated.")
    total_tokens: int = Field(description="Both together.")

    @classmethod
    def of(cls, prompt_tokens: int, completion_tokens: int) -> UsageInfo:
        """The counts of a prompt and its answer, and their sum."""
        return cls(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
        )


class VLMInput(GenerationFields):
    """One request: a prompt, its images, and how to generate.

    Settings outside `model_fields_set` are defaults that nobody asked for: an engine that hands requests on to a
    server need not insist on them.
    """

    model_config = ConfigDict(extra="forbid")

    prompt: str | list[dict[str, Any]] = Field(
        description="A string, or a list of chat messages for the model's chat template."
    )
    images: list[ImageSource] | None = Field(
        default=None,
        description="Paths, URLs (http, s3, data), bytes or Pillow images; None when they are in the messages.",
    )
    # These two are always set, unlike the other settings: the documented contract says so.
    max_new_tokens: int = Field(ge=1, description="Most new tokens to generate.")
    temperature: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="Sampling temperature; 0 is greedy decoding."
    )


class Sample(BaseModel):
    """One of several samples of an answer; its fields are those of `VLMOutput`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    generated_text: str = Field(description="The text.")
    usage: UsageInfo | None = Field(
        default=None, description="Token counts; None where a server counts its samples together."
    )
    finish_reason: Literal["stop", "length"] | None = Field(default=None, description="Why it ended.")
    reasoning: str | None = Field(default=None, description="What the model wrote before it.")
    reasoning_tokens: int | None = Field(default=None, description="How many of its tokens that took.")
    parsed: Any = Field(default=None, description="The JSON value, where one was asked for.")
    confidence: float | None = Field(default=None, description="As of the answer, 0 to 1.")
    logprobs: dict[str, Any] | None = Field(
        default=None, description="Its tokens with log-probabilities, where asked for."
    )


class VLMOutput(BaseModel):
    """What the model answered to one `VLMInput`."""

    model_config = ConfigDict(defer_build=True)

    generated_text: str = Field(description="The text.")
    usage: UsageInfo = Field(description="Token counts.")
    generation_config: dict[str, Any] = Field(
        default_factory=dict, description="The settings that were really used."
    )
    finish_reason: Literal["stop", "length"] | None = Field(
        default=None, description="`stop`: the model ended by itself; `length`: max_new_tokens was reached."
    )
    reasoning: str | None = Field(
        default=None,
        description="What a model that thinks wrote before its answer; None where it thought nothing.",
    )
    reasoning_tokens: int | None = Field(
        default=None,
        description="How many of `completion_tokens` are thoughts and the marks around them; None where there are "
        "none, or nobody counted.",
    )
    parsed: Any = Field(default=None, description="The JSON value that was asked for by `response_format`.")
    regions: list[Region] | None = Field(
        default=None,
        description="Boxes and points of the answer, in pixels; None where nobody asked for them.",
    )
    image_sizes: list[ImageSize] | None = Field(
        default=None,
        description="The size of each image and of what the model looked at, where regions or a budget of pixels "
        "were asked for.",
    )
    confidence: float | None = Field(
        default=None,
        description="0 to 1: the geometric mean of the probabilities that the model gave the answer's tokens.",
    )
    field_confidence: Any = Field(
        default=None,
        description="Of an answer in JSON, how sure the model is of each value: the shape of `parsed`, with 0 to 1 "
        "for each leaf.",
    )
    logprobs: dict[str, Any] | None = Field(
        default=None,
        description="The answer's tokens with log-probabilities, in OpenAI's form, where asked for.",
    )
    probabilities: dict[str, float] | None = Field(
        default=None, description="The probability of each of `choices`, where there were any; they sum to 1."
    )
    samples: list[Sample] | None = Field(
        default=None,
        description="All samples, where `n` asked for several; the answer is what most of them say.",
    )
    agreement: float | None = Field(
        default=None, description="The share of `samples` that say what the answer says, above 0 to 1."
    )


class VLMModel(InferenceModel):
    """Base class of every vision-language model.

    A subclass implements `load_model` and `predict`. One that is better at several inputs at a time implements
    `predict_batch` besides, or instead; one that schedules its inputs itself overrides `stream`.
    """

    capability_name: ClassVar[str] = "vlm"

    takes_samples: ClassVar[bool] = False
    """Whether `stream` answers an input with `n` by several samples. Where it does not, a run gives it each sample as
    an input of its own."""

    limits: Limits = Limits()
    """What this model may open and how large it may be. Whoever runs the model sets it before `stream`."""

    def __init_subclass__(cls, **options: Any) -> None:
        """A class with `predict_batch` alone has `predict`, too: a batch of one."""
        super().__init_subclass__(**options)
        if "predict_batch" in cls.__dict__ and getattr(cls.predict, "__isabstractmethod__", False):
            cls.predict = _predict_by_batch  # type: ignore[method-assign]  # a class without one of its own

    @abstractmethod
    def predict(self, input: VLMInput) -> VLMOutput:
        """Answers one input.

        Args:
            input: The request. It is never changed.

        Returns:
            The text, its token counts and the settings used.

        Raises:
            VLMError: When this input cannot be answered.
        """

    def predict_batch(self, inputs: list[VLMInput]) -> list[VLMOutput | VLMError]:
        """Answers several inputs at a time; the default calls `predict` one by one.

        A class that overrides it is given up to `max_batch_size` inputs together (of its `model_params`, or the
        flag; by default 8). They may differ in their settings and in how many images they have.

        Args:
            inputs: The requests. They are never changed.

        Returns:
            One answer an input, in their order: its output, or a `VLMError` where it cannot be answered.

        Raises:
            Exception: Whatever it raises, the batch is asked again in halves, so that a bad input fails alone.
        """
        return [self._answer(input) for input in inputs]

    def stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Answers many inputs, each key exactly once, in whatever order suits the model.

        `inputs` is taken lazily with a bounded look-ahead, so it may be endless. An input that fails is
        answered with its error and never ends the stream. This default calls `predict_batch` where the class has
        one of its own, else `predict` one by one.

        Args:
            inputs: Pairs of a key, unique in this call, and a request.

        Yields:
            Pairs of a key and its answer or its error.

        Raises:
            RunError: When the model can answer nothing any more; keys not yielded so far are unanswered.
        """
        if type(self).predict_batch is VLMModel.predict_batch:
            for key, input in inputs:
                yield key, self._answer(input)
        else:
            yield from answer_in_batches(inputs, batch_size(self.config), self._answer_batch)

    def _answer(self, input: VLMInput) -> VLMOutput | VLMError:
        try:
            return checked_answer(self.predict(input), f"{type(self).__name__}.predict returned")
        except VLMError as error:
            return error
        except RunError:
            raise
        # A model class is someone else's code: whatever it raises on one input is that record's result.
        except Exception as error:
            return GenerationError(f"{type(self).__name__}.predict failed: {raised(error, type(self))}.")

    def _answer_batch(self, inputs: list[VLMInput]) -> list[VLMOutput | VLMError] | VLMError:
        name = f"{type(self).__name__}.predict_batch"
        try:
            answers = self.predict_batch(inputs)
        except VLMError as error:
            return error
        except RunError:
            raise
        except Exception as error:  # as in _answer
            return GenerationError(f"{name} failed: {raised(error, type(self))}.")
        if not isinstance(answers, list | tuple):
            wrong = f"{name} returned {_named(answers)}, and a list with one VLMOutput an input is needed."
        elif len(answers) != len(inputs):
            wrong = f"{name} returned {len(answers)} answers to {len(inputs)} inputs."
        else:
            return [checked_answer(answer, f"{name} returned a list with") for answer in answers]
        return [GenerationError(wrong) for _ in inputs]

    def count_tokens(self, input: VLMInput) -> int | None:
        """Tokens of the prompt, image tokens included, without answering it; safe to call from many threads.

        Returns:
            The count; None where the model cannot tell, which is the default.

        Raises:
            VLMError: When the input cannot be answered: an image is damaged, the prompt too long.
        """
        return None

    def cannot_follow(self, response_format: dict[str, Any]) -> str | None:
        """Why no answer of this model can be held to a `response_format`; None: it can, or nobody knows yet.

        Needs no loaded model: a run that asks it of every record is refused before anything is loaded. The text
        continues the words that name the schema.
        """
        return None

    def cannot_budget_images(self) -> str | None:
        """Why no image can be held to `min_pixels` and `max_pixels`; None: it can, or nobody knows before loading.

        The text continues the words that name the setting.
        """
        return None

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Facts about the loaded model for people: the rows that `pixano-vlm load` prints, in order.

        An engine that has another way to batch than its best says in `continuous_batching` which one it is, and in
        `engine_reason` why: where it is false, `generate` and `load` tell the user.
        """
        return {"class": type(self).__name__}

    def notices(self) -> list[str]:
        """What people should know of the loaded model before they trust its answers, one sentence each."""
        return []

    def fingerprint(self) -> str:
        """What distinguishes this model's answers from another's; part of what resuming a run compares.

        Needs no loaded model. The default covers the class and its parameters; an engine adds the identity
        of the weights.
        """
        # dict.items: this look at the parameters is not the class's own.
        params = repr(sorted(dict.items(self.config.model_params), key=lambda item: item[0]))
        return f"{type(self).__module__}.{type(self).__qualname__}:{params}"


def _predict_by_batch(self: VLMModel, input: VLMInput) -> VLMOutput:
    (answer,) = self.predict_batch([input])
    if isinstance(answer, VLMError):
        raise answer
    return answer


def checked_answer(answer: object, who: str) -> VLMOutput | VLMError:
    """What a model class answered, if it is an answer; else the error that says what it is.

    Args:
        answer: Whatever came back.
        who: The beginning of the error's message: `MyVLM.predict returned`.
    """
    if isinstance(answer, VLMOutput) or isinstance(answer, VLMError):  # noqa: SIM101 - the fastest way to ask
        return answer
    return GenerationError(
        f"{who} {_named(answer)}, and a VLMOutput is needed.",
        hint="Return VLMOutput(generated_text=..., usage=UsageInfo(...)).",
    )


def _named(value: object) -> str:
    """`a str`, `None`."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name[:1] in "aeiouAEIOU" else f"a {name}"
