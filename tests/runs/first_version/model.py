"""The model of these runs: it answers with what it was asked, or refuses when nothing may be asked."""

import os

from pixano_vlm import UsageInfo, VLMInput, VLMModel, VLMOutput, register_model


@register_model("first-version")
class FirstVersion(VLMModel):
    def load_model(self) -> None:
        if os.environ.get("ASK_NOTHING"):
            raise RuntimeError("an answer of the first version was asked again")

    def predict(self, input: VLMInput) -> VLMOutput:
        text = f"answer to {input.prompt if isinstance(input.prompt, str) else 'a chat'}"
        usage = UsageInfo(prompt_tokens=3, completion_tokens=5, total_tokens=8)
        return VLMOutput(generated_text=text, usage=usage, generation_config={}, finish_reason="stop")
