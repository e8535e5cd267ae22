"""A model class of your own, run by the same command as any other model.

    pixano-vlm generate examples/shapes/manifest.jsonl --plugin examples/custom_model.py --model my-vlm

A real one would load weights in `load_model` and run them in `predict`; this one looks at the picture with
Pillow and answers from the prompt and the picture's size, so that it runs anywhere.
"""

from __future__ import annotations

from PIL import Image

from pixano_vlm import UsageInfo, VLMInput, VLMModel, VLMOutput, load_image, register_model


class PictureSizes:
    """Stands where a neural network would."""

    def generate(self, prompt: str, pictures: list[Image.Image]) -> str:
        """Names the size of each picture."""
        sizes = ", ".join(f"{picture.width} x {picture.height}" for picture in pictures)
        return f"{prompt} I see {len(pictures)} picture(s): {sizes or 'none'}."


@register_model("my-vlm")
class MyVLM(VLMModel):
    """Answers one input at a time; `stream`, which the command calls, does the rest."""

    def load_model(self) -> None:
        """Loads the weights: here, `self.config.model_params` would say from where."""
        self.model = PictureSizes()

    def predict(self, input: VLMInput) -> VLMOutput:
        """Answers one input. A path that cannot be read raises an ImageError: that record's result."""
        pictures = [load_image(source, self.limits).image for source in input.images or []]
        words = (input.prompt if isinstance(input.prompt, str) else str(input.prompt)).split()
        answer = self.model.generate(" ".join(words), pictures).split()[: input.max_new_tokens]
        usage = UsageInfo(
            prompt_tokens=len(words), completion_tokens=len(answer), total_tokens=len(words) + len(answer)
        )
        return VLMOutput(
            generated_text=" ".join(answer),
            usage=usage,
            generation_config={"max_new_tokens": input.max_new_tokens},
            finish_reason="stop",
        )
