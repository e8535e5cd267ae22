"""Molmo 2: overlapping crops whose patches are pooled by attention."""

import transformers
from tests.tiny.building import Parts, image_processor, video_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, chatml, decoder, encoder
from tests.tiny.tokenizer import tiny_tokenizer

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
PLACES = (
    "<im_patch>",
    "<im_col>",
    "<im_start>",
    "<low_res_im_start>",
    "<frame_start>",
    "<im_end>",
    "<frame_end>",
    "<im_low>",
)


def molmo2() -> Parts:
    """Molmo 2; its image tokens see each other both ways, and stand in rows."""
    chat = chatml("<|image|>")
    tokens = ["<|im_start|>", *PLACES, "<|image|>", "<|video|>"]
    tokenizer = tiny_tokenizer(tokens, bos="<|endoftext|>", eos="<|im_end|>", chat_template=chat)
    patches = {"patch_size": PATCH_SIZE, "size": SQUARE}
    processor = transformers.Molmo2Processor(
        image_processor("Molmo2", **patches, max_crops=2, overlap_margins=[1, 1], pooling_size=[2, 2]),
        video_processor("Molmo2", **patches, pooling_size=[3, 3]),
        tokenizer,
        chat_template=chat,
    )
    ids = dict(zip(PLACES, tokenizer.convert_tokens_to_ids(list(PLACES)), strict=True))
    vision = encoder(image_size=[IMAGE_SIZE, IMAGE_SIZE], num_key_value_heads=2, head_dim=16)
    config = transformers.Molmo2Config(
        vision_config=vision,
        adapter_config={
            "vision_feature_layer": [0, 1],
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "intermediate_size": 48,
            "text_hidden_size": 64,
        },
        text_config=decoder(tokenizer, additional_vocab_size=8),
        image_patch_id=ids["<im_patch>"],
        image_start_token_id=ids["<im_start>"],
        low_res_image_start_token_id=ids["<low_res_im_start>"],
        image_end_token_id=ids["<im_end>"],
        frame_start_token_id=ids["<frame_start>"],
        frame_end_token_id=ids["<frame_end>"],
    )
    return Parts(config, processor)
