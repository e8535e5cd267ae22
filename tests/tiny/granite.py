"""Granite's two, LLaVA-NeXT with a Q-Former and Idefics3 with a second route, and HunYuan-VL."""

import transformers
from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, decoder, encoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import (
    Granite4VisionConfig,
    Granite4VisionProcessor,
    HunYuanVLConfig,
    HunYuanVLProcessor,
)

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
PINPOINTS = [[32, 64], [64, 32], [64, 64]]
TURN = {"turn": "<|start_of_role|>ROLE<|end_of_role|>", "end": "<|end_of_text|>\n"}


def granite4_vision() -> Parts:
    """Granite 4 Vision: tiles shrunk by Q-Formers, whose several layers are added inside the decoder."""
    chat = template("<image>\n", **TURN)
    tokenizer = tiny_tokenizer(
        ["<|start_of_role|>", "<|end_of_role|>", "<image>"],
        bos=None,
        eos="<|end_of_text|>",
        chat_template=chat,
    )
    processor = Granite4VisionProcessor(
        image_processor(
            "LlavaNext", size={"shortest_edge": IMAGE_SIZE}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS
        ),
        tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        chat_template=chat,
    )
    vision = encoder(
        hidden_size=64, num_hidden_layers=3, vision_use_head=False, model_type="siglip_vision_model"
    )
    config = Granite4VisionConfig(
        vision_config=vision,
        text_config=decoder(tokenizer, num_hidden_layers=3, attention_multiplier=0.25),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        deepstack_layer_map=[[-1, 0], [-2, 1]],
        spatial_target_layers=[1, 2],
        qformer_config={"model_type": "blip_2_qformer", "num_hidden_layers": 1, "intermediate_size": 48},
    )
    return Parts(config, processor)


def granite_docling() -> Parts:
    """Granite Docling: squares and a thumbnail, shuffled."""
    chat = template("<image>", **TURN)
    tokens = ["<|start_of_role|>", "<|end_of_role|>", "<image>", "<fake_token_around_image>", "<global-img>"]
    tokens += [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = tiny_tokenizer(tokens, bos=None, eos="<|end_of_text|>", chat_template=chat)
    scale = 2
    processor = transformers.GraniteDoclingProcessor(
        image_processor("GraniteDocling", size=SQUARE, min_patches=1, max_patches=4),
        tokenizer,
        image_seq_len=(IMAGE_SIZE // PATCH_SIZE // scale) ** 2,
        chat_template=chat,
    )
    config = transformers.GraniteDoclingConfig(
        vision_config=encoder(out_hidden_size=64, scale_factor=scale),
        text_config=decoder(tokenizer, attention_multiplier=0.25),
        image_token_id=processor.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Parts(config, processor)


def hunyuan_vl() -> Parts:
    """HunYuan-VL: rows of image tokens ended by a token each, positions on four axes."""
    chat = template("<|img_start|><|image|><|img_end|>", turn="<|ROLE|>", end="<|end|>")
    named = {
        "image_token": "<|image|>",
        "image_start_token": "<|img_start|>",
        "image_end_token": "<|img_end|>",
    }
    tokenizer = tiny_tokenizer(
        ["<|user|>", "<|assistant|>", "<|newline|>"], eos="<|end|>", named=named, chat_template=chat
    )
    pixels = {"shortest_edge": (4 * PATCH_SIZE) ** 2, "longest_edge": (8 * PATCH_SIZE) ** 2}
    processor = HunYuanVLProcessor(
        image_processor("HunYuanVL", patch_size=PATCH_SIZE, merge_size=2, temporal_patch_size=1, size=pixels),
        tokenizer,
        chat_template=chat,
    )
    vision = encoder(out_hidden_size=64, text_hidden_size=64, spatial_merge_size=2, max_image_size=64)
    del vision["image_size"]
    rope = {
        "rope_type": "xdrope",
        "factor": 1.0,
        "alpha": 1.0,
        "rope_theta": 10000.0,
        "xdrope_section": [2, 2, 2, 2],
    }
    config = HunYuanVLConfig(
        vision_config=vision,
        text_config=decoder(tokenizer, rope_parameters=rope),
        image_token_id=tokenizer.image_token_id,
        im_start_id=tokenizer.image_start_token_id,
        im_end_id=tokenizer.image_end_token_id,
        im_newline_id=tokenizer.convert_tokens_to_ids("<|newline|>"),
    )
    return Parts(config, processor)
