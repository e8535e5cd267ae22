"""Meta's Llama line: cross-attention in Llama 3.2 Vision, early fusion and chunks in Llama 4."""

from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, decoder, encoder, template
from tests.tiny.tokenizer import tiny_tokenizer
from transformers import Llama4Config, Llama4Processor, MllamaConfig, MllamaProcessor

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}


def mllama() -> Parts:
    """Llama 3.2 Vision: the image is read by cross-attention layers, and has one token in the text."""
    chat = template(
        "<|image|>",
        start="{{ bos_token }}",
        turn="<|start_header_id|>ROLE<|end_header_id|>\n\n",
        end="<|eot_id|>",
    )
    # The image token comes last: its id is just past the output layer's rows, as in the checkpoints.
    tokens = ["<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>", "<|image|>"]
    tokenizer = tiny_tokenizer(
        tokens,
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        pad="<|finetune_right_pad_id|>",
        prepend_bos=True,
        chat_template=chat,
    )
    processor = MllamaProcessor(
        image_processor("Mllama", size=SQUARE, max_image_tiles=4), tokenizer, chat_template=chat
    )
    vision = encoder(
        attention_heads=2,
        num_global_layers=1,
        max_num_tiles=4,
        intermediate_layers_indices=[0, 1],
        vision_output_dim=32 * 3,
        supported_aspect_ratios=[[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    )
    del vision["num_attention_heads"]
    text = decoder(
        tokenizer, num_hidden_layers=4, cross_attention_layers=[1, 3], vocab_size=len(tokenizer) - 1
    )
    del text["head_dim"]
    config = MllamaConfig(vision_config=vision, text_config=text, image_token_index=processor.image_token_id)
    return Parts(config, processor)


def llama4() -> Parts:
    """Llama 4: tiles in the text, attention in chunks of 32 tokens on three layers of four, experts."""
    chat = template(
        "<|image|>", start="{{ bos_token }}", turn="<|header_start|>ROLE<|header_end|>\n\n", end="<|eot|>"
    )
    tokens = [
        "<|header_start|>",
        "<|header_end|>",
        "<|image|>",
        "<|image_start|>",
        "<|image_end|>",
        "<|patch|>",
    ]
    tokens += ["<|tile_x_separator|>", "<|tile_y_separator|>"]
    tokenizer = tiny_tokenizer(
        tokens,
        bos="<|begin_of_text|>",
        eos="<|eot|>",
        pad="<|finetune_right_pad|>",
        prepend_bos=True,
        chat_template=chat,
    )
    processor = Llama4Processor(
        image_processor("Llama4", size=SQUARE, max_patches=4),
        tokenizer,
        patch_size=PATCH_SIZE,
        chat_template=chat,
    )
    config = Llama4Config(
        vision_config=encoder(
            vision_output_dim=64, projector_input_dim=64, projector_output_dim=64, intermediate_size=128
        ),
        text_config=decoder(
            tokenizer,
            num_hidden_layers=4,
            intermediate_size_mlp=96,
            num_local_experts=4,
            interleave_moe_layer_step=2,
            attention_chunk_size=32,
        ),
        boi_token_index=tokenizer.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<|image_end|>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<|patch|>"),
    )
    return Parts(config, processor)
