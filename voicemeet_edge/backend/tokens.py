"""The device token: fetched when first needed, rotated before it ends, replaced when refused.

One rule: the token lives in RAM only. A device that lost power is a new device to the backend.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.secret import Secret

LEAD_JITTER = 1.5
RENEW_BEFORE_S = 3600.0  # s before the end of its life; far more than the longest search


class DeviceTokens:
    """Hand out one valid device token to whoever asks."""

    def __init__(
        self,
        backend: Backend,
        *,
        shown_pass: Secret | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the pass that every token is to be enrolled with, if there is one."""
        self._backend = backend
        self._pass = shown_pass or None
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
                reply = await self._backend.session(self._token, shown_pass=self._pass)
                self._token = reply.device_token
                # A short life (tests, a nervous operator) is renewed at half of it. A building's devices were
                # switched on together and must not all come back in one moment of the next day.
                lead = min(RENEW_BEFORE_S, reply.expires_in_s / 2) * random.uniform(1.0, LEAD_JITTER)
                self._renew_at = self._clock() + reply.expires_in_s - lead
            return self._token

    @property
    def current(self) -> Secret | None:
        """The token at hand, without asking for one."""
        return self._token

    def refuse(self, token: Secret) -> None:
        """Forget a token the backend would not take; the next `get` fetches a new one."""
        if self._token == token:
            self._token = None
