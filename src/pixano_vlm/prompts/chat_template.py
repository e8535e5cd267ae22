"""From a request to the text that the model's processor takes, its images and videos in the order of their places.

The layout is the model's own: its chat template where it has one, else the plain prompt. Knows nothing of
pixels or tokens; never changes the caller's messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pixano_vlm.errors import PromptError
from pixano_vlm.models.image_source import ImageSource
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.content_style import FILLER, SECOND_WORD, WORD, ContentStyle, ContentStyles
from pixano_vlm.prompts.control_tokens import ControlTokens, unmarked
from pixano_vlm.prompts.messages import Chat, VideoSource, read_chat
from pixano_vlm.prompts.placeholders import IMAGE, count_images, split_at_images
from pixano_vlm.prompts.thinking import Thinking, find_thinking

__all__ = ["ChatTemplateRenderer", "RenderedPrompt"]

Messages = list[dict[str, Any]]

GIVEN = frozenset(
    {
        "messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "raise_exception",
        "strftime_now", "namespace", "range", "dict", "lipsum", "cycler", "joiner",
    }
)  # fmt: skip
"""What a template reads that is given to it anyway."""
THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Where in an assistant's message published templates look for the thoughts of an earlier answer."""
GENERATION_MARK = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""transformers' own statement, which marks answers for training."""


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as text, and the images and videos in order."""

    text: str
    """Control tokens that a user wrote are marked in it; see `control_tokens`."""
    images: tuple[ImageSource, ...]
    videos: tuple[VideoSource, ...] = ()
    begun: str = ""
    """The answer that the record begins itself."""
    thinks: bool = False
    """Whether it ends inside of thoughts, which the answer begins with."""


class ChatTemplateRenderer:
    """Renders prompts for one model.

    Args:
        processor: The model's processor.
        prepends_images: For a prompt without a chat template, whether it must name its images itself, or the
            processor (or nobody) puts them in.
        variables: Variables of the template, such as a switch for thinking.
    """

    def __init__(
        self, processor: Any, *, prepends_images: bool, variables: Mapping[str, Any] | None = None
    ) -> None:
        self._processor = processor
        self._variables: dict[str, Any] = dict(variables or {})
        self.prepends_images = prepends_images
        token = getattr(processor, "image_token", None)
        self.image_token: str | None = None if token is None else str(token)
        self.styles = ContentStyles(self._render_as_is)
        self._control = ControlTokens.of(processor)
        self._placeholders: tuple[str, ...] | None = None

    @property
    def has_template(self) -> bool:
        """Whether the model brings a chat template."""
        return bool(getattr(self._processor, "chat_template", None))

    @property
    def placeholders(self) -> tuple[str, ...]:
        """What in a user's text is the place of an image: `<image>`, the model's own token, and how it is framed."""
        if self._placeholders is None:
            found = [IMAGE, self.image_token]
            framed = self.styles.of("user").image if self.has_template else ""
            if (self.image_token and self.image_token in framed) or framed in self._control.tokens:
                found.append(framed)
            self._placeholders = tuple(dict.fromkeys(token for token in found if token))
        return self._placeholders

    def render(self, input: VLMInput) -> RenderedPrompt:
        """Renders one request.

        Raises:
            PromptError: When messages are malformed, places and images do not match, or the template refuses the
                messages or leaves a part of them out.
        """
        if input.chat_template_kwargs and not self.has_template:
            raise PromptError("this model has no chat template, so it has no variables of one.")
        if isinstance(input.prompt, str) and not self.has_template:
            return self._plain(input.prompt, tuple(input.images or ()))
        chat = read_chat(input.prompt, tuple(input.images or ()), self.placeholders)
        if chat.videos:
            self._check_takes_video()
        if not self.has_template:
            return self._plain(_only_text(chat.messages), tuple(chat.images))
        text = self._apply(self._fitted(chat), self._checked(input.chat_template_kwargs))
        self._check_nothing_left_out(chat, text)
        last = chat.messages[-1]
        begun = (
            "".join(part.get("text", "") for part in last["content"]) if last["role"] == "assistant" else ""
        )
        thinks = self.thinking is not None and self.thinking.is_open(text, begun)
        return RenderedPrompt(
            text,
            tuple(chat.images),
            videos=tuple(chat.videos),
            begun=begun,
            thinks=thinks,
        )

    # -- without a template ------------------------------------------------------------------------------------

    def _plain(self, prompt: str, images: tuple[ImageSource, ...]) -> RenderedPrompt:
        """A prompt as it stands; its tokens are the model's own language (`<OD>`, `<grounding>`)."""
        places = count_images(prompt, self.placeholders)
        token = (self.image_token or "") if self.prepends_images else ""
        if not places:
            return RenderedPrompt(token * len(images) + prompt, images)
        if places != len(images):
            raise PromptError(
                f"the prompt has {places} places for an image, and the record has {len(images)} images.",
                hint="Give as many images as the prompt has places, or leave the places out.",
            )
        if not self.image_token or prompt.count(self.image_token) != places:
            pieces = split_at_images(prompt, self.placeholders)
            prompt = "".join(token if piece is None else piece for piece in pieces)
            prompt = prompt if token else prompt.lstrip("\n")
        return RenderedPrompt(prompt, images)

    # -- with a template ---------------------------------------------------------------------------------------

    def _fitted(self, chat: Chat) -> Messages:
        """The messages with each content in a form that the template takes, users' control tokens marked."""
        return [
            {**message, "content": self._content(message, is_string=number in chat.strings)}
            for number, message in enumerate(chat.messages)
        ]

    def _content(self, message: dict[str, Any], *, is_string: bool) -> str | list[dict[str, Any]]:
        role, style = message["role"], self.styles.of(message["role"])
        mark = self._control.mark_images if role == "assistant" else self._control.mark
        parts = [
            {"type": "text", "text": mark(part["text"])} if part["type"] == "text" else part
            for part in message["content"]
        ]
        kinds = {part["type"] for part in parts}
        if kinds <= {"text"}:
            return _text_content(parts, style, is_string=is_string)
        if style.string and not (style.parts and (style.image or "image" not in kinds)):
            return self._as_string(parts)
        return parts

    def _as_string(self, parts: list[dict[str, Any]]) -> str:
        """Parts for a template that takes strings alone: each image as its token, as the models' own examples do."""
        if any(part["type"] == "video" for part in parts):
            raise PromptError(
                "this model's chat template has no place for a video.",
                hint="Give frames as images, or use a model that takes video.",
            )
        token = (self.image_token or "") if self.prepends_images else ""
        pieces: list[str] = []
        for number, part in enumerate(parts):
            if part["type"] == "image":
                pieces.append(token)
                continue
            previous = parts[number - 1]["type"] if number else ""
            leads = previous == "image" and token and not any(p["type"] == "text" for p in parts[:number])
            if (leads or previous == "text") and not part["text"][:1].isspace():
                pieces.append("\n")
            pieces.append(part["text"])
        return "".join(pieces)

    # -- what frames a turn ------------------------------------------------------------------------------------

    @property
    def control(self) -> ControlTokens:
        """The tokens that are text where a user writes them."""
        return self._control

    def closing(self) -> str:
        """What the template writes behind an assistant's turn that ends a conversation; "" where it has none."""
        return self._probe([("user", FILLER), ("assistant", WORD)], generation_prompt=False).partition(WORD)[
            2
        ]

    def between_turns(self) -> str:
        """What the template writes from one turn to the next and in front of an answer; "" where it has none."""
        turns = [("user", WORD), ("assistant", SECOND_WORD), ("user", SECOND_WORD)]
        return self._probe(turns, generation_prompt=True).partition(WORD)[2].replace(SECOND_WORD, "")

    @cached_property
    def after_thoughts(self) -> str:
        """The white space that the template writes between the mark that ends thoughts and the answer."""
        if self.thinking is None:
            return ""
        text = self._probe(
            [("user", FILLER), ("assistant", WORD)], generation_prompt=False, thoughts=SECOND_WORD
        )
        _, ends, behind = text.rpartition(self.thinking.ends)
        space, answer, _ = behind.partition(WORD)
        return space if ends and answer and space.isspace() else ""

    def _probe(self, turns: list[tuple[str, str]], *, generation_prompt: bool, thoughts: str = "") -> str:
        if not self.has_template:
            return ""
        messages: Messages = [
            {
                "role": role,
                "content": said if self.styles.of(role).string else [{"type": "text", "text": said}],
            }
            for role, said in turns
        ]
        if thoughts:
            messages[-1] |= dict.fromkeys(THOUGHT_KEYS, thoughts)
        try:
            text: str = self._processor.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generation_prompt, **self._variables
            )
        # A template's own code: one that refuses a plain conversation tells nothing of its turns.
        except Exception:
            return ""
        return text

    def _checked(self, asked: Mapping[str, Any] | None) -> dict[str, Any]:
        """A record's variables of the template, which must be ones that it reads."""
        unknown = sorted(set(asked or ()) - self.variables)
        if unknown:
            known = ", ".join(sorted(self.variables)) or "none"
            raise PromptError(
                f"the model's chat template has no variable {unknown[0]!r}.", hint=f"It has: {known}."
            )
        return dict(asked or {})

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables that the template reads beside messages and tokens, such as a switch for thinking."""
        from jinja2 import meta
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
        template = str(getattr(self._processor, "chat_template", None) or "")
        try:
            found = meta.find_undeclared_variables(environment.parse(GENERATION_MARK.sub("", template)))
        # One that uses what transformers adds to Jinja in some other way: nothing is known of it.
        except Exception:
            return frozenset()
        return frozenset(name for name in found if name not in GIVEN and not name.endswith("_token"))

    @cached_property
    def thinking(self) -> Thinking | None:
        """How the model marks its thoughts; None for one that has none."""
        tokenizer = getattr(self._processor, "tokenizer", self._processor)
        added = (token.content for token in getattr(tokenizer, "added_tokens_decoder", {}).values())
        return find_thinking(str(getattr(self._processor, "chat_template", None) or ""), added)

    def _apply(self, messages: Messages, variables: Mapping[str, Any]) -> str:
        try:
            return self._render_as_is(messages, variables)
        # A template's own code, over a user's own messages: what it raises is that record's error.
        except Exception as error:
            what = " ".join(str(error).split()) or type(error).__name__
            raise PromptError(f"the model's chat template refuses these messages: {what}.") from error

    def _render_as_is(self, messages: Messages, variables: Mapping[str, Any] | None = None) -> str:
        answered = messages[-1]["role"] == "assistant"  # an answer already begun is continued
        text: str = self._processor.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=not answered,
            continue_final_message=answered,
            **(self._variables | dict(variables or {})),
        )
        return text

    def _check_nothing_left_out(self, chat: Chat, text: str) -> None:
        plain = unmarked(text)
        for number, message in enumerate(chat.messages, start=1):
            said = [part["text"].strip() for part in message["content"] if part["type"] == "text"]
            missing = not self.styles.of(message["role"]).is_known and any(part not in plain for part in said)
            if missing:
                raise PromptError(
                    f"the model's chat template leaves out message {number}, of the role {message['role']!r}.",
                    hint="Say it in a turn that the template has a place for, such as the user's.",
                )
        self._check_image_places(len(chat.images), text)
        token = getattr(self._processor, "video_token", None)
        if chat.videos and token is not None and str(token) not in text:
            raise PromptError(
                "this model's chat template has no place for a video.",
                hint="Give frames as images, or use a model that takes video.",
            )

    def _check_image_places(self, images: int, text: str) -> None:
        framed = self.styles.of("user").image
        token = self.image_token if self.image_token and self.image_token in framed else framed
        if token and text.count(token) < images * framed.count(token):
            raise PromptError(
                f"the model's chat template leaves out {images - text.count(token) // framed.count(token)} of the "
                f"record's {images} images.",
                hint="Put the images into user turns.",
            )

    def _check_takes_video(self) -> None:
        if getattr(self._processor, "video_processor", None) is None:
            raise PromptError(
                "this model takes no video: its processor has no part for them.",
                hint="Give frames as images, or use a model that takes video.",
            )
        if not self.has_template:
            raise PromptError(
                "this model has no chat template, and a video needs one: it is part of a chat message."
            )


def _text_content(
    parts: list[dict[str, Any]], style: ContentStyle, *, is_string: bool
) -> str | list[dict[str, Any]]:
    """A turn of text alone: as it was written where the template takes that, else in the form that it takes."""
    text = "\n".join(part["text"] for part in parts)
    if style.string and (is_string or not style.parts):
        return text
    if style.parts and not style.several and len(parts) > 1:
        return [{"type": "text", "text": text}]
    return parts


def _only_text(messages: Messages) -> str:
    """The text of a conversation for a model that knows no conversations: one user turn, as it stands."""
    if len(messages) > 1:
        raise PromptError(
            "this model has no chat template, so it takes one user turn, not a conversation.",
            hint="Give the prompt as a string.",
        )
    return "".join(part["text"] for part in messages[0]["content"] if part["type"] == "text")
