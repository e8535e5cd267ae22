"""Idefics2, Idefics3 and SmolVLM: one vision tower, pixel shuffle or resampler, Llama or Mistral text."""

from typing import Any

import transformers
from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, decoder, encoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import Idefics2Config, Idefics2Processor, Idefics3Config, SmolVLMConfig

SCALE_FACTOR = 2
TEMPLATE = template(
    "<image>",
    video="<video>",
    start="<|im_start|>",
    turn="ROLE: ",
    end="<end_of_utterance>\n",
    capitalize=True,
)
GRID = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]


def _tokenizer(*more: str) -> Any:
    tokens = ["<fake_token_around_image>", "<image>", "<|im_start|>", *more]
    return tiny_tokenizer(
        tokens, bos="<|im_start|>", eos="<end_of_utterance>", pad="<|im_end|>", chat_template=TEMPLATE
    )


def idefics3(tiles: bool) -> Parts:
    """Idefics3; with `tiles`, large images are cut into squares beside a thumbnail, as is the default."""
    return _shuffled("Idefics3", Idefics3Config, tiles)


def smolvlm() -> Parts:
    """SmolVLM: Idefics3's model with a processor that takes video too."""
    video = video_processor(
        "SmolVLM",
        size={"longest_edge": IMAGE_SIZE},
        max_image_size={"longest_edge": IMAGE_SIZE},
        num_frames=4,
    )
    return _shuffled("SmolVLM", SmolVLMConfig, True, video_processor=video)


def _shuffled(family: str, config_class: Any, tiles: bool, **kwargs: Any) -> Parts:
    tokenizer = _tokenizer("<global-img>", *GRID)
    processor = getattr(transformers, f"{family}Processor")(
        image_processor(
            family,
            size={"longest_edge": 2 * IMAGE_SIZE if tiles else IMAGE_SIZE},
            max_image_size={"longest_edge": IMAGE_SIZE},
            do_image_splitting=tiles,
        ),
        tokenizer,
        image_seq_len=(IMAGE_SIZE // PATCH_SIZE // SCALE_FACTOR) ** 2,
        chat_template=TEMPLATE,
        **kwargs,
    )
    config = config_class(
        vision_config=encoder(),
        text_config={"model_type": "llama"} | decoder(tokenizer),
        scale_factor=SCALE_FACTOR,
        image_token_id=processor.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Parts(config, processor)


def idefics2() -> Parts:
    """Idefics2: images at their own shape, resampled to a fixed number of tokens; Mistral text."""
    tokenizer = _tokenizer()
    processor = Idefics2Processor(
        image_processor(
            "Idefics2", size={"shortest_edge": 24, "longest_edge": IMAGE_SIZE}, do_image_splitting=False
        ),
        tokenizer,
        image_seq_len=6,
        chat_template=TEMPLATE,
    )
    config = Idefics2Config(
        vision_config=encoder(),
        perceiver_config={
            "hidden_size": 64,
            "resampler_n_latents": 6,
            "resampler_depth": 2,
            "resampler_n_heads": 4,
            "resampler_head_dim": 16,
            "num_key_value_heads": 2,
        },
        text_config={"model_type": "mistral", "sliding_window": 4096} | decoder(tokenizer),
        image_token_id=processor.image_token_id,
    )
    return Parts(config, processor)
