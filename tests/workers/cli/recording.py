"""A display that keeps what it was shown, and lets a test wait for it."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from workers.cli.sights import Sight

_PATIENCE_S = 30.0


class RecordingDisplay:
    """Keeps every sight and sentence."""

    def __init__(self) -> None:
        self.sights: list[Sight] = []
        self.told: list[str] = []
        self._changed = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""

    def update(self, sight: Sight) -> None:
        self.sights.append(sight)
        self._changed.set()

    def tell(self, text: str) -> None:
        self.told.append(text)
        self._changed.set()

    async def until(self, holds: Callable[[Self], bool]) -> None:
        """Return once ``holds``."""
        async with asyncio.timeout(_PATIENCE_S):
            while not holds(self):
                self._changed.clear()
                await self._changed.wait()

    def has_told(self, words: str) -> bool:
        return any(words in text for text in self.told)
