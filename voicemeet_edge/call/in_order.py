"""What a pure core answers, carried out one command after the other, whoever tells it something meanwhile.

One rule: what follows from a command comes after those that stand already. So nothing is done in the middle
of something else, however deep the call that brought it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

_Command = TypeVar("_Command")


class InOrder(Generic[_Command]):
    """Calls `do` with each command."""

    def __init__(self, do: Callable[[_Command], None]) -> None:
        self._do = do
        self._commands: deque[_Command] = deque()
        self._is_executing = False

    def execute(self, commands: Iterable[_Command]) -> bool:
        """Carry them out and all that follows; False: whoever is at it already does these too."""
        self._commands.extend(commands)
        if self._is_executing:
            return False
        self._is_executing = True
        try:
            while self._commands:
                self._do(self._commands.popleft())
        finally:
            self._is_executing = False
        return True
