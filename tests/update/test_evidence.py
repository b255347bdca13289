"""Proofs, from a status socket that answers as the device does and a self-test that ends as it is told."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from voicemeet_edge.update.evidence import Evidence
from voicemeet_edge.update.trial import Proof

GOOD: dict[str, object] = {"state": "idle", "backend": "connected", "faults": {}}


class Status:
    """The status socket of a device."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.says: dict[str, object] = dict(GOOD)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.recv(64)
                connection.sendall(json.dumps(self.says).encode() + b"\n")

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


@pytest.fixture
def status(tmp_path: Path) -> Iterator[Status]:
    server = Status(tmp_path / "status.sock")
    yield server
    server.close()


def test_a_device_that_is_well_gives_every_proof(status: Status) -> None:
    evidence = Evidence(status.path, self_test=["true"])
    assert [evidence.look(proof) for proof in Proof] == ["", "", ""]
    assert evidence.is_idle()


def test_what_is_missing_is_named(status: Status) -> None:
    evidence = Evidence(status.path, self_test=["true"])
    status.says["backend"] = "waiting"
    assert "waiting" in evidence.look(Proof.SIGNALING)
    status.says["faults"] = {"microphone": "sound_device_lost", "panel": "button_stuck"}
    assert evidence.look(Proof.SOUND) == "microphone: sound_device_lost"


def test_a_call_is_not_disturbed_by_a_test(status: Status) -> None:
    status.says["state"] = "talking"
    evidence = Evidence(status.path, self_test=["false"])
    assert not evidence.is_idle()
    assert evidence.look(Proof.CALL) == "a call runs"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            json.dumps({"findings": [{"outcome": "fault", "check": "echo", "found": "nothing heard"}]}),
            "echo: nothing",
        ),
        ("{}", "self-test failed"),
        ("not JSON", "self-test failed"),
    ],
)
def test_a_self_test_that_fails_says_at_what(status: Status, said: str, why: str) -> None:
    words = [sys.executable, "-c", f"print({said!r}); raise SystemExit(1)"]
    assert why in Evidence(status.path, self_test=words).look(Proof.CALL)


def test_a_self_test_that_is_missing_proves_nothing(status: Status) -> None:
    assert Evidence(status.path, self_test=["/nonexistent/self-test"]).look(Proof.CALL)


def test_without_a_device_nothing_is_proved_and_nothing_is_disturbed(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "nobody.sock", self_test=["true"])
    assert all(evidence.look(proof) for proof in Proof)
    assert evidence.is_idle()
