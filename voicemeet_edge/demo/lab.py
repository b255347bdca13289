"""A hub, its TURN server and devices on this machine's loopback: shared by demo, benches and tests.

One rule: everything lives in one directory and ends with the block.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from voicemeet_edge.hub.admission import EVERY_POOL
from voicemeet_edge.hub.app import HubInfo
from voicemeet_edge.hub.settings import (
    HttpSettings,
    HubSettings,
    LimitSettings,
    MatchSettings,
    Provider,
    TurnSettings,
)
from voicemeet_edge.records import dataclass

LOOPBACK = "127.0.0.1"
Table = dict[str, dict[str, object]]


@dataclass(frozen=True)
class LabCall:
    """How the devices of a lab call."""

    pool: str = "lab"
    role: str = "either"
    policy: str = "relay"


def hub_settings(
    directory: Path,
    *,
    port: int = 0,
    turn: Provider = "coturn",
    open_pools: tuple[str, ...] = (EVERY_POOL,),
    lan_address: str = "",
) -> HubSettings:
    """A hub for devices that meet again and again, all from one address.

    With an address of this machine in its network, it is served there too, over https.
    """
    http = HttpSettings(port=port, tls="off")
    relay = TurnSettings(provider=turn, port=0)
    if lan_address:
        names = (lan_address, f"{socket.gethostname().partition('.')[0]}.local")
        http = HttpSettings(listen=("0.0.0.0",), port=port, names=names)
        relay = TurnSettings(provider=turn, port=0, listen=(lan_address,), relay_address=lan_address)
    return HubSettings(
        state_dir=directory / "hub",
        http=http,
        match=MatchSettings(open_pools=open_pools, avoid_repeat_s=0.0),
        turn=relay,
        limits=LimitSettings(
            address_per_s=1000.0,
            address_burst=10_000.0,
            session_per_s=100.0,
            session_burst=1000.0,
            device_per_s=100.0,
            device_burst=1000.0,
            report_per_s=10.0,
            report_burst=100.0,
            known_per_s=1000.0,
            known_burst=10_000.0,
            address_calls=1000,
        ),
    )


def device_settings(info: HubInfo, call: LabCall, audio: Mapping[str, object]) -> Table:
    """Settings of a device on this machine."""
    return {
        "backend": {"url": info.url, "apikey": info.apikey.reveal(), "tls_pin": info.pin},
        "call": {"pool": call.pool, "role": call.role},
        "ice": {"policy": call.policy, "addresses": [LOOPBACK], "ipv6": False},
        "audio": {"card": "virtual", "echo": "off", "volume": 100, **audio},
        "panel": {"factory": "none"},
    }
