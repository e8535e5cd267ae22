"""MiniCPM-V and MiniCPM-OCR: slices beside the whole image, numbered within their record, merged inside the tower."""

import transformers
from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import PATCH_SIZE, chatml, decoder, encoder
from tests.tiny.tokenizer import tiny_tokenizer

SIDE = 64


def minicpm(family: str, images: str) -> Parts:
    """A model over Qwen3.5's text, three of whose four layers are recurrent.

    Args:
        family: what the names of its classes begin with.
        images: what those of its image and video processors begin with.
    """
    named = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    }
    chat = chatml("<|image_pad|>", video="<|video_pad|>")
    tokenizer = tiny_tokenizer(
        ["<|im_start|>"], bos=None, eos="<|im_end|>", pad="<|endoftext|>", named=named, chat_template=chat
    )
    sizes = {"scale_resolution": SIDE, "patch_size": PATCH_SIZE, "max_slice_nums": 4}
    processor = getattr(transformers, f"{family}Processor")(
        image_processor(images, **sizes),
        video_processor(images, **sizes),
        tokenizer,
        chat_template=chat,
    )
    text = {
        "model_type": "qwen3_5_text",
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    }
    marks = ("image_start", "image_end", "slice_start", "slice_end")
    ids = {f"{mark}_id": getattr(tokenizer, f"{mark}_token_id") for mark in marks}
    ids["newline_id"] = tokenizer.encode("\n", add_special_tokens=False)[0]
    whole = {} if family == "MiniCPMOcr" else {"image_size": SIDE}
    config = getattr(transformers, f"{family}Config")(
        vision_config=encoder(image_size=SIDE, num_hidden_layers=3, insert_layer_id=1),
        text_config=text | decoder(tokenizer, num_hidden_layers=4),
        insert_layer_id=1,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        **whole,
        **(ids if family == "MiniCPMV4_7" else {}),
    )
    return Parts(config, processor)
