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
from pixano_vlm.models.generation import GenerationFields
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.limits import Limits

Key = TypeVar("Key", bound=Hashable)


class UsageInfo(BaseModel):
    """Token counts of one record. Padding is never counted; an end token that was generated counts once."""

    model_config = ConfigDict(extra="forbid")

    prompt_tokens: int = Field(description="Tokens in the prompt, image tokens included.")
    completion_tokens: int = Field(description="Tokens generated.")
    total_tokens: int = Field(description="Both together.")


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


class VLMOutput(BaseModel):
    """What the model answered to one `VLMInput`."""

    generated_text: str = Field(description="The text.")
    usage: UsageInfo = Field(description="Token counts.")
    generation_config: dict[str, Any] = Field(
        default_factory=dict, description="The settings that were really used."
    )
    finish_reason: Literal["stop", "length"] | None = Field(
        default=None, description="`stop`: the model ended by itself; `length`: max_new_tokens was reached."
    )
    parsed: Any = Field(default=None, description="The JSON value that was asked for by `response_format`.")


class VLMModel(InferenceModel):
    """Base class of every vision-language model.

    A subclass implements `load_model` and `predict`. One that can do better than one input at a time also
    overrides `stream`.
    """

    capability_name: ClassVar[str] = "vlm"

    limits: Limits = Limits()
    """What this model may open and how large it may be. Whoever runs the model sets it before `stream`."""

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

    def stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Answers many inputs, each key exactly once, in whatever order suits the model.

        `inputs` is taken lazily with a bounded look-ahead, so it may be endless. An input that fails is
        answered with its error and never ends the stream. This default calls `predict` one by one.

        Args:
            inputs: Pairs of a key, unique in this call, and a request.

        Yields:
            Pairs of a key and its answer or its error.

        Raises:
            RunError: When the model can answer nothing any more; keys not yielded so far are unanswered.
        """
        for key, input in inputs:
            yield key, self._answer(input)

    def _answer(self, input: VLMInput) -> VLMOutput | VLMError:
        try:
            return self.predict(input)
        except VLMError as error:
            return error
        except RunError:
            raise
        # A model class is someone else's code: whatever it raises on one input is that record's result.
        except Exception as error:
            return GenerationError(f"{type(self).__name__}.predict failed: {type(error).__name__}: {error}")

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

        Needs no loaded model: a run that asks it of every record is refused before anything is loaded. The text goes
        on from the words that name the schema.
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
        params = repr(sorted(self.config.model_params.items(), key=lambda item: item[0]))
        return f"{type(self).__module__}.{type(self).__qualname__}:{params}"
