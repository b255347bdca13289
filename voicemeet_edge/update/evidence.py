"""Where proofs are found: the running device's status, and a self-test call by a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.system.status import SOCKET, ask
from voicemeet_edge.update.trial import Proof

SELF_TEST = ("voicemeet-edge", "self-test", "--json")
SELF_TEST_LIMIT_S = 180.0  # s for the whole test; it takes some seconds
MAX_SAID = 120  # characters of a finding


class Evidence:
    """Look for proofs on this machine.

    Args:
        socket: of the running device's status.
        has_device: whether this system is a device at all; a hub alone has no sound.
        self_test: the command that makes a call with itself.
    """

    def __init__(
        self, socket: Path = SOCKET, *, has_device: bool = True, self_test: Sequence[str] = SELF_TEST
    ) -> None:
        self._socket = socket
        self._has_device = has_device
        self._self_test = tuple(self_test)

    def is_idle(self) -> bool:
        """Whether no call runs; a device that does not answer has none."""
        status = self._status()
        return status is None or status.get("state") in ("idle", None)

    def look(self, proof: Proof) -> str:
        """Look for a proof: "" when it is there, else what was found instead."""
        if not self._has_device:
            return _hub_is_up()
        status = self._status()
        if status is None:
            return "the device does not run"
        match proof:
            case Proof.SIGNALING:
                return "" if status.get("backend") == "connected" else f"backend: {status.get('backend')}"
            case Proof.SOUND:
                faults = status.get("faults")
                found = faults if isinstance(faults, dict) else {}
                broken = [f"{part}: {found[part]}" for part in ("microphone", "loudspeaker") if part in found]
                return ", ".join(broken)[:MAX_SAID]
            case Proof.CALL:
                return "a call runs" if not self.is_idle() else self._call()

    def _status(self) -> dict[str, object] | None:
        try:
            table = json.loads(next(iter(ask("status", self._socket)), ""))
        except (EnvironmentFault, ValueError):
            return None
        return table if isinstance(table, dict) else None

    def _call(self) -> str:
        try:
            done = subprocess.run(
                self._self_test, capture_output=True, text=True, timeout=SELF_TEST_LIMIT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return "the self-test did not end"
        return "" if done.returncode == 0 else _first_fault(done.stdout) or "the self-test failed"


def _first_fault(said: str) -> str:
    """Return the first fault of the findings that a self-test prints as JSON."""
    try:
        findings = json.loads(said)["findings"]
        fault = next(one for one in findings if one["outcome"] == "fault")
        return f"{fault['check']}: {fault['found']}"[:MAX_SAID]
    except (ValueError, KeyError, TypeError, StopIteration):
        return ""


def _hub_is_up() -> str:
    words = ["systemctl", "is-active", "--quiet", "voicemeet-hub.service"]
    try:
        done = subprocess.run(words, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "systemd does not answer"
    return "" if done.returncode == 0 else "the hub does not run"
