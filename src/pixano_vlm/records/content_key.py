"""What a record asks, as a key: equal keys mean that an answer already given still holds.

The key covers the prompt, the bytes of every local image, URLs by their text, the model's fingerprint and
the effective settings. It leaves out what does not change the answer: the id, the metadata, paths, the line's place.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from operator import attrgetter

from pixano_vlm.media.reading import file_digest
from pixano_vlm.media.sources import is_url, split_page, with_page
from pixano_vlm.media.stamps import FileStamp
from pixano_vlm.models.generation import SETTINGS, GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.messages import map_images
from pixano_vlm.records.request import RecordKeys, Request

UNKNOWN = bytes(16)
"""The key of a record whose images changed or vanished while it ran: equal to no other's."""


def _image(source: object) -> str:
    if isinstance(source, str) and is_url(source):
        return source
    # A local file is in the key by its content, so its path must not be; which page of it, where one is named.
    page = split_page(source)[1] if isinstance(source, str) else None
    return "" if page is None else with_page("", page)


def is_repeatable(request: Request) -> bool:
    """Whether the seed hangs on the line number alone: moving the line would change it for no reason."""
    input = request.input
    return input is not None and input.temperature > 0 and not request.own_seed and not request.id_hash


class ContentKey:
    """The two keys of one request.

    Args:
        request: One that has an input.
        fingerprint: What distinguishes the model's answers from another's.
        run_seed: Takes the seed's place where that depends on the line number.
    """

    def __init__(self, request: Request, fingerprint: str, run_seed: int) -> None:
        input = request.input
        assert input is not None
        prompt = input.prompt
        if not isinstance(prompt, str):
            prompt = json.dumps(map_images(prompt, _image), sort_keys=True)
        asked = (
            fingerprint, type(input.prompt) is str, prompt, [_image(source) for source in input.images or ()],
            _settings(input, request, run_seed), [file.size for file in request.files],
        )  # fmt: skip
        self._hash = blake2b(repr(asked).encode("utf-8", "surrogatepass"), digest_size=16)
        self._files = request.files
        self.weak = int.from_bytes(self._hash.digest()[:8], "little") or 1
        """64 bits of all but the contents of the files: needs no file to be read."""

    def strong(self, limits: Limits) -> bytes:
        """128 bits of everything; reads files that were not read lately. `UNKNOWN` when one has changed."""
        if not self._files:
            return self._hash.digest()
        hash = self._hash.copy()
        for file in self._files:
            digest = file_digest(file, limits) if file.inode else b"missing"
            if digest is None:
                return UNKNOWN
            hash.update(digest)
        return hash.digest()


FIRST = (
    "max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "seed",
    "response_format",
)  # fmt: skip
"""The settings of the first version, which are in every key, in this order. One that came later enters a key only
where it is set, so that keys of earlier runs stay as they are."""

LATER = tuple(name for name in SETTINGS if name not in FIRST)

_FIRST_OF, _LATER_OF = attrgetter(*FIRST), attrgetter(*LATER)
_NONE_SET = (None,) * len(LATER)
_SEED, _RESPONSE_FORMAT = FIRST.index("seed"), FIRST.index("response_format")


def _settings(input: VLMInput, request: Request, run_seed: int) -> tuple[object, ...]:
    values: list[object] = list(_FIRST_OF(input))
    if input.temperature == 0:
        values[_SEED] = None
    elif is_repeatable(request):
        values[_SEED] = f"run {run_seed}"
    if input.response_format is not None:  # its keys unsorted: answers have them in the schema's order
        values[_RESPONSE_FORMAT] = json.dumps(input.response_format)
    later = _LATER_OF(input)
    if later != _NONE_SET:
        values += [item for item in zip(LATER, later, strict=True) if item[1] is not None]
    return tuple(values)


def settings_text(settings: GenerationSettings) -> str:
    """A run's settings as text that is the same as long as they ask for the same."""
    # As text: a JSON schema with its keys in another order asks for another answer.
    later = {name for name in LATER if getattr(settings, name) is None}
    return settings.model_dump_json(exclude=later)


def record_keys(request: Request, fingerprint: str, run_seed: int, limits: Limits) -> RecordKeys:
    """All that a journal keeps of what a request asks; reads files that were not read lately.

    Args:
        request: One that has an input.
        fingerprint: What distinguishes the model's answers from another's.
        run_seed: Takes the seed's place where that depends on the line number.
        limits: What may be opened.
    """
    keys = ContentKey(request, fingerprint, run_seed)
    state = state_of(request.files) if request.files else bytes(16)
    return RecordKeys(keys.weak, keys.strong(limits), bool(request.files), state, is_repeatable(request))


def state_of(files: tuple[FileStamp, ...]) -> bytes:
    """The stamps of a record's files in 16 bytes."""
    return blake2b(
        repr([tuple(file) for file in files]).encode("utf-8", "surrogateescape"), digest_size=16
    ).digest()
