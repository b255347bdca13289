"""What the running device tells of itself: the status socket and the metrics, from one snapshot.

One rule: taking a snapshot reads and never changes, and costs nothing while nobody asks.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from voicemeet_edge import __version__
from voicemeet_edge.app import Device
from voicemeet_edge.self_test import InUseError, SelfTest
from voicemeet_edge.settings import StatusSettings
from voicemeet_edge.system.board import Board
from voicemeet_edge.system.image_state import read_image_state
from voicemeet_edge.system.machine_health import machine_health
from voicemeet_edge.system.snapshot import Snapshot, as_values, take
from voicemeet_edge.system.status import SOCKET, StatusServer

if TYPE_CHECKING:
    from voicemeet_edge.system.metrics import Metrics


class Telling:
    """Everything that answers questions about one device; made on its loop."""

    def __init__(self, settings: StatusSettings, board: Board, device: Device, self_test: SelfTest) -> None:
        self._settings = settings
        self._board = board
        self._device = device
        self._self_test = self_test
        self._started_at = time.monotonic()
        self._made: Metrics | None = None
        folder = os.environ.get("RUNTIME_DIRECTORY", "")
        # Outside systemd nobody has made a folder for the socket, and nobody would look for it.
        self._server = (
            StatusServer(
                self.snapshot, lambda: self._metrics.text(), Path(folder) / SOCKET.name, test=self._test
            )
            if folder
            else None
        )

    async def start(self) -> None:
        """Begin to answer."""
        if self._server is not None:
            await self._server.start()
        if self._settings.metrics:
            self._metrics.serve(self._settings.metrics)

    async def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            await self._server.close()
        if self._made is not None:
            self._made.close()

    @property
    def _metrics(self) -> Metrics:
        """The metrics, from the first time that somebody asks: their library takes time of the start."""
        from voicemeet_edge.system.metrics import DeviceCollector, Metrics

        if self._made is None:
            self._made = Metrics(DeviceCollector(self.snapshot))
        return self._made

    async def _test(self) -> dict[str, object]:
        """Test now, for whoever asks at the socket."""
        try:
            return (await self._self_test.test()).as_json()
        except InUseError:
            return {"outcome": "busy", "findings": [], "figures": {}}

    def snapshot(self) -> Snapshot:
        """Take the present moment."""
        return take(
            self._board,
            version=__version__,
            name=self._settings.name,
            up_s=time.monotonic() - self._started_at,
            volume=self._device.volume,
            sound=as_values(self._device.engine_stats()),
            line=self._device.media_stats(),
            health=asdict(machine_health()),
            self_test=self._self_test.snapshot(),
            image=None if (image := read_image_state()) is None else asdict(image),
        )
