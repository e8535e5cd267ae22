"""An architecture made up here: a model type, config, model and processor that follow transformers' conventions.

Its body is borrowed, its names are not: whatever the package knew of LLaVA by name would not help here.
"""

from __future__ import annotations

from pathlib import Path

from tests.tiny import llava
from tests.tiny.building import Parts, save
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)


class UnheardOfConfig(LlavaConfig):
    model_type = "unheard_of"


class UnheardOfForConditionalGeneration(LlavaForConditionalGeneration):
    config_class = UnheardOfConfig


class UnheardOfProcessor(LlavaProcessor):
    pass


def write_unheard_of(folder: Path) -> Path:
    """Registers the architecture as a package that brings one does, and writes a checkpoint of it."""
    AutoConfig.register("unheard_of", UnheardOfConfig, exist_ok=True)
    AutoModelForImageTextToText.register(UnheardOfConfig, UnheardOfForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(UnheardOfConfig, UnheardOfProcessor, exist_ok=True)
    like = llava.llava()
    plain = like.config.to_dict()
    config = UnheardOfConfig(**{key: value for key, value in plain.items() if key != "model_type"})
    own = like.processor
    processor = UnheardOfProcessor(
        own.image_processor,
        own.tokenizer,
        patch_size=own.patch_size,
        vision_feature_select_strategy=own.vision_feature_select_strategy,
        num_additional_image_tokens=own.num_additional_image_tokens,
        chat_template=own.chat_template,
    )
    return save(Parts(config, processor), folder, 0)
