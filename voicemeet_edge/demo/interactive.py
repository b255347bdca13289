"""The demo for a person at a terminal: a hub, its TURN server, a device here and a desk in the browser.

One rule: what it prints is what to do next, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from gpiozero.exc import GPIOZeroError, PinInvalidPin, PinMultiplePins

from voicemeet_edge.app import Device
from voicemeet_edge.audio.devices import list_devices
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.build import sound_card
from voicemeet_edge.call_maker import load_call_parts
from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.speech import write_speech
from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.listening import HubError
from voicemeet_edge.hub.pass_desk import desk_link
from voicemeet_edge.net.addresses import primary_address
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.panel.opening import open_panel
from voicemeet_edge.settings import PanelSettings, Settings

POOL = "frontdesk"
NO_SOUND = "no sound card here: the device says a recording, and what it hears goes into"


async def interactive_demo(port: int, out: Path | None, *, lan: bool = False) -> int:
    """Run until the person presses q; returns the exit status.

    Raises:
        LocalError: it shall be reached from this machine's network, and there is none.
    """
    address = await asyncio.to_thread(primary_address) if lan else ""
    if address is None:
        raise LocalError("this machine is in no network: connect it, or run the demo without LAN=1")
    logging.getLogger("voicemeet_edge").setLevel(logging.ERROR)  # the lamp line is the log here
    directory = out or Path("out") / "demo"
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="voicemeet-demo-") as scratch:
        async with _hub(Path(scratch), port, address) as info:
            settings = await asyncio.to_thread(_settings, info, directory)
            quitting = asyncio.Event()
            _explain(info, settings, directory)
            panel = open_panel(settings.panel, on_quit=quitting.set)
            await asyncio.to_thread(load_call_parts)
            device = Device(settings, panel, sound_card(settings))
            running = asyncio.create_task(device.run())
            stopped = asyncio.create_task(quitting.wait())
            await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            stopped.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    print("goodbye")
    return 0


@contextlib.asynccontextmanager
async def _hub(scratch: Path, port: int, address: str) -> AsyncIterator[HubInfo]:
    """The hub on the port asked for; on a free one when that is taken."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            info = await stack.enter_async_context(_closed_hub(scratch, port, address))
        except HubError:
            print(f"port {port} is taken; using another one")
            info = await stack.enter_async_context(_closed_hub(scratch, 0, address))
        yield info


def _closed_hub(scratch: Path, port: int, address: str) -> contextlib.AbstractAsyncContextManager[HubInfo]:
    """A hub as a building has it: nobody calls or answers without a pass, and here are two."""
    settings = hub_settings(scratch, port=port, open_pools=(), lan_address=address)
    return running_hub(settings, first_pool=POOL)


def _settings(info: HubInfo, directory: Path) -> Settings:
    """The real sound card and the real buttons where there are any, else their doubles."""
    cards = list_devices()
    microphone = next((one.name for one in cards if one.capture), None)
    loudspeaker = next((one.name for one in cards if one.playback), None)
    if microphone is not None and loudspeaker is not None:
        audio: dict[str, object] = {
            "card": "alsa",
            "capture": microphone,
            "playback": loudspeaker,
            "echo": "auto",
        }
    else:
        write_speech(directory / "said.wav", 0)
        audio = {"virtual_in": str(directory / "said.wav"), "virtual_out": str(directory / "heard.wav")}
    table = device_settings(info, LabCall(pool=POOL, role="caller", policy="direct"), audio)
    table["backend"]["pass"] = info.first_passes[Role.CALLER]
    table["ice"] = {"policy": "direct"}  # a browser on this machine is not on its loopback
    table["panel"] = {"factory": "gpiod" if _has_gpio() else "terminal"}
    return Settings.from_dict(table)


def _has_gpio() -> bool:
    """Whether the kernel knows the lines our buttons are wired to."""
    wanted = PanelSettings()
    factory = GpiodFactory()
    try:
        for line in (wanted.call_line, wanted.report_line, *wanted.lamp_lines):
            factory.pin(line)
    except (PinInvalidPin, PinMultiplePins, GPIOZeroError, OSError):
        return False
    finally:
        factory.close()
    return True


def _explain(info: HubInfo, settings: Settings, directory: Path) -> None:
    """Say what runs here and what to do next."""
    relay = f", TURN server on port {info.turn.port}" if info.turn is not None else ""
    audio = settings.audio
    if audio.card == "alsa":
        sound = f"microphone {audio.capture}, loudspeaker {audio.playback}"
    else:
        sound = f"{NO_SOUND} {directory / 'heard.wav'}"
    buttons = "keys of this terminal" if settings.panel.factory == "terminal" else "GPIO lines"
    where = "a browser on this machine"
    if info.pin:
        where = "a browser of this network (it warns of a certificate it does not know: go on)"
    print(
        f"""
  running      hub {info.url}{relay}
  this device  role caller, pool {POOL}; buttons: {buttons}
  sound        {sound}

  1. open the desk page in {where} and press “Go on duty”:
         {desk_link(info.url, info.first_passes[Role.ANSWERER], POOL)}
  2. press c here: the desk rings. Answer there, and talk.
  3. press c again to hang up, r to report, q to quit.
""",
        flush=True,
    )
