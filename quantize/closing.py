"""What holds something of the system until it is closed, usable in a `with` statement.

Knows nothing of what is held.
"""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """A context manager that closes at the end."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held; nothing may be used after it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()
