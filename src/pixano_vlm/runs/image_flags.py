"""Quality flags of the images that an answer is about, noted while they were opened.

`pages_not_read`: its first page was read, of several, and nobody said which. `colours_guessed`: its file
leaves open what its samples mean (12 bits in a file of 16, numbers without a range, inks without Adobe's mark), so
that it was guessed from their values.
"""

from __future__ import annotations

from pixano_vlm.media.notes import NOTES
from pixano_vlm.models.vlm import VLMInput
from pixano_vlm.prompts.messages import image_sources

__all__ = ["COLOURS_GUESSED", "PAGES_NOT_READ", "image_flags"]

PAGES_NOT_READ = "pages_not_read"
COLOURS_GUESSED = "colours_guessed"


def image_flags(input: VLMInput | None) -> tuple[tuple[str, ...], int]:
    """The flags of a request's images, none for normal ones, and how many pages were not read."""
    if input is None or not NOTES:
        return (), 0
    in_messages = image_sources(input.prompt) if isinstance(input.prompt, list) else ()
    notes = [NOTES.of(source) for source in (*(input.images or ()), *in_messages)]
    pages_not_read = sum(note.pages_not_read for note in notes)
    flags = (PAGES_NOT_READ,) if pages_not_read else ()
    if any(note.is_guessed for note in notes):
        flags = (*flags, COLOURS_GUESSED)
    return flags, pages_not_read
