"""Families that came before a convention, or beside it: Chameleon, Emu3, Fuyu, IDEFICS, Aria."""

from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, chatml, decoder, encoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from tokenizers import AddedToken, Regex, normalizers
from transformers import (
    AriaConfig,
    AriaProcessor,
    ChameleonConfig,
    ChameleonProcessor,
    Emu3Config,
    Emu3ImageProcessor,
    Emu3Processor,
    FuyuConfig,
    FuyuProcessor,
    IdeficsConfig,
    IdeficsProcessor,
)

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
CODES = 16  # of Chameleon's image vocabulary


def chameleon() -> Parts:
    """Chameleon: images become tokens of the vocabulary itself; the template of its prompts is plain text."""
    # A code's name spells its number in letters: A is 0, B is 1, and so on.
    codes = [f"IMGIMG{''.join(chr(ord('A') + int(digit)) for digit in str(code))}Z" for code in range(CODES)]
    separator = "<reserved08706>"
    tokens = [*codes, "<image>", "<racm3:break>", "<eoss>", separator]
    tokenizer = tiny_tokenizer(tokens, prepend_bos=True)
    tokenizer.sep_token = separator
    crop = {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": SQUARE}
    processor = ChameleonProcessor(
        image_processor("Chameleon", **crop), tokenizer, image_seq_length=(IMAGE_SIZE // 4) ** 2
    )
    names = [*codes, "<image>"]
    sizes = decoder(tokenizer)
    del sizes["head_dim"]
    config = ChameleonConfig(
        **sizes,
        vq_config={
            "embed_dim": 16,
            "latent_channels": 16,
            "num_embeddings": CODES,
            "resolution": IMAGE_SIZE,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1],
            "num_res_blocks": 1,
        },
        vocabulary_map=dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True)),
    )
    return Parts(config, processor)


def idefics() -> Parts:
    """IDEFICS: gated cross-attention between the decoder's layers; the images follow the text."""
    tokenizer = tiny_tokenizer(["<fake_token_around_image>", "<image>"], prepend_bos=True)
    processor = IdeficsProcessor(image_processor("Idefics", image_size=IMAGE_SIZE), tokenizer)
    sizes = decoder(tokenizer)
    for unknown in ("num_key_value_heads", "head_dim"):
        del sizes[unknown]
    config = IdeficsConfig(
        **sizes,
        additional_vocab_size=0,
        alpha_initializer="ones",
        alpha_type="vector",
        use_resampler=True,
        vision_config={
            "embed_dim": 32,
            "image_size": IMAGE_SIZE,
            "intermediate_size": 48,
            "patch_size": PATCH_SIZE,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        perceiver_config={
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
        },
    )
    return Parts(config, processor)


def aria() -> Parts:
    """Aria: one large square an image, a fixed number of queries, experts."""
    chat = chatml("<|img|>")
    tokenizer = tiny_tokenizer(
        ["<|im_start|>"], bos=None, eos="<|im_end|>", named={"image_token": "<|img|>"}, chat_template=chat
    )
    # Its processor asks for 980 pixels whatever a checkpoint says, so the patches are large.
    side, patch, queries = 980, 98, 16
    processor = AriaProcessor(
        image_processor("Aria", max_image_size=side),
        tokenizer,
        chat_template=chat,
        size_conversion={490: queries // 2, side: queries},
    )
    config = AriaConfig(
        vision_config={"model_type": "idefics3_vision"} | encoder(image_size=side, patch_size=patch),
        text_config=decoder(tokenizer, moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1),
        projector_patch_to_query_dict={(side // patch) ** 2: queries},
        image_token_index=processor.image_token_id,
    )
    return Parts(config, processor)


def emu3() -> Parts:
    """Emu3: images become tokens of the vocabulary, a row of them ended by a token of its own."""
    codes = [f"<|visual token {code:06d}|>" for code in range(CODES)]
    named = {
        "image_token": "<image>",
        "boi_token": "<|image start|>",
        "eoi_token": "<|image end|>",
        "image_wrapper_token": "<|image token|>",
        "eof_token": "<|extra_201|>",
    }
    chat = template("<image>", turn="ROLE: ", end=" ", answer="ASSISTANT")
    tokenizer = tiny_tokenizer([*codes, "<|extra_200|>"], named=named, chat_template=chat)
    processor = Emu3Processor(
        Emu3ImageProcessor(min_pixels=32 * 32, max_pixels=48 * 48, spatial_factor=8),
        tokenizer,
        chat_template=chat,
    )
    names = [*codes, "<image>", "<|extra_200|>"]
    sizes = decoder(tokenizer)
    del sizes["head_dim"]
    config = Emu3Config(
        text_config=sizes,
        vq_config={
            "codebook_size": CODES,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "hidden_size": 32,
            "attn_resolutions": [3],
        },
        vocabulary_map=dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True)),
    )
    return Parts(config, processor)


def fuyu() -> Parts:
    """Fuyu: no tower; patches go straight into the decoder, each row ended by a token of its own."""
    tokenizer = tiny_tokenizer(["<0x00>", "<0x01>", "<0x02>", "<0x03>", "<0x04>"])
    # Llama's tokenizer puts an underscore before a text that begins with a placeholder, and the processor
    # takes it off again.
    tokenizer.add_tokens([AddedToken("|SPEAKER|", normalized=True), AddedToken("|NEWLINE|", normalized=True)])
    core = tokenizer.backend_tokenizer
    core.normalizer = normalizers.Replace(Regex(r"^\|SPEAKER\|(?=\|)"), "_|SPEAKER|")
    patch = {"height": 16, "width": 16}
    processor = FuyuProcessor(
        image_processor("Fuyu", size={"height": 48, "width": 64}, patch_size=patch), tokenizer
    )
    sizes = decoder(tokenizer, num_key_value_heads=4)
    del sizes["head_dim"]
    config = FuyuConfig(
        text_config={"model_type": "persimmon"} | sizes,
        patch_size=16,
        image_token_id=processor.image_token_id,
    )
    return Parts(config, processor)
