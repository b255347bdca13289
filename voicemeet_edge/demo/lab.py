"""A hub, its TURN server and devices on this machine's loopback: shared by demo, benches and tests.

One rule: everything lives in one directory and ends with the block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from voicemeet_edge.hub.app import HubInfo
from voicemeet_edge.hub.settings import HttpSettings, HubSettings, LimitSettings, MatchSettings, TurnSettings

LOOPBACK = "127.0.0.1"
Table = dict[str, dict[str, object]]


@dataclass(frozen=True)
class LabCall:
    """How the devices of a lab call."""

    pool: str = "lab"
    role: str = "either"
    policy: str = "relay"


def hub_settings(directory: Path, *, port: int = 0, turn: str = "coturn") -> HubSettings:
    """A hub for devices that meet again and again, all from one address."""
    return HubSettings(
        state_dir=directory / "hub",
        http=HttpSettings(port=port, tls="off"),
        match=MatchSettings(avoid_repeat_s=0.0),
        turn=TurnSettings(provider=turn, port=0),
        limits=LimitSettings(
            address_per_s=1000.0,
            address_burst=10_000.0,
            session_per_s=100.0,
            session_burst=1000.0,
            device_per_s=100.0,
            device_burst=1000.0,
            report_per_s=10.0,
            report_burst=100.0,
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
