"""What every place for results offers a job. Knows no file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

from pixano_vlm.records.request import Request, Result

Self = TypeVar("Self", bound="Outputs")


class Outputs(ABC):
    """Where results go. A context manager; leaving it closes the files and keeps all that was written."""

    reused: int = 0
    """Records whose answer was there already."""
    reused_failed: int = 0
    """Records whose error was there already and is not tried again."""
    there: int = 0
    """Records that `requests` left out because their answer was found elsewhere."""
    beside: int = 0
    """Files that were written beside pictures."""
    to_do: int | None = None
    """Records that are still to be done; None when nobody has counted them."""

    @property
    def full(self) -> bool:
        """True while no further request should be started until those in flight are done."""
        return False

    @abstractmethod
    def requests(self) -> Iterator[Request]:
        """The manifest's requests that are still to be done, lazily, in order."""

    @abstractmethod
    def write(self, result: Result) -> Result:
        """Writes one result at once.

        Returns:
            The result as it was written: an error in its place, if the answer cannot be written as JSON.

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
        """Closes the files. What was written stays."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
