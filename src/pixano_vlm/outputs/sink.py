"""What every place for results offers a run. Knows no file and no manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

from pixano_vlm.records.result import Result

Self = TypeVar("Self", bound="Sink")


class Sink(ABC):
    """Where results go. A context manager; leaving it closes the files and keeps all that was written."""

    sidecars_written: int = 0
    """Files that were written beside images."""

    @property
    def full(self) -> bool:
        """True while no further request should be started until those in flight are done."""
        return False

    @property
    def untouched(self) -> bool:
        """True while nothing was written, and what was there before is there still."""
        return False

    @property
    def has_stale(self) -> bool:
        """Whether there are lines that stay until their record has a new answer."""
        return False

    @abstractmethod
    def write(self, result: Result) -> Result:
        """Writes one result at once.

        Returns:
            The result as it was written: an error instead, if the answer cannot be written as JSON.

        Raises:
            RunError: When it cannot be written; every earlier result is safe.
        """

    @abstractmethod
    def finish(self, *, complete: bool) -> None:
        """Makes everything written durable and, if the run is complete, puts it in order.

        Raises:
            RunError: When that fails; every result is safe, in the order it was done.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the files. What was written stays; of a sink that nothing was written to, nothing stays."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
