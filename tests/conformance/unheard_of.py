"""An architecture made up here: a config, a model and a processor that follow transformers' conventions.

Nothing of it is another's but the text decoder, which its config names as every composite config does. Its
pictures are read in strips, each of which becomes two tokens between a begin and an end token; whatever a
package knew of architectures by name would not help here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from tests.tiny.building import Parts, image_processor, save
from tests.tiny.layouts import chatml, decoder
from tests.tiny.tokenizer import tiny_tokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen3Config,
    Qwen3Model,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast

from pixano_vlm.batching.cache_argument import cache_argument

SIDE = 40
STRIP = 8
TOKENS = 2 * (SIDE // STRIP)
"""Of one picture."""


try:  # 5.20 wants one of these; later ones make it of a class, earlier ones do not read it
    from transformers.configuration_utils import SubConfigSpec

    TEXT: Any = SubConfigSpec(config_class=Qwen3Config)
except ImportError:
    TEXT = Qwen3Config


class StripsConfig(PreTrainedConfig):
    model_type = "unheard_of"
    sub_configs_defaults: ClassVar = {"text_config": TEXT}

    text_config: Any = None
    vision_width: int = 48
    image_token_id: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.text_config, dict):  # as it is saved; before 5.20 nothing else reads it
            self.text_config = Qwen3Config(**self.text_config)
        super().__post_init__(**kwargs)


class StripsModel(PreTrainedModel):
    config: StripsConfig
    config_class = StripsConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: StripsConfig) -> None:
        super().__init__(config)
        width = config.vision_width
        self.strips = nn.Conv2d(3, width, kernel_size=(STRIP, SIDE // 2), stride=(STRIP, SIDE // 2))
        self.places = nn.Embedding(TOKENS, width)
        self.mix = nn.GRU(width, width, batch_first=True)
        self.project = nn.Linear(width, config.text_config.hidden_size)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        strips = self.strips(pixel_values).flatten(2).transpose(1, 2) + self.places.weight
        hidden, _ = self.mix(strips)
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=list(self.project(hidden)))

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Any,
    ) -> Any:
        embeddings = self.language_model.get_input_embeddings()(input_ids)
        encoded = (mm_encoder_outputs or {}).get("image")
        if encoded is None and pixel_values is not None:
            encoded = self.get_image_features(pixel_values)
        if encoded is not None:
            places = (input_ids == self.config.image_token_id)[..., None]
            embeddings = embeddings.masked_scatter(places, torch.cat(list(encoded.pooler_output)))
        return self.language_model(inputs_embeds=embeddings, **kwargs)


class StripsWithHead(PreTrainedModel, GenerationMixin):
    """All but `forward`, whose argument for the cache each release of transformers has a name for."""

    config: StripsConfig
    config_class = StripsConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: StripsConfig) -> None:
        super().__init__(config)
        self.model = StripsModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.language_model.get_input_embeddings()  # type: ignore[no-any-return]  # transformers leaves it untyped

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def run(self, input_ids: Tensor, logits_to_keep: int | Tensor, **inputs: Any) -> CausalLMOutputWithPast:
        output = self.model(input_ids, **inputs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        cache = {CACHE: getattr(output, CACHE)}
        return CausalLMOutputWithPast(logits=self.lm_head(output.last_hidden_state[:, kept]), **cache)


class NamesItCache(StripsWithHead):
    """As transformers has it from 5.24."""

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        logits_to_keep: int | Tensor = 0,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        return self.run(
            input_ids,
            logits_to_keep,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )


class NamesItPastKeyValues(StripsWithHead):
    """As transformers had it before."""

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        logits_to_keep: int | Tensor = 0,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        return self.run(
            input_ids,
            logits_to_keep,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )


CACHE = cache_argument(Qwen3Model.forward)
INSTALLED = NamesItCache if CACHE == "cache" else NamesItPastKeyValues


class StripsProcessor(ProcessorMixin):
    image_token = "<strip>"

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)

    def replace_image_token(self, image_inputs: Any, image_idx: int, **kwargs: Any) -> str:
        return f"<picture>{self.image_token * TOKENS}</picture>"


def write_unheard_of(folder: Path, model: type[StripsWithHead] = INSTALLED) -> Path:
    """Registers the architecture as a package that brings one does, and writes a checkpoint of it."""
    AutoConfig.register("unheard_of", StripsConfig, exist_ok=True)
    AutoModelForImageTextToText.register(StripsConfig, model, exist_ok=True)
    AutoProcessor.register(StripsConfig, StripsProcessor, exist_ok=True)
    chat = chatml("<strip>")
    tokenizer = tiny_tokenizer(
        ["<|im_start|>", "<strip>", "<picture>", "</picture>"],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        chat_template=chat,
    )
    square = {"height": SIDE, "width": SIDE}
    processor = StripsProcessor(
        image_processor("CLIP", size=square, crop_size=square), tokenizer, chat_template=chat
    )
    config = StripsConfig(
        text_config=Qwen3Config(**decoder(tokenizer, hidden_size=96, num_hidden_layers=3)),
        image_token_id=processor.image_token_id,
    )
    return save(Parts(config, processor), folder, 0)
