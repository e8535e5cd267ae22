"""Five tokenizers of published models, and chat templates of each style over their tokens.

The templates are written here, in the manner of published ones and none of them copied: what varies is in which form
a turn's content is taken, where a system turn goes, and what is written for tools and thoughts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny.building import Parts, image_processor
from tests.tiny.layouts import IMAGE_SIZE, PATCH_SIZE, decoder, encoder
from transformers import AutoTokenizer, LlavaConfig, LlavaProcessor

FOLDER = Path(os.environ.get("PIXANO_VLM_TOKENIZERS", ".venv-tokenizers/3.7.2"))
"""Where scripts/tokenizers_env.py has put them."""


@dataclass(frozen=True)
class Family:
    """One tokenizer, and how turns are framed in prompts of its model."""

    name: str
    start: str
    """What a prompt begins with."""
    turn: str
    """The opening of a turn; `ROLE` is the role."""
    end: str
    """The closing of a turn."""
    image: str
    """The token of an image, one of the tokenizer's own where it has one to spare."""

    @property
    def is_here(self) -> bool:
        """Whether its files have been fetched."""
        return (FOLDER / self.name / "tokenizer.json").is_file()

    def tokenizer(self, template: str | None = None) -> Any:
        """The tokenizer as transformers loads it, its end token the one that closes turns."""
        tokenizer: Any = AutoTokenizer.from_pretrained(FOLDER / self.name)  # type: ignore[no-untyped-call]
        tokenizer.add_tokens([self.image], special_tokens=True)
        tokenizer.eos_token = self.end.strip()
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.chat_template = template
        return tokenizer

    def processor(self, template: str | None) -> LlavaProcessor:
        """A processor of images and text over the tokenizer."""
        tokenizer = self.tokenizer(template)
        images = image_processor(
            "CLIP",
            size={"shortest_edge": IMAGE_SIZE},
            crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        )
        return LlavaProcessor(
            images,
            tokenizer,
            patch_size=PATCH_SIZE,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            image_token=self.image,
            chat_template=template,
        )

    def parts(self, template: str | None) -> Parts:
        """A checkpoint over it: a model of a few layers with the vocabulary whole."""
        processor = self.processor(template)
        tokenizer: Any = processor.tokenizer  # type: ignore[attr-defined]  # of every processor
        vision = {"model_type": "clip_vision_model", "projection_dim": 32} | encoder()
        config = LlavaConfig(
            vision_config=vision,
            text_config={"model_type": "llama"} | decoder(tokenizer) | {"max_position_embeddings": 4096},
            image_token_index=tokenizer.convert_tokens_to_ids(self.image),
            image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        )
        return Parts(config, processor, end_gain=1.0)


FAMILIES = {
    family.name: family
    for family in (
        Family("qwen3", "", "<|im_start|>ROLE\n", "<|im_end|>\n", "<|image_pad|>"),
        Family("gemma3", "<bos>", "<start_of_turn>ROLE\n", "<end_of_turn>\n", "<image_soft_token>"),
        Family(
            "llama3",
            "<|begin_of_text|>",
            "<|start_header_id|>ROLE<|end_header_id|>\n\n",
            "<|eot_id|>",
            "<|reserved_special_token_4|>",
        ),
        Family(
            "deepseek_v3", "<｜begin▁of▁sentence｜>", "<｜ROLE｜>", "<｜end▁of▁sentence｜>", "<｜image｜>"
        ),
        Family("gptoss", "<|startoftext|>", "<|start|>ROLE<|message|>", "<|end|>", "<|image|>"),
    )
}
DEEPSEEK_ROLES = {"user": "User", "assistant": "Assistant"}


def _text(literal: str) -> str:
    """A literal as a Jinja string."""
    return "'" + literal.replace("\n", "\\n") + "'"


def _opening(family: Family, role: str) -> str:
    """A Jinja expression of a turn's opening; `role` is one of the role's name."""
    before, _, after = family.turn.partition("ROLE")
    if family.name == "deepseek_v3":  # its tokens are the roles'
        role = f"('Assistant' if {role} == 'assistant' else 'User')"
    return f"{_text(before)} + {role} + {_text(after)}"


def _template(
    family: Family, content: str, *, before: str = "", inside: str = "", opening: str = "", answer: str = ""
) -> str:
    """Puts a template together.

    Args:
        content: Jinja that writes `message`'s content.
        before: What comes in front of the turns.
        inside: What comes at the beginning of each turn's content.
        opening: What else a turn's role decides, an expression of the role.
        answer: What comes behind the opening of the answer.
    """
    role = opening or "message['role']"
    return "".join(
        [
            "{{- ", _text(family.start), " }}",
            before,
            "{%- for message in messages %}",
            "{{- ", _opening(family, role), " }}",
            inside,
            content,
            "{{- ", _text(family.end), " }}",
            "{%- endfor %}",
            "{%- if add_generation_prompt %}{{- ", _opening(family, "'assistant'"), " }}", answer, "{%- endif %}",
        ]
    )  # fmt: skip


STRING = "{{- message['content'] | trim }}"
LIST = (
    "{%- for part in message['content'] %}{%- if part['type'] == 'image' %}{{- 'IMAGE' }}"
    "{%- else %}{{- part['text'] }}{%- endif %}{%- endfor %}"
)
EITHER = "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}" + LIST + "{%- endif %}"


def _string(family: Family) -> str:
    return _template(family, STRING)


def _list(family: Family) -> str:
    return _template(family, LIST)


def _either(family: Family) -> str:
    return _template(family, EITHER)


def _default_system(family: Family) -> str:
    before = (
        "{%- if messages[0]['role'] != 'system' %}{{- "
        + _opening(family, "'system'")
        + " + 'You see and answer.' + "
        + _text(family.end)
        + " }}{%- endif %}"
    )
    return _template(family, EITHER, before=before)


def _folded_system(family: Family) -> str:
    """The system turn becomes the beginning of the user's."""
    before = (
        "{%- if messages[0]['role'] == 'system' %}"
        "{%- set asked = messages[0]['content'] %}"
        "{%- if asked is not string %}{%- set asked = asked[0]['text'] %}{%- endif %}"
        "{%- set first = asked + '\\n\\n' %}{%- set messages = messages[1:] %}"
        "{%- else %}{%- set first = '' %}{%- endif %}"
    )
    inside = "{%- if loop.first %}{{- first }}{%- endif %}"
    return _template(family, EITHER, before=before, inside=inside)


def _refused_system(family: Family) -> str:
    before = (
        "{%- if messages[0]['role'] == 'system' %}"
        "{{- raise_exception('there is no system turn here') }}{%- endif %}"
    )
    return _template(family, EITHER, before=before)


def _tools(family: Family) -> str:
    calls = (
        "{%- for call in message.tool_calls or [] %}{{- '\\n[call ' + call.function.name + ' ' }}"
        "{{- call.function.arguments | tojson }}{{- ']' }}{%- endfor %}"
    )
    results = "'user' if message['role'] == 'tool' else message['role']"
    inside = "{%- if message['role'] == 'tool' %}{{- '[result]\\n' }}{%- endif %}"
    return _template(family, EITHER + calls, opening=f"({results})", inside=inside)


def _thinking(family: Family) -> str:
    answer = (
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
        "{%- elif deep %}{{- '<think>\\n' }}{%- endif %}"
    )
    content = (
        "{%- if message['role'] == 'assistant' and message['content'] is string "
        "and '</think>' in message['content'] %}"
        "{{- message['content'].split('</think>')[-1].lstrip('\\n') }}{%- else %}" + EITHER + "{%- endif %}"
    )
    return _template(family, content, answer=answer)


STYLES: dict[str, Callable[[Family], str]] = {
    "string": _string,
    "list": _list,
    "either": _either,
    "system first": _default_system,
    "system folded": _folded_system,
    "system refused": _refused_system,
    "tools": _tools,
    "thinking": _thinking,
}


def template(family: Family, style: str) -> str:
    """The chat template of a style over a family's tokens."""
    return STYLES[style](family).replace("IMAGE", family.image)
