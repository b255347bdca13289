"""Has a token before somebody presses: a pass that is refused is said now, not to a visitor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.errors import BackendError
from voicemeet_edge.not_connected import REFUSALS, NotConnected

logger = logging.getLogger(__name__)

AGAIN_S = 30.0  # s until a hub that refuses our pass is asked again: somebody may mend it meanwhile


class Enrolled:
    """Asks until cancelled; `refusal` is why the hub gives us no token, None while it does."""

    def __init__(self, tokens: DeviceTokens, changed: Callable[[], None]) -> None:
        self._tokens = tokens
        self._changed = changed
        self.refusal: NotConnected | None = None

    async def run(self) -> None:
        """Ask for ever, and tell each change."""
        while True:
            try:
                await self._tokens.get()
                refusal = None
            except BackendError as error:
                reason = NotConnected.of(error.code)
                # A refusal stands until the hub takes the pass: a lost line mends none.
                refusal = reason if reason in REFUSALS else self.refusal
            if refusal is not self.refusal:
                self.refusal = refusal
                if refusal is not None:
                    logger.warning("out of order: %s", refusal.sentence)
                self._changed()
            await asyncio.sleep(AGAIN_S)
