"""A device whose buttons are lines on standard input and whose signs are JSON lines on standard output.

One rule: it is the real device. Only the panel is a pipe, so that the demo, the benches and the system
tests can press buttons in another process. `python -m voicemeet_edge.demo.child SETTINGS.toml`

In:  call · hold · report · stats · quit
Out: {"event": "state", "state": "talking", "at": 12.3, …}, one object a line; `at` is monotonic seconds,
     one clock for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import Enum
from pathlib import Path

from voicemeet_edge.app import Device
from voicemeet_edge.audio.card import SoundCard
from voicemeet_edge.build import sound_card
from voicemeet_edge.call import observed
from voicemeet_edge.call.commands import WordsKnown
from voicemeet_edge.call.observed import Observed
from voicemeet_edge.call_maker import load_call_parts
from voicemeet_edge.panel.interface import ButtonEvent
from voicemeet_edge.panel.opening import NoPanel
from voicemeet_edge.settings import Settings
from voicemeet_edge.system.logs import set_up_logging
from voicemeet_edge.system.memory import settle_memory
from voicemeet_edge.testing.sound import VirtualCard

_BUTTONS = {
    "call": ButtonEvent.CALL_PRESSED,
    "hold": ButtonEvent.CALL_HELD,
    "report": ButtonEvent.REPORT_PRESSED,
}


class PipePanel(NoPanel):
    """Buttons from lines; the lamp is told by the device's observer."""

    def press(self, button: ButtonEvent) -> None:
        """Press a button."""
        self._queue.put(button)


_NAMES: dict[type[Observed], str] = {
    observed.Started: "started",
    observed.Stopped: "stopped",
    observed.ButtonPressed: "button",
    observed.StateChanged: "state",
    observed.ToneAsked: "tone",
    observed.LampChanged: "lamp",
    observed.FaultChanged: "fault",
    observed.ResetAsked: "reset_asked",
    observed.Tampered: "tampered",
    observed.VolumeChosen: "volume",
    observed.Said: "said",
    observed.DoorOpened: "door",
    observed.Matched: "matched",
    WordsKnown: "words",
    observed.WordsSpoken: "spoken",
    observed.BackendChanged: "backend",
    observed.ConnectionFault: "not_connected",
    observed.GroundMoved: "moved",
    observed.ReportChanged: "report",
    observed.MicrophoneChanged: "microphone",
    observed.LoudspeakerOpened: "loudspeaker",
    observed.FirstAudio: "first_audio",
    observed.SoundLost: "sound_failed",
}


def describe(event: Observed) -> tuple[str, dict[str, object]]:
    """Return an event's name and facts as they stand in its line: `is_up` is up, `at_s` is at."""
    facts: dict[str, object] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        facts[field.name.removeprefix("is_").removesuffix("_s")] = (
            value.value if isinstance(value, Enum) else value
        )
    return _NAMES[type(event)], facts


def show(event: Observed) -> None:
    """Write one event of the device."""
    tell(*describe(event))


def tell(event: str, facts: Mapping[str, object]) -> None:
    """Write one event; a parent that is gone ends us."""
    line = json.dumps({"event": event, "at": time.monotonic(), **facts}, default=str)
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.kill(os.getpid(), signal.SIGTERM)


def census(device: Device, card: SoundCard) -> dict[str, object]:
    """What this process holds, for the tests that look for growth."""
    gc.collect()
    memory = dict(
        line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if ":" in line
    )
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "rss_kb": int(memory["Rss"].split()[0]),
        "anonymous_kb": int(memory["Anonymous"].split()[0]),
        "cpu_s": time.process_time(),
        "engine": asdict(device.engine_stats()),
        "media": device.media_stats(),
        "refused": device.refused(),
        "said_at": [mark.monotonic_s for mark in card.capture_marks] if isinstance(card, VirtualCard) else [],
    }


async def _listen(panel: PipePanel, device: Device, card: SoundCard, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=4096)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            word = line.decode(errors="replace").strip()
            if word in _BUTTONS:
                tell("pressed", {"button": word})
                panel.press(_BUTTONS[word])
            elif word == "stats":
                tell("stats", census(device, card))
            elif word in ("unplug", "replug") and isinstance(card, VirtualCard):
                (card.unplug if word == "unplug" else card.replug)()
            elif word == "quit":
                break
    finally:
        transport.close()
        stop.set()


async def serve(settings: Settings) -> None:
    """Run the device until told to quit, or until the parent is gone."""
    stop = asyncio.Event()
    panel = PipePanel()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    card = sound_card(settings)
    device = Device(settings, panel, card, observe=show)
    load_call_parts()
    settle_memory()
    running = asyncio.create_task(device.run())
    listening = asyncio.create_task(_listen(panel, device, card, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    for task in (running, listening, stopping):
        task.cancel()
    await asyncio.gather(listening, stopping, return_exceptions=True)
    try:
        await running
    except asyncio.CancelledError:
        pass
    finally:
        if isinstance(card, VirtualCard):
            card.close()  # the recording gets its last second


def main() -> None:
    """Run it with the settings file named on the command line."""
    settings = Settings.load(sys.argv[1])
    set_up_logging(settings.log.level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
