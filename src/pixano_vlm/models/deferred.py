"""Requests that are read where they are answered, so that no process reads what all of them hold.

An engine with several processes may be one that takes them. Knows no source and no engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from pixano_vlm.errors import VLMError
from pixano_vlm.models.vlm import VLMInput, VLMOutput

__all__ = ["Deferred", "DeferredReader", "TakesDeferred"]


@dataclass(frozen=True, slots=True)
class Deferred:
    """Where a request is."""

    part: int
    """The part of the source, such as a file, from 0. Those of one part are cheapest together, in their order."""
    number: int
    """Its place in that part, from 0."""


class DeferredReader(ABC):
    """Reads deferred requests in another process, to which it is sent, and says there what their answers come to."""

    @abstractmethod
    def read(self, key: Hashable, deferred: Deferred) -> VLMInput | None:
        """The request, which is kept under `key` until `conclude`; None: it has an error, and nothing is to be asked.

        Raises:
            ManifestError: When its part cannot be read.
        """

    @abstractmethod
    def conclude(self, key: Hashable, answer: VLMOutput | VLMError | None) -> Any:
        """What whoever reads the stream gets under `key`, instead of an output or an error."""


class TakesDeferred(ABC):
    """A model whose `stream` takes `Deferred` instead of inputs."""

    @property
    @abstractmethod
    def parts_at_once(self) -> int:
        """From how many parts it answers at the same time."""

    @abstractmethod
    def read_with(self, reader: DeferredReader | None) -> None:
        """Says what reads the deferred requests of the next streams."""
