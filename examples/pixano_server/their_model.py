"""A model class written for the Pixano server, by the example in its documentation: it knows nothing of this
project, and runs under its command as it stands.

    pixano-vlm generate examples/shapes/manifest.jsonl --plugin examples/pixano_server/their_model.py --model theirs
"""

from typing import Any

from pixano_inference.models import UsageInfo, VLMInput, VLMModel, VLMOutput, register_model


class Weights:
    """Stands where a neural network would."""

    def generate(self, prompt: Any, images: Any) -> str:
        """Repeats the question and counts the pictures."""
        return f"{prompt} ({len(images or [])} pictures)"


def load_weights(path: Any) -> Weights:
    """Loads nothing."""
    return Weights()


@register_model("theirs")
class MyVLM(VLMModel):
    """The documented example."""

    def load_model(self) -> None:
        """Loads the weights."""
        self.model = load_weights(self.config.model_params.get("path"))

    def predict(self, input: VLMInput) -> VLMOutput:
        """Answers one input."""
        text = self.model.generate(input.prompt, input.images)
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(
            generated_text=text, usage=usage, generation_config={"temperature": input.temperature}
        )
