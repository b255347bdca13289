"""One call between two processes, whoever the peers are, on the network a profile describes.

One rule: every kind of peer gets the same sound, the same card, the same network and the same ruler.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.call_meter import Usage, Wire, usage, wire
from bench.call_score import OUTAGE_S, Direction, direction, recovery
from voicemeet_edge.demo.lab import LOOPBACK
from voicemeet_edge.demo.remote import LINE_LIMIT, Event, RemoteDevice
from voicemeet_edge.errors import LocalError
from voicemeet_edge.testing.network import ImpairedNetwork, Impairment, unavailable
from voicemeet_edge.testing.stalls import StallWatch

HERE = Path(__file__).parent
SETTLE_S = 4.0  # s after the first sound: tones, the playout's start and the first loss reports are over
TAIL_S = 2.5  # s recorded after the stretch that is judged: the longest delay, and the file's flush
SAMPLE_EVERY_S = 60.0  # s between two looks at a long call
UDP_IP_BYTES = 28  # IPv4 and UDP around each packet

PROFILES: dict[str, Impairment] = {
    "clean": Impairment(),
    "loss1": Impairment(loss=0.01, delay_s=0.02),
    "loss5": Impairment(loss=0.05, delay_s=0.02),
    "loss10": Impairment(loss=0.10, delay_s=0.02),
    "loss20": Impairment(loss=0.20, delay_s=0.02),
    "burst": Impairment(loss=0.05, burst=4, delay_s=0.02),
    "jitter": Impairment(delay_s=0.04, jitter_s=0.02),
    "wifi": Impairment(loss=0.02, delay_s=0.02, jitter_s=0.015),
    "outage": Impairment(delay_s=0.02),
    "narrow60": Impairment(kbit_s=60, queue_s=2.0, delay_s=0.02, keep_order=True),
    "narrow48": Impairment(kbit_s=48, queue_s=0.3, delay_s=0.02, keep_order=True),
    "narrow32": Impairment(kbit_s=32, queue_s=0.3, delay_s=0.02, keep_order=True),
    "narrow24": Impairment(kbit_s=24, queue_s=0.5, delay_s=0.02, keep_order=True),
    "narrow48-loss5": Impairment(kbit_s=48, queue_s=0.3, loss=0.05, delay_s=0.02, keep_order=True),
    "steps": Impairment(kbit_s=300, queue_s=1.0, delay_s=0.02, keep_order=True),
    "ringrtc": Impairment(delay_s=0.02),
    "ringrtc60": Impairment(delay_s=0.06),
    "ringrtc120": Impairment(delay_s=0.12),
    "lte": Impairment(kbit_s=150, queue_s=1.0, wander=0.5, delay_s=0.03),
    "policer": Impairment(police_kbit_s=60, delay_s=0.02),
    "bloat": Impairment(kbit_s=300, queue_s=1.5, delay_s=0.02, keep_order=True, rivals=1),
}


def _ringrtc(wide: Impairment) -> tuple[tuple[float, Impairment], ...]:
    """The run that RingRTC tests itself with; `--seconds 240` makes each part a minute."""
    narrow = Impairment(kbit_s=50, queue_s=0.5, delay_s=wide.delay_s, keep_order=True)
    return (1 / 4, narrow), (2 / 4, replace(narrow, kbit_s=25)), (3 / 4, wide)


# What changes while they talk: (share of the time, what then happens).
CHANGES: dict[str, tuple[tuple[float, Impairment], ...]] = {
    "steps": (
        (1 / 3, Impairment(kbit_s=60, queue_s=1.0, delay_s=0.02, keep_order=True)),
        (2 / 3, PROFILES["steps"]),
    ),
    **{name: _ringrtc(PROFILES[name]) for name in ("ringrtc", "ringrtc60", "ringrtc120")},
}
KINDS = ("ours", "stock", "wrtc")


@dataclass(frozen=True)
class Plan:
    """What to run."""

    kind: str
    profile: str
    seconds: float
    said: dict[str, Path]
    """A WAV for each of a and b."""
    directory: Path
    """Scratch; on tmpfs, for a disk can stall a call by a second."""
    echo: str = "off"
    seed: int = 1
    room: bool = False
    """Whether our microphones hear the loudspeakers beside them."""


@dataclass(frozen=True)
class End:
    """One end of a call, seen from outside."""

    name: str
    cpu_ms_s: float
    samples: tuple[Usage, ...]
    heard: Direction
    """What its loudspeaker played of the other end's speech."""
    sent: Wire
    facts: dict[str, object] = field(default_factory=dict)
    """What the peer says of itself."""

    @property
    def concealed(self) -> float | None:
        """Share of what was played that was made up; None where the peer does not say."""
        share = self.facts.get("concealed")
        return share if isinstance(share, float) else None


@dataclass(frozen=True)
class Run:
    """One whole call."""

    kind: str
    profile: str
    setup_s: float
    """From the offer (ours: the second press) to the first sound at the later end."""
    ends: tuple[End, ...]
    stalls: int
    stalled_s: float
    load: float
    recovery_s: float | None


@dataclass(frozen=True)
class World:
    """Where the ends live: namespaces behind the relay, or this machine's loopback."""

    network: ImpairedNetwork | None

    def prefix(self, node: str) -> list[str]:
        """Words before a command."""
        return self.network.command(node) if self.network is not None else []

    def address(self, node: str) -> str:
        """The node's address."""
        return self.network.address(node) if self.network is not None else LOOPBACK

    def impair(self, impairment: Impairment) -> None:
        """Set what happens between the two ends; the hub stays reachable."""
        if self.network is not None:
            self.network.impair(impairment, source="a", target="b")
            self.network.impair(impairment, source="b", target="a")


@contextlib.contextmanager
def make_world(profile: str, seed: int) -> Iterator[World]:
    """Build namespaces where that may be; else only the clean network can be had."""
    reason = unavailable()
    if reason is None:
        with ImpairedNetwork(("a", "b", "hub"), seed=seed) as network:
            world = World(network)
            world.impair(PROFILES[profile])
            yield world
    elif profile == "clean":
        yield World(None)
    else:
        raise LocalError(f"profile {profile} needs network namespaces: {reason}")


async def run_call(plan: Plan) -> Run:
    """Make one call and measure it."""
    plan.directory.mkdir(parents=True, exist_ok=True)
    with make_world(plan.profile, plan.seed) as world, StallWatch() as stalls:
        async with AsyncExitStack() as stack:
            ends, setup_s = await (_connect_ours if plan.kind == "ours" else _connect_other)(
                plan, world, stack
            )
            await asyncio.sleep(SETTLE_S)
            start_s, samples, load = await _talk(plan, world, ends)
            epoch = time.time() - time.monotonic()
            facts, said_at = await _ask(plan, ends)
            await asyncio.sleep(TAIL_S)
            packets = await asyncio.to_thread(world.network.captured) if world.network is not None else []
        # Every process has ended: the recordings are whole.
        measured = []
        for name, other in (("a", "b"), ("b", "a")):
            first, last = samples[name][0], samples[name][-1]
            heard = await asyncio.to_thread(
                direction,
                plan.said[other],
                said_at[other],
                _heard_file(plan, name),
                start_s,
                plan.seconds,
                stalls,
            )
            sent = wire(packets, world.address(name), first.at_s + epoch, last.at_s + epoch)
            if world.network is None:
                sent = _wire_of(facts[name], last.at_s - start_s + SETTLE_S)
            cpu = (last.cpu_s - first.cpu_s) / (last.at_s - first.at_s) * 1000
            measured.append(End(name, cpu, tuple(samples[name]), heard, sent, facts[name]))
        recovered = None
        if plan.profile == "outage":
            recovered = max(recovery(end.heard.quality.delays_ms, plan.seconds / 2) for end in measured)
        # What comes after is the scoring's own work.
        still = [s for s in stalls.stalls if start_s <= s.start_s <= start_s + plan.seconds + TAIL_S]
        return Run(
            plan.kind,
            plan.profile,
            setup_s,
            tuple(measured),
            len(still),
            sum(s.length_s for s in still),
            load,
            recovered,
        )


async def _talk(
    plan: Plan, world: World, ends: dict[str, RemoteDevice]
) -> tuple[float, dict[str, list[Usage]], float]:
    """Let them talk; look at the processes at both ends of the stretch and each minute between."""
    samples: dict[str, list[Usage]] = {name: [] for name in ends}

    def look() -> None:
        for name, end in ends.items():
            samples[name].append(usage(end.pid))

    look()
    start_s = time.monotonic()
    moments = [SAMPLE_EVERY_S * n for n in range(1, int(plan.seconds / SAMPLE_EVERY_S))] + [plan.seconds]
    changes = [(share * plan.seconds, change) for share, change in CHANGES.get(plan.profile, ())]
    if plan.profile == "outage":
        middle = plan.seconds / 2
        changes = [(middle, Impairment(outage=True)), (middle + OUTAGE_S, PROFILES["outage"])]
    for moment, change in sorted(
        [(m, None) for m in moments] + [(m, c) for m, c in changes], key=lambda pair: pair[0]
    ):
        await asyncio.sleep(max(0.0, start_s + moment - time.monotonic()))
        if change is None:
            look()
        else:
            world.impair(change)
    return start_s, samples, os.getloadavg()[0]


async def _ask(
    plan: Plan, ends: dict[str, RemoteDevice]
) -> tuple[dict[str, dict[str, object]], dict[str, list[float]]]:
    """What each end says of itself, and when its microphone began."""
    facts: dict[str, dict[str, object]] = {}
    said_at: dict[str, list[float]] = {}
    for name, end in ends.items():
        if plan.kind == "ours":
            stats = await end.stats()
            said_at[name] = [float(moment) for moment in stats["said_at"]]
            playout = stats["engine"]["playout"]
            concealed = playout["concealed_samples"] / max(playout["pulled_samples"], 1)
            media = stats["media"] or {}
            facts[name] = {"concealed": concealed, "engine": stats["engine"], "media": media}
        else:
            said_at[name] = [float(e["said_at"]) for e in end.events if e["event"] == "said"]
            facts[name] = {}
    return facts, said_at


def _wire_of(facts: dict[str, object], seconds: float) -> Wire:
    """Without a relay, what the peer counted itself."""
    media = facts.get("media")
    if not isinstance(media, dict):
        return Wire(0.0, ())
    octets = media["bytes_sent"] + UDP_IP_BYTES * media["packets_sent"]
    return Wire(octets * 8 / 1000 / seconds, ())


def _heard_file(plan: Plan, name: str) -> Path:
    return plan.directory / f"heard-by-{name}-{plan.kind}-{plan.profile}.wav"


async def _spawn(argv: list[str], name: str, directory: Path) -> RemoteDevice:
    with (directory / f"{name}.log").open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            limit=LINE_LIMIT,
        )
    return RemoteDevice(process, name)


async def _connect_ours(
    plan: Plan, world: World, stack: AsyncExitStack
) -> tuple[dict[str, RemoteDevice], float]:
    """A hub and two devices of ours, in three processes; both are pressed."""
    hub_at = world.address("hub")
    argv = [
        *world.prefix("hub"),
        sys.executable,
        "-m",
        "bench.call_hub",
        str(plan.directory / "state"),
        hub_at,
    ]
    hub = await _spawn(argv, "hub", plan.directory)
    stack.push_async_callback(hub.stop)
    info = await hub.expect("hub")
    devices: dict[str, RemoteDevice] = {}
    for name in ("a", "b"):
        settings = _device_settings(plan, info, world.address(name), name)
        device = await RemoteDevice.start(settings, plan.directory, name, prefix=world.prefix(name))
        devices[name] = device
        stack.push_async_callback(device.stop)
        await device.expect("backend", up=True)
    await devices["a"].press()
    await devices["a"].expect("lamp", lamp="seeking")
    pressed = await devices["b"].press()
    heard = [float((await device.expect("first_audio"))["at"]) for device in devices.values()]
    return devices, max(heard) - pressed


def _device_settings(plan: Plan, info: Event, address: str, name: str) -> dict[str, dict[str, object]]:
    return {
        "backend": {"url": info["url"], "apikey": info["apikey"], "allow_plaintext": True},
        "call": {"pool": "bench", "role": "either"},
        "ice": {"policy": "direct", "addresses": [address], "ipv6": False},
        "audio": {
            "card": "virtual",
            "echo": plan.echo,
            "volume": 100,
            "virtual_in": str(plan.said[name]),
            "virtual_out": str(_heard_file(plan, name)),
            "virtual_echo": plan.room,
        },
        "panel": {"factory": "none"},
    }


async def _connect_other(
    plan: Plan, world: World, stack: AsyncExitStack
) -> tuple[dict[str, RemoteDevice], float]:
    """Two processes of a peer that is not ours; signaling is instant."""
    program = {
        "stock": [sys.executable, "-m", "bench.call_stock"],
        "wrtc": ["node", str(HERE / "call_wrtc.mjs")],
    }[plan.kind]
    ends: dict[str, RemoteDevice] = {}
    for name in ("a", "b"):
        argv = [*world.prefix(name), *program, str(plan.said[name]), str(_heard_file(plan, name))]
        ends[name] = await _spawn(argv, name, plan.directory)
        stack.push_async_callback(ends[name].stop)
    began = time.monotonic()
    await ends["a"].tell(json.dumps({"do": "offer"}))
    offer = (await ends["a"].expect("sdp"))["sdp"]
    await ends["b"].tell(json.dumps({"do": "answer", "sdp": offer}))
    answer = (await ends["b"].expect("sdp"))["sdp"]
    await ends["a"].tell(json.dumps({"do": "accept", "sdp": answer}))
    heard = [float((await end.expect("first_audio"))["at"]) for end in ends.values()]
    return ends, max(heard) - began
