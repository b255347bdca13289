"""What the services do when a card breaks under them, or a setting that the lamp has to tell of.

After `test_services.py` in the same machine, whose devices it uses. It takes longer than a run of all tests
may, so `make test-machine` runs it. What needs systemd and no hardware is in tests/booted.
"""

from __future__ import annotations

import os

import pytest

from tests.machine.qemu import Machine
from tests.machine.test_services import inside

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("VOICEMEET_MACHINE") != "full", reason="takes minutes: make test-machine"
    ),
]


def test_a_card_that_comes_back_saves_the_call(machine: Machine) -> None:
    inside(
        machine,
        """
        call_up
        until_true 60 "the box's microphone lamp" steady box
        card_away
        until_true 10 "the lamp is off while the card is away" dark box
        sleep 3
        card_back
        until_true 15 "the microphone is open again" steady box
        says voicemeet-edge "In a call" && says voicemeet-peer "In a call" || fail "the call is over"
        hang_up
        """,
    )


def test_a_wrong_setting_is_on_the_lamp_and_its_mending_starts_the_device(machine: Machine) -> None:
    said = inside(
        machine,
        """
        cp $BOX_SETTINGS /tmp/right.toml
        sed 's/complexity = 0/complexity = "little"/' /tmp/right.toml >$BOX_SETTINGS
        systemctl restart voicemeet-edge; echo "restart $?"
        state voicemeet-edge; systemctl show -P ExecMainStatus voicemeet-edge
        words_of voicemeet-edge | grep complexity | tail -n 1
        until_true 60 "the lamp's line is taken" sh -c 'gpioinfo | grep GPIO22 | grep -q voicemeet-edge'
        flashes() { lit box && sleep 1 && ! lit box; }
        until_true 30 "the lamp says it is out of order" flashes
        cp /tmp/right.toml $BOX_SETTINGS
        until_true 90 "it starts by itself" is_active voicemeet-edge
        """,
    )
    lines = said.splitlines()
    assert lines[-4:-1] == ["restart 1", "failed", "78"] or lines[:4][-3:] == ["restart 1", "failed", "78"], (
        said
    )
    assert "/boot/firmware/voicemeet.toml: audio.complexity" in said
