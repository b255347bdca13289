"""A whole call between two devices, without a person: made, recorded, judged, drawn, told.

One rule: the verdict is about speech. Bytes that arrive prove nothing; the words have to.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from voicemeet_edge.audio.wav import read_wav
from voicemeet_edge.demo.judge import Recording, judge
from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import Event, RemoteDevice
from voicemeet_edge.demo.result import Direction, Result, table, wire_kilobits
from voicemeet_edge.demo.speech import write_speech
from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.app import running_hub
from voicemeet_edge.records import dataclass

SETTLE_S = 1.0  # s at the start that are not judged: the tone for "connected" sounds over them
MIN_SECONDS = 4.0  # a shorter call has too few segments to be sure


@dataclass(frozen=True)
class HeadlessOptions:
    """What the person asked for."""

    speech: Path | None = None
    out: Path | None = None
    seconds: float = 8.0
    relay: bool = True


def _print(text: str) -> None:
    print(text, flush=True)


async def headless_call(options: HeadlessOptions) -> int:
    """Make the call; returns the exit status: 0 when the speech arrived both ways."""
    if options.seconds < MIN_SECONDS:
        raise LocalError(f"--seconds must be at least {MIN_SECONDS:.0f}")
    out = options.out or Path("out") / "demo"
    await asyncio.to_thread(out.mkdir, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="voicemeet-demo-") as scratch:
        said = await asyncio.to_thread(_prepare_speech, options.speech, Path(scratch))
        result = await _call(options, Path(scratch), out, said)
        _print("")
        _print(table(result))
        picture = out / "call.png"
        await asyncio.to_thread(_draw, picture, result, said, out)
    _print(f"\nrecordings: {out / 'heard-by-a.wav'}, {out / 'heard-by-b.wav'}\npicture:    {picture}")
    _print("the speech arrived both ways" if result.arrived else "THE SPEECH DID NOT ARRIVE")
    return 0 if result.arrived else 1


def _draw(picture: Path, result: Result, said: dict[str, Path], out: Path) -> None:
    # Loading the plot library takes a second: after the call, never during it.
    from voicemeet_edge.demo.picture import draw

    draw(picture, result, said, out)


def _prepare_speech(given: Path | None, scratch: Path) -> dict[str, Path]:
    said = {name: scratch / f"said-by-{name}.wav" for name in ("a", "b")}
    write_speech(said["a"], 0, given)
    write_speech(said["b"], 1)
    return said


async def _call(options: HeadlessOptions, scratch: Path, out: Path, said: dict[str, Path]) -> Result:
    how = LabCall(policy="relay" if options.relay else "direct")
    async with AsyncExitStack() as stack:
        _print("starting the hub and its TURN server …")
        info = await stack.enter_async_context(running_hub(hub_settings(scratch)))
        _print(f"  hub {info.url}" + (f", TURN on port {info.turn.port}" if info.turn else ""))
        devices: dict[str, RemoteDevice] = {}
        _print("starting two devices …")
        for name in ("a", "b"):
            heard = out / f"heard-by-{name}.wav"
            settings = device_settings(info, how, {"virtual_in": str(said[name]), "virtual_out": str(heard)})
            device = devices[name] = await RemoteDevice.start(settings, scratch, name)
            stack.push_async_callback(device.stop)
        for device in devices.values():
            await device.expect("backend", up=True)
        first, second = devices["b"], devices["a"]
        _print("  one presses call and waits; the other presses call …")
        await first.press()
        await first.expect("lamp", lamp="seeking")
        await asyncio.sleep(0.5)  # a person: the wait topic is joined meanwhile
        pressed = await second.press()
        heard_at = {name: (await device.expect("first_audio"))["at"] for name, device in devices.items()}
        words = await second.expect("words")
        _print(
            f"  talking for {options.seconds:.0f} s "
            f"{'through the TURN server' if options.relay else 'directly'} …"
        )
        start = max(heard_at.values()) + SETTLE_S
        await asyncio.sleep(SETTLE_S + options.seconds)
        stats = {"a": await second.stats()}
        await asyncio.sleep(0.1)  # what the first had sent by then has arrived at the other
        stats["b"] = await first.stats()
        await asyncio.sleep(0.1)
        again = await second.stats()
        end = float(stats["b"]["at"])
        first.mark()
        await second.press()
        await first.state("idle")
        await second.expect("state", state="idle")
    _print("judging what was heard …")
    lost = {"b": _loss(stats["a"], stats["b"]), "a": _loss(stats["b"], again)}
    directions = await asyncio.to_thread(_judge, said, out, stats, (start, end), lost, heard_at, pressed)
    media = stats["a"]["media"]
    return Result(directions, media["local_kind"], media["srtp_profile"], " ".join(words["words"]))


def _loss(sender: Event, receiver: Event) -> float:
    """Share of the packets that never came; the receiver was asked later, so none was on its way."""
    sent = int(sender["media"]["packets_sent"])
    return max(0.0, 1.0 - int(receiver["media"]["packets_received"]) / sent) if sent else 1.0


def _judge(
    said: dict[str, Path],
    out: Path,
    stats: dict[str, Event],
    span: tuple[float, float],
    lost: dict[str, float],
    heard_at: dict[str, float],
    pressed: float,
) -> tuple[Direction, ...]:
    directions = []
    for mouth, ear in (("a", "b"), ("b", "a")):
        said_at = float(stats[mouth]["said_at"][-1])
        heard = Recording.load(out / f"heard-by-{ear}.wav")
        verdict = judge(read_wav(said[mouth]), said_at, heard, *span)
        talked_s = float(stats[mouth]["at"]) - heard_at[ear]
        kilobits = wire_kilobits(stats[mouth]["media"], talked_s)
        directions.append(
            Direction(f"{mouth} to {ear}", verdict, said_at, heard_at[ear] - pressed, lost[ear], kilobits)
        )
    return tuple(directions)
