"""What every attack needs: a real hub with its coturn, two real devices, and somebody to attack them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from voicemeet_edge.demo.lab import LabCall, device_settings
from voicemeet_edge.demo.remote import Event, RemoteDevice, to_toml
from voicemeet_edge.hub.app import HubInfo
from voicemeet_edge.hub.secrets import HubSecrets, load_or_make_secrets
from voicemeet_edge.hub.turn.provider import TurnAddress
from voicemeet_edge.secret import Secret
from voicemeet_edge.testing.hostile import HostileCarrier

WAIT_S = 40.0  # s, a limit: the machine may stand still
START_S = 30.0  # s for a hub to answer
_pools = itertools.count()

WIDE_LIMITS = {
    **dict.fromkeys(("address_per_s", "session_per_s", "device_per_s", "known_per_s"), 1000.0),
    **dict.fromkeys(("address_burst", "session_burst", "device_burst", "known_burst"), 10_000.0),
    "address_calls": 1000,
}


@dataclass(frozen=True)
class Hub:
    """A hub process and what somebody who broke into its machine would find."""

    url: str
    apikey: Secret
    state_dir: Path
    log: Path
    pid: int

    @property
    def secrets(self) -> HubSecrets:
        """What only the hub knows."""
        return load_or_make_secrets(self.state_dir)

    @property
    def turn(self) -> TurnAddress:
        """Where its coturn listens."""
        text = (self.state_dir / "turnserver.conf").read_text()
        host, port = (re.search(rf"^{key}=(.*)$", text, re.M) for key in ("listening-ip", "listening-port"))
        assert host is not None
        assert port is not None
        return TurnAddress(host[1], int(port[1]))

    def info(self, url: str = "") -> HubInfo:
        """What a device's settings are made from; `url` names a carrier in between."""
        return HubInfo(url or self.url, self.apikey, "", 0, None)


@contextmanager
def hub_process(
    directory: Path, address: str = "127.0.0.1", prefix: Sequence[str] = (), **turn: object
) -> Iterator[Hub]:
    """Run `voicemeet-edge hub` with its coturn."""
    state_dir, config, log = directory / "hub", directory / "hub.toml", directory / "hub.log"
    relay = {"provider": "coturn", "port": 0, "listen": [address], "relay_address": address}
    settings: dict[str, dict[str, object]] = {
        "http": {"listen": [address], "port": 0, "tls": "off", "allow_plaintext": True},
        "match": {"avoid_repeat_s": 0.0, "open_pools": ["*"]},
        "turn": {**relay, **turn},
        "limits": dict(WIDE_LIMITS),
    }
    config.write_text(f'state_dir = "{state_dir}"\n' + to_toml(settings))
    command = [*prefix, sys.executable, "-m", "voicemeet_edge", "hub", "--device-settings"]
    command += ["--config", str(config)]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            text = read_until(process, "role =")
            url, key = re.search(r'url = "(.*)"', text), re.search(r'apikey = "(.*)"', text)
            assert url is not None, log.read_text()
            assert key is not None
            yield Hub(url[1], Secret(key[1]), state_dir, log, process.pid)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Return what a process printed until this word came, or until it is too late."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    text, deadline = "", time.monotonic() + START_S
    while word not in text and time.monotonic() < deadline and process.poll() is None:
        if select.select([process.stdout], [], [], 0.2)[0]:
            text += process.stdout.read() or ""
    return text


def new_key() -> str:
    """Make an intercom key."""
    return base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()


@dataclass
class Pair:
    """Two devices."""

    first: RemoteDevice
    second: RemoteDevice
    carrier: HostileCarrier | None = None
    logs: list[Path] = field(default_factory=list)

    @property
    def both(self) -> tuple[RemoteDevice, RemoteDevice]:
        """Both."""
        return self.first, self.second

    async def press(self) -> None:
        """Somebody presses here and somebody there."""
        await asyncio.gather(*(device.press() for device in self.both))

    async def call(self) -> None:
        """Make a call and wait until both hear each other."""
        await self.press()
        await self.expect("first_audio")

    async def expect(self, event: str, **facts: object) -> tuple[Event, Event]:
        """Wait for it on both ends."""
        first, second = await asyncio.gather(*(one.expect(event, WAIT_S, **facts) for one in self.both))
        return first, second

    async def hang_up(self) -> None:
        """End the call and wait until both are ready again."""
        self.second.mark()
        await self.first.press()
        await asyncio.gather(*(device.state("idle", WAIT_S) for device in self.both))

    def offerer(self) -> tuple[RemoteDevice, RemoteDevice]:
        """The one that offers, and the other one; known once they were matched."""
        is_first = any(event["event"] == "matched" and event["offerer"] for event in self.first.events)
        return self.both if is_first else (self.second, self.first)


def happened(device: RemoteDevice, event: str, **facts: object) -> bool:
    """Say whether a device ever told this."""
    return any(
        seen.get("event") == event and all(seen.get(key) == value for key, value in facts.items())
        for seen in device.events
    )


def never_talked(device: RemoteDevice) -> bool:
    """No sound of the other side, no open microphone, no word that the call stands."""
    return not (
        happened(device, "first_audio")
        or happened(device, "microphone", open=True)
        or happened(device, "state", state="talking")
    )


def distrusts(device: RemoteDevice) -> bool:
    """The person was told: lamp and tone."""
    return happened(device, "lamp", lamp="distrust") and happened(device, "tone", tone="distrust")


def end_reason(device: RemoteDevice) -> str:
    """Why its call ended."""
    ends = [event for event in device.events if event["event"] == "state" and event["state"] == "ended"]
    return str(ends[-1]["reason"]) if ends else ""


@asynccontextmanager
async def pair(
    hub: Hub,
    directory: Path,
    *,
    keys: tuple[str, str] = ("", ""),
    carried: bool = True,
    policy: str = "relay",
    prefixes: tuple[Sequence[str], Sequence[str]] = ((), ()),
    audio: Mapping[str, object] | None = None,
    ice: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Pair]:
    """Start two devices in a pool of their own; signaling through a HostileCarrier unless told not to."""
    async with contextlib.AsyncExitStack() as stack:
        carrier = await stack.enter_async_context(HostileCarrier(hub.url)) if carried else None
        info = hub.info(carrier.url if carrier is not None else "")
        pool = f"attack-{next(_pools)}"
        devices: list[RemoteDevice] = []
        for name, key, prefix in zip(("a", "b"), keys, prefixes, strict=True):
            table = device_settings(info, LabCall(pool=pool, policy=policy), audio or {})
            table["backend"]["allow_plaintext"] = True
            table["ice"] |= ice or {}
            if key:
                table["security"] = {"intercom_keys": [key]}
            device = await RemoteDevice.start(
                table, directory / name, name, prefix=prefix, environment=environment
            )
            stack.push_async_callback(device.stop)
            devices.append(device)
        both = Pair(
            devices[0], devices[1], carrier, [directory / name / f"{name}.log" for name in ("a", "b")]
        )
        await both.expect("backend", up=True)
        yield both
