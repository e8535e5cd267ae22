"""Model classes for the command's tests; named with --plugin, so not collected as tests."""

from __future__ import annotations

import time

from pixano_vlm.errors import GenerationError, ModelLoadError, RunError
from pixano_vlm.models import UsageInfo, VLMInput, VLMModel, VLMOutput, register_model


def answer(text: str, input: VLMInput) -> VLMOutput:
    tokens = len(text.split())
    return VLMOutput(
        generated_text=text,
        usage=UsageInfo(prompt_tokens=3, completion_tokens=tokens, total_tokens=3 + tokens),
        generation_config=input.model_dump(exclude={"prompt", "images"}, exclude_none=True),
        finish_reason="stop",
    )


@register_model("echo")
class Echo(VLMModel):
    """Answers with the prompt; a prompt that starts with `fail` fails, `wait` takes a while."""

    def load_model(self) -> None:
        self.model = True

    def predict(self, input: VLMInput) -> VLMOutput:
        text = str(input.prompt)
        if text.startswith("fail"):
            raise GenerationError("it was asked to fail.")
        if text.startswith("wait"):
            time.sleep(0.05)
        return answer(text, input)

    def describe(self) -> dict[str, str | int | float | bool | None]:
        return {
            "class": "Echo",
            "parameters": 1234567,
            "device": self.config.model_params.get("device", "cpu"),
        }


@register_model("slow-start")
class SlowStart(Echo):
    """Takes a while for its first five records, so that a line is drawn meanwhile."""

    asked = 0

    def predict(self, input: VLMInput) -> VLMOutput:
        self.asked += 1
        if self.asked <= 5:
            time.sleep(0.15)
        return super().predict(input)


@register_model("unloadable")
class Unloadable(Echo):
    def load_model(self) -> None:
        raise ModelLoadError("the weights are missing.", hint="Fetch them.")


@register_model("broken")
class Broken(Echo):
    def load_model(self) -> None:
        raise KeyError("path")


@register_model("dying")
class Dying(Echo):
    def predict(self, input: VLMInput) -> VLMOutput:
        raise RunError("the device is gone.", hint="Plug it in.")


class Report:
    def __init__(self, *, ok: bool) -> None:
        self.ok = ok

    def to_dict(self) -> dict[str, object]:
        return {"prompts": 8, "same tokens": 8 if self.ok else 7}


@register_model("verified")
class Verified(Echo):
    def verify(self) -> Report:
        return Report(ok=True)


@register_model("unequal")
class Unequal(Echo):
    def verify(self) -> Report:
        return Report(ok=False)
