"""The device token: fetched when first needed, rotated before it ends, replaced when refused.

One rule: the token lives in RAM only. A device that lost power is a new device to the backend.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.secret import Secret

RENEW_BEFORE_S = 3600.0  # seconds before the end of its life; far more than the longest search


class DeviceTokens:
    """Hand out one valid device token to whoever asks."""

    def __init__(self, backend: Backend, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._clock = clock
        self._token: Secret | None = None
        self._renew_at = 0.0
        self._turn = asyncio.Lock()

    async def get(self) -> Secret:
        """Return a token that will be valid for a while.

        Raises:
            BackendError: as the verb `session`.
        """
        async with self._turn:
            if self._token is None or self._clock() >= self._renew_at:
                reply = await self._backend.session(self._token)
                self._token = reply.device_token
                # A short life (tests, a nervous operator) is renewed at half of it.
                lead = min(RENEW_BEFORE_S, reply.expires_in_s / 2)
                self._renew_at = self._clock() + reply.expires_in_s - lead
            return self._token

    def refuse(self, token: Secret) -> None:
        """Forget a token the backend would not take; the next `get` fetches a new one."""
        if self._token == token:
            self._token = None
