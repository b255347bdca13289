"""The device tells its hub how it is, for the operator's page; only where the settings ask for it.

One rule: nothing about calls goes out, and the token it goes with takes no part in any: the hub cannot tell
from it which box called.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.errors import BackendError
from voicemeet_edge.fleet_seal import seal
from voicemeet_edge.settings import BackendSettings
from voicemeet_edge.system.snapshot import Snapshot

logger = logging.getLogger(__name__)

EVERY_S = 900.0  # s; the hub forgets after three days
FIRST_S = 45.0  # s after the start: behind the first self-test
HEALTH = ("temperature_c", "disk_free_mb", "memory_mb")


class HealthReport:
    """Tell it, again and again.

    Args:
        settings: where the hub is.
        snapshot: what the device is doing; only some of it is told.
        fleet_key: for whom it is sealed; "" for nobody.
    """

    def __init__(
        self, settings: BackendSettings, snapshot: Callable[[], Snapshot], fleet_key: str = ""
    ) -> None:
        self._fleet_key = fleet_key
        self._settings = settings
        self._snapshot = snapshot
        tls = tls_context(settings.tls_pin) if settings.url.startswith("https") else None
        self._backend = Backend(settings.url, settings.apikey, tls=tls)
        self._tokens = DeviceTokens(self._backend, shown_pass=settings.pass_)
        self._refused = False

    async def run(self) -> None:
        """Tell it until cancelled; who does not want to hear it is asked again at the next time."""
        try:
            await asyncio.sleep(FIRST_S)
            while True:
                await self.tell()
                await asyncio.sleep(EVERY_S * random.uniform(0.8, 1.2))
        finally:
            await self.close()

    async def close(self) -> None:
        """Let the connections go."""
        await self._backend.close()

    async def tell(self) -> bool:
        """Tell it once; returns whether the hub took it."""
        token = None
        try:
            token = await self._tokens.get()
            snapshot = self._snapshot()
            health = health_of(box_of(self._settings, snapshot["name"]), snapshot)
            if self._fleet_key:
                health = sealed_for(self._fleet_key, health, time.time())
            await self._backend.tell_health(token, health)
        except BackendError as error:
            logger.debug("the hub was not told of our health: %s", error.code)
            if token is not None and error.status == 401:
                self._tokens.refuse(token)  # the hub's keys were changed
            elif token is not None and 400 <= error.status < 500 and not self._refused:
                logger.warning("the hub does not take our health (%s): has the device a pass?", error.code)
                self._refused = True
            return False
        self._refused = False
        return True


def box_of(settings: BackendSettings, name: str) -> str:
    """Return the same word for the same box at each start; it tells nobody the pass it is made of."""
    text = f"voicemeet-edge box\n{settings.pass_.reveal()}\n{name}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def health_of(device: str, snapshot: Snapshot) -> dict[str, object]:
    """Return what is told of a moment: no state, no counts, nothing that says that somebody called."""
    test: Mapping[str, Any] | None = snapshot["self_test"]
    health = {key: snapshot["health"].get(key) for key in HEALTH}
    faults = list(snapshot["faults"])
    if snapshot["health"].get("undervoltage"):
        faults.append("power")
    return {
        "device": device,
        "name": snapshot["name"],
        "version": snapshot["version"],
        "up_s": round(snapshot["up_s"]),
        "faults": faults[:8],
        **{key: value for key, value in health.items() if value is not None},
        **({} if test is None else {"self_test": test["outcome"], "self_test_age_s": round(test["age_s"])}),
    }


def sealed_for(fleet_key: str, health: Mapping[str, object], unix: float) -> dict[str, object]:
    """Return what the hub gets instead: the box's word, and all else sealed, with the time it was said.

    With the time the operator sees whether the hub shows him what a box said long ago.
    """
    device = str(health["device"])
    told = {name: value for name, value in health.items() if name != "device"}
    return {"device": device, "sealed": seal(fleet_key, device, {**told, "at": round(unix)})}
