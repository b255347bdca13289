"""Ringing all desks, with real processes: `python -m bench.ringing [--desks 20] [--races 50]`.

A hub, a door and some desks that answer, each device a process of its own, on loopback. First: from the press
at the door to the ring at each of many desks (sessions in one process: a machine has no room for 20 devices).
Then races: in each round three desks ring, two of them are answered in the same instant, and in every fifth
round the one that was first is killed at once. How many calls come of each press is counted: it must be one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.commands import Tell
from voicemeet_edge.call.machine import Event
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.search import Search, SearchTarget
from voicemeet_edge.call.session import CallSession, News, SessionParts
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.demo.lab import LOOPBACK, LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import RemoteDevice
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.signaling.sealed import NoSeal
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.testing.stalls import StallWatch
from voicemeet_edge.testing.waiting import until
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.peer import new_certificate

POOL = "lab"
PRESSES = 10  # of the first series
APART_S = 3.0  # s between them: one socket says some hundred words to 20 desks, and the hub counts them
BUDGET_MS = 150
DESKS = 3  # of the races
KILLED_EVERY = 5  # rounds


@dataclass
class LightDesk:
    """A desk that rings and never answers: all of the signaling, none of the sound."""

    backend: Backend
    socket: RealtimeSocket
    tokens: DeviceTokens  # one for all rounds: no ticket finds the same desk twice
    rang_at: float | None = None

    async def round(self) -> None:
        """Wait for one call, ring until it is over."""
        search = Search(self.backend, self.tokens, self.socket, SearchTarget(POOL, Role.ANSWERER))
        matched = await search.find()
        options = PeerOptions(policy=IcePolicy.DIRECT, addresses=(LOOPBACK,), ipv6=False)
        parts = SessionParts(self.backend, self.socket, NoSeal(), options, new_certificate(), bytes(100))
        session = CallSession(
            matched, Kind.CALLED, parts, on_news=lambda news: self.news(session, news), on_rtp=lambda _: None
        )
        await session.run()

    def news(self, session: CallSession, news: News) -> None:
        """Note when it rang; end with the caller."""
        if not isinstance(news, Tell):
            return
        if news.event is Event.MATCHED_CALLED:
            self.rang_at = time.monotonic()
        elif news.event in (Event.PEER_BYE, Event.FAILED):
            session.end(news.reason)


@dataclass
class Races:
    """What the rounds came to."""

    calls: list[int] = field(default_factory=list)
    killed: int = 0
    talk_ms: list[float] = field(default_factory=list)


async def light_desk(info: HubInfo, stack: AsyncExitStack) -> LightDesk:
    """Make one that is connected."""
    backend, socket = Backend(info.url, info.apikey), RealtimeSocket(info.url, info.apikey)
    stack.push_async_callback(backend.close)
    serving = asyncio.create_task(socket.run())

    async def stop() -> None:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    stack.push_async_callback(stop)
    return LightDesk(backend, socket, DeviceTokens(backend))


async def press_to_ring(directory: Path, count: int) -> tuple[list[float], int]:
    """Return, for each press, the milliseconds to each ring; and how many presses a stall spoiled."""
    times: list[float] = []
    stalled = 0
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(running_hub(hub_settings(directory, turn="off")))
        desks = [await light_desk(info, stack) for _ in range(count)]
        table = device_settings(info, LabCall(POOL, "caller", "direct"), {})
        door = await RemoteDevice.start(table, directory, "door")
        stack.push_async_callback(door.stop)
        await door.expect("backend", up=True)
        for _ in range(PRESSES):
            rounds = [asyncio.create_task(desk.round()) for desk in desks]
            await until(lambda: info.waiting() == count)
            with StallWatch() as stalls:
                pressed = await door.press()
                await until(lambda: all(desk.rang_at is not None for desk in desks))
            if stalls.longest_s > 0.05:
                stalled += 1
            else:
                times += [(desk.rang_at - pressed) * 1000 for desk in desks if desk.rang_at is not None]
            await door.press()
            await asyncio.gather(*rounds)
            for desk in desks:
                desk.rang_at = None
            await until(lambda: info.waiting() == 0)
            await asyncio.sleep(APART_S)
    return times, stalled


async def races(directory: Path, rounds: int, say: Callable[[str], object]) -> Races:
    """Let two desks answer in the same instant, again and again."""
    result = Races()
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(running_hub(hub_settings(directory, turn="off")))

        async def start(name: str, role: str) -> RemoteDevice:
            table = device_settings(info, LabCall(POOL, role, "direct"), {"virtual_in": "speech"})
            device = await RemoteDevice.start(table, directory, name)
            stack.push_async_callback(device.stop)
            await device.expect("backend", up=True)
            return device

        door = await start("door", "caller")
        desks = [await start(f"desk{number}", "answerer") for number in range(DESKS)]
        for number in range(rounds):
            await until(lambda: info.waiting() == DESKS)
            await one_race(number, door, desks, result)
            if number % KILLED_EVERY == KILLED_EVERY - 1:
                desks = [
                    desk if not desk.has_ended else await start(f"desk{number} {place}", "answerer")
                    for place, desk in enumerate(desks)
                ]
            if number % 10 == 9:
                say(f"  {number + 1} of {rounds} races")
    return result


async def one_race(number: int, door: RemoteDevice, desks: list[RemoteDevice], result: Races) -> None:
    """One press at the door, two answers at once."""
    await door.press()
    for desk in desks:
        await until(lambda desk=desk: last_state(desk) == "ringing")  # type: ignore[misc]
    first, second = desks[number % DESKS], desks[(number + 1) % DESKS]
    answered = time.monotonic()
    await asyncio.gather(first.tell("call"), second.tell("call"))
    if number % KILLED_EVERY == KILLED_EVERY - 1:
        first.kill()
        result.killed += 1
        # Either it was too late and the call is the other's, or the door rings again and the third is free.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(answer_again([desk for desk in desks if desk is not first], door), 30)
    await door.state("talking")
    result.talk_ms.append((time.monotonic() - answered) * 1000)
    living = [desk for desk in desks if not desk.has_ended]
    await until(lambda: sum(map(has_call, living)) > 0)
    talking = [desk for desk in living if has_call(desk)]
    result.calls.append(len(talking))
    await door.press()
    await door.state("idle")
    for desk in living:
        await until(lambda desk=desk: last_state(desk) == "idle")  # type: ignore[misc]


async def answer_again(desks: list[RemoteDevice], door: RemoteDevice) -> None:
    """Answer whatever rings until the door talks."""
    while last_state(door) != "talking":
        for desk in desks:
            if last_state(desk) == "ringing":
                await desk.tell("call")
        await asyncio.sleep(0.5)


def last_state(device: RemoteDevice) -> str:
    """What its call machine said last."""
    with contextlib.suppress(KeyError):
        return str(device.last("state")["state"])
    return "idle"


def has_call(desk: RemoteDevice) -> bool:
    """Whether it is in the call, or about to be."""
    return last_state(desk) in ("talking", "reconnecting")


def main(arguments: list[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Run both and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--desks", type=int, default=20, help="desks of the first series (default: 20)")
    parser.add_argument("--races", type=int, default=50, help="rounds of the second (default: 50)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        if options.desks:
            times, stalled = asyncio.run(press_to_ring(Path(directory) / "ring", options.desks))
            spread = np.quantile(np.array(times), (0.5, 0.95, 1.0))
            say(
                f"press to ring, {options.desks} desks: median {spread[0]:.0f} ms, p95 {spread[1]:.0f} ms, "
                f"last {spread[2]:.0f} ms; budget {BUDGET_MS} ms; {stalled} of {PRESSES} left out for stalls"
            )
        if not options.races:
            return 0
        result = asyncio.run(races(Path(directory) / "races", options.races, say))
    once = result.calls.count(1)
    say(
        f"races: {once} of {len(result.calls)} presses made exactly one call; in {result.killed} the first "
        f"to answer was killed; answer to talk, median {np.median(result.talk_ms):.0f} ms"
    )
    return 0 if once == len(result.calls) else 1


if __name__ == "__main__":
    sys.exit(main())
