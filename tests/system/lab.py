"""A hub, coturn and devices in processes of their own, for the tests of the whole system.

One rule: a test waits for what a person would see or hear; the limits only end a test that hangs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from voicemeet_edge.audio.wav import read_wav, write_wav
from voicemeet_edge.demo.judge import Judgement, Recording, judge
from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import Event, RemoteDevice
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.settings import HubSettings, Provider
from voicemeet_edge.testing.signals import speech_like

SPEECH_S = 12.0  # s before a voice repeats
WINDOW_S = 5.0  # s of the call that are judged at once
FLUSHED_S = 1.5  # s until what was played is in the recording's file
MAX_WINDOWS = 8  # a machine that stalls in each of so many has no voice to offer
PITCH_HZ = {"a": 120.0, "b": 190.0}


@dataclass
class Lab:
    """What a test starts; everything ends with it."""

    directory: Path
    stack: AsyncExitStack
    settings: HubSettings
    info: HubInfo | None = None
    devices: dict[str, RemoteDevice] = field(default_factory=dict)
    _hub: AsyncExitStack | None = None

    @classmethod
    def make(cls, directory: Path, stack: AsyncExitStack, *, turn: Provider = "off") -> Lab:
        """Prepare a hub, with coturn when asked; nothing runs yet."""
        return cls(directory, stack, hub_settings(directory, turn=turn))

    async def start_hub(self) -> HubInfo:
        """Start the hub, or start it again as the same one."""
        self._hub = AsyncExitStack()
        self.info = await self._hub.enter_async_context(running_hub(self.settings))
        http = replace(self.settings.http, port=self.info.port)
        self.settings = replace(self.settings, http=http)
        return self.info

    def waiting(self) -> int:
        """How many tickets wait at the hub."""
        assert self.info is not None
        return self.info.waiting()

    async def stop_hub(self) -> None:
        """Stop the hub; idempotent."""
        hub, self._hub = self._hub, None
        if hub is not None:
            await hub.aclose()

    async def device(
        self,
        name: str,
        call: LabCall = LabCall(policy="direct"),  # noqa: B008 - frozen
        *,
        audio: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        node: tuple[list[str], str] | None = None,
        rules: Mapping[str, object] | None = None,
    ) -> RemoteDevice:
        """Start a device and wait until it reaches the hub.

        `node` is the command prefix and address of a network namespace, `rules` are keys of [call].
        """
        assert self.info is not None
        sound = {"virtual_in": str(self.said(name)), "virtual_out": str(self.heard(name))}
        table = device_settings(self.info, call, sound if audio is None else audio)
        table["call"].update(rules or {})
        prefix: list[str] = []
        if node is not None:
            prefix, address = node
            table["backend"]["allow_plaintext"] = True
            table["ice"]["addresses"] = [address]
        if not self.said(name).exists():
            await asyncio.to_thread(self._write_speech, name)
        device = await RemoteDevice.start(table, self.directory, name, prefix=prefix, environment=environment)
        self.devices[name] = device
        self.stack.push_async_callback(device.stop)
        await device.expect("backend", up=True)
        return device

    def said(self, name: str) -> Path:
        """What a device's microphone hears."""
        return self.directory / f"said-by-{name}.wav"

    def heard(self, name: str) -> Path:
        """What a device's loudspeaker played."""
        return self.directory / f"heard-by-{name}.wav"

    def log(self, name: str) -> str:
        """What a device wrote down."""
        return (self.directory / f"{name}.log").read_text()

    def _write_speech(self, name: str) -> None:
        pitch_hz = PITCH_HZ.get(name, 150.0)
        write_wav(self.said(name), speech_like(SPEECH_S, seed=ord(name[0]), pitch_hz=pitch_hz))

    async def both_hear(self, one: RemoteDevice, other: RemoteDevice) -> None:
        """Wait until the speech of each is heard at the other; one stall of the machine is forgiven."""
        verdicts: list[Judgement] = []
        for _ in range(MAX_WINDOWS):
            start = time.monotonic()
            await asyncio.sleep(WINDOW_S + FLUSHED_S)
            verdicts = [
                await self._judge(mouth, ear, start, start + WINDOW_S)
                for mouth, ear in ((one, other), (other, one))
            ]
            if all(verdict.arrived for verdict in verdicts):
                return
        raise AssertionError(f"heard of what was said: {[verdict.share for verdict in verdicts]}")

    async def _judge(self, mouth: RemoteDevice, ear: RemoteDevice, start: float, end: float) -> Judgement:
        said_at = float((await mouth.stats())["said_at"][-1])
        return await asyncio.to_thread(self._judge_files, mouth.name, ear.name, said_at, start, end)

    def _judge_files(self, mouth: str, ear: str, said_at: float, start: float, end: float) -> Judgement:
        try:
            heard = Recording.load(self.heard(ear))
        except (json.JSONDecodeError, EOFError):  # read in the middle of being written
            return Judgement(())
        return judge(read_wav(self.said(mouth)), said_at, heard, start, end)


async def meet(one: RemoteDevice, other: RemoteDevice, *, timeout_s: float = 30.0) -> None:
    """Press call on both and wait until each hears the other."""
    await one.press()
    await other.press()
    for device in (one, other):
        await device.state("talking", timeout_s)
        await device.expect("first_audio", timeout_s)


async def ended(device: RemoteDevice, reason: str, timeout_s: float = 30.0) -> Event:
    """Wait until the call has ended for this reason and the device is ready again."""
    event = await device.expect("state", timeout_s, state="ended")
    assert event["reason"] == reason, event
    await device.state("idle")
    return event


def events(device: RemoteDevice, name: str, **facts: object) -> list[Event]:
    """All events so far with this name and these facts."""
    return [
        event
        for event in device.events
        if event["event"] == name and all(event.get(key) == fact for key, fact in facts.items())
    ]


__all__ = ["Lab", "LabCall", "ended", "events", "meet"]
