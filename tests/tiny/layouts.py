"""Chat templates in the manner of the real checkpoints, and sizes that many families share.

A template is written here from the shape of its family's prompts; each one renders roles, text and image
placeholders in the order of the message's content, and ends with the opening of the answer.
"""

from typing import Any

from transformers import PreTrainedTokenizerFast

IMAGE_SIZE = 32  # pixels; the largest side most tiny vision encoders see
PATCH_SIZE = 8


def template(
    image: str,
    *,
    turn: str,
    end: str,
    start: str = "",
    answer: str = "assistant",
    capitalize: bool = False,
    system: str = "",
    video: str = "",
) -> str:
    """Compose a chat template.

    Args:
        image: what stands for an image inside a message.
        turn: the opening of a turn, in which `ROLE` stands for the role's name.
        end: the closing of a turn.
        start: what the whole prompt begins with, such as the beginning token.
        answer: the name of the role that answers.
        capitalize: whether roles are written User and Assistant.
        system: a system turn's text, put first when the messages bring none.
        video: what stands for a video inside a message; nothing for a family that takes none.
    """
    spell = " | capitalize" if capitalize else ""
    answer = answer.capitalize() if capitalize else answer
    role = "{{ '" + answer + "' if message.role == 'assistant' else message.role" + spell + " }}"
    turn, end, image, video = (_literal(text) for text in (turn, end, image, video))
    default_system = (
        "{% if messages[0].role != 'system' %}"
        + turn.replace("ROLE", "system")
        + system
        + end
        + "{% endif %}"
        if system
        else ""
    )
    return "".join(
        [
            start,
            default_system,
            "{% for message in messages %}",
            turn.replace("ROLE", role),
            "{% if message.content is string %}{{ message.content }}{% else %}",
            "{% for part in message.content %}",
            "{% if part.type == 'image' %}",
            image,
            "{% elif part.type == 'video' %}" + video if video else "",
            "{% elif part.type == 'text' %}{{ part.text }}{% endif %}",
            "{% endfor %}{% endif %}",
            end,
            "{% endfor %}",
            "{% if add_generation_prompt %}",
            turn.replace("ROLE", answer),
            "{% endif %}",
        ]
    )


def _literal(text: str) -> str:
    """Newlines as expressions: Jinja, as transformers sets it up, drops the newline after a block."""
    return text.replace("\n", "{{ '\\n' }}")


def chatml(image: str, system: str = "", video: str = "") -> str:
    """The `<|im_start|>role ... <|im_end|>` turns of Qwen, InternVL and many others."""
    return template(image, turn="<|im_start|>ROLE\n", end="<|im_end|>\n", system=system, video=video)


def decoder(tokenizer: PreTrainedTokenizerFast, **kwargs: Any) -> dict[str, Any]:
    """Sizes of a small decoder with grouped-query attention, and the tokenizer's token ids."""
    return {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 2048,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | kwargs


def encoder(**kwargs: Any) -> dict[str, Any]:
    """Sizes of a small vision transformer."""
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
    } | kwargs
