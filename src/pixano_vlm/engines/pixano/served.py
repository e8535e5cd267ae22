"""This package's models in the `pixano-inference` server, which finds this module by its entry point.

Importing it registers one class for each engine, under the engine's own name. The server's policy says which
images a client may name.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, ClassVar

from pixano_inference.models import (
    ImageRange,
    VLMInterface,
    register_model,
)
from pixano_inference.models import UsageInfo as TheirUsage
from pixano_inference.models import VLMInput as TheirInput
from pixano_inference.models import VLMModel as TheirModel
from pixano_inference.models import VLMOutput as TheirOutput
from pixano_inference.utils.media_security import fetch_url_bytes, get_media_policy, resolve_local_path
from pydantic import ValidationError

from pixano_vlm.errors import VLMError
from pixano_vlm.media.sources import is_url
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.registry import CLASSES
from pixano_vlm.models.vlm import VLMInput, VLMModel, VLMOutput
from pixano_vlm.prompts.messages import check_messages, map_images
from pixano_vlm.validation import first_problem

__all__ = ["OpenAIServed", "RefusedOutput", "ServedModel", "TransformersServed", "VLLMServed"]


class RefusedOutput(TheirOutput):  # type: ignore[misc]  # an untyped package
    """Stands among a batch's outputs for an input that failed, so that the others in its batch do not.

    A batch has no other place for one input's error: what `predict_batch` raises is every input's, and reaches
    clients as "Inference error." alone. The server turns each output into its response by `model_dump`; this
    one says there what was wrong.
    """

    message: str

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Raises what FastAPI answers with status 422."""
        from fastapi import HTTPException

        raise HTTPException(status_code=422, detail=self.message)


class ServedModel(TheirModel):  # type: ignore[misc]  # an untyped package
    """One of this package's models, as the server wants it."""

    engine: ClassVar[str]
    """The name of the class that runs it."""

    def load_model(self) -> None:
        """Loads the weights. Called once in each replica."""
        theirs = self.config
        model = CLASSES.get(self.engine)(
            ModelDeploymentConfig(
                name=theirs.name,
                model_class=self.engine,
                model_params=dict(theirs.model_params),
                num_cpus=theirs.resources.num_cpus,
                num_gpus=theirs.resources.num_gpus,
            )
        )
        assert isinstance(model, VLMModel)
        policy = get_media_policy()
        # Images are fetched by the server's rules, and are data URLs or admitted files by the time they get here.
        model.limits = Limits(
            allow_urls=False,
            max_image_bytes=policy.max_image_bytes,
            max_image_pixels=policy.max_image_pixels or Limits().max_image_pixels,  # 0 there: any
        )
        model.load_model()
        self._model = model

    @property
    def interface(self) -> VLMInterface:
        """How the model is called, for the server's clients."""
        return VLMInterface(prompt=["text", "messages"], images=ImageRange(min=0, max=Limits().max_images))

    def predict(self, input: TheirInput) -> TheirOutput:
        """Answers one input; one that cannot be answered gets a `RefusedOutput`."""
        (output,) = self.predict_batch([input])
        return output

    def predict_batch(self, inputs: list[TheirInput]) -> list[TheirOutput]:
        """Answers a batch, in order; one that cannot be answered gets a `RefusedOutput`."""
        outputs: dict[int, TheirOutput] = {}
        admitted: list[tuple[int, VLMInput]] = []
        for place, input in enumerate(inputs):
            try:
                admitted.append((place, _from_theirs(input)))
            except ValidationError as error:
                outputs[place] = _refused(first_problem(error).message())
            except (
                Exception
            ) as error:  # the server's policy, and what it fetches with, say no in their own ways
                outputs[place] = _refused(str(error))
        for place, answer in self._model.stream(admitted):
            outputs[place] = _refused(str(answer)) if isinstance(answer, VLMError) else _to_theirs(answer)
        return [outputs[place] for place in range(len(inputs))]

    def unload(self) -> None:
        """Frees the weights."""
        model = self.__dict__.pop("_model", None)
        if model is not None:
            model.unload()


@register_model("TransformersVLMModel")
class TransformersServed(ServedModel):
    """Any image-text-to-text model of transformers."""

    engine = "TransformersVLMModel"


@register_model("VLLMVLMModel")
class VLLMServed(ServedModel):
    """A model that vLLM knows."""

    engine = "VLLMVLMModel"


@register_model("OpenAIVLMModel")
class OpenAIServed(ServedModel):
    """A model behind another server."""

    engine = "OpenAIVLMModel"


def _from_theirs(input: TheirInput) -> VLMInput:
    prompt = input.prompt
    if not isinstance(prompt, str):
        check_messages(prompt)
        prompt = map_images(prompt, lambda source: str(_vetted(source)))
    return VLMInput(
        prompt=prompt,
        images=None if input.images is None else [_vetted(source) for source in input.images],
        max_new_tokens=input.max_new_tokens,
        temperature=input.temperature,
    )


def _vetted(source: str | Path | bytes) -> str | Path:
    """An image as the engines take it, if the server's policy lets a client name it.

    Raises:
        MediaSecurityError: When it does not.
    """
    if isinstance(source, str) and is_url(source):
        if source[:5].lower() == "data:":
            return source
        source = fetch_url_bytes(source, max_bytes=get_media_policy().max_image_bytes)
    if isinstance(source, bytes):
        # The kind stands for any: what an image is, its own first bytes say.
        return f"data:application/octet-stream;base64,{base64.b64encode(source).decode('ascii')}"
    return Path(resolve_local_path(source))


def _to_theirs(output: VLMOutput) -> TheirOutput:
    return TheirOutput(
        generated_text=output.generated_text,
        usage=TheirUsage(**output.usage.model_dump()),
        generation_config=output.generation_config,
    )


def _refused(message: str) -> RefusedOutput:
    nothing = TheirUsage(prompt_tokens=0, completion_tokens=0, total_tokens=0)
    return RefusedOutput(generated_text="", usage=nothing, message=message)
