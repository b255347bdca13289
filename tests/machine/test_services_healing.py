"""What the services do when something breaks under them: each part of the watchdog, a card, a setting.

After `test_services.py` in the same machine, whose devices it uses. It takes longer than a run of all tests
may, so `make test-machine` runs it.
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
        os.environ.get("VOICEMEET_MACHINE") != "full", reason="takes ten minutes: make test-machine"
    ),
]


@pytest.mark.parametrize(
    ("part", "thread"),
    [
        ("capture", "sound-capture"),
        ("playback", "sound-playback"),
        ("panel", "gpio-edges"),
        ("event loop", "voicemeet-edge"),
    ],
)
def test_a_wedged_part_is_seen_and_the_device_starts_again(machine: Machine, part: str, thread: str) -> None:
    said = inside(
        machine,
        f"""
        call_up
        start_again voicemeet-edge 60 wedge voicemeet-edge "{thread}"
        until_true 60 "the peer's call is over" says voicemeet-peer "Ready: press call"
        words_of voicemeet-edge | grep "no sign of life" | tail -n 1
        """,
    )
    print(said)
    assert f"{part} gives no sign of life" in said


def test_signaling_that_hangs_is_seen_too(machine: Machine) -> None:
    said = inside(
        machine,
        """
        mkdir -p /run/systemd/system/voicemeet-edge.service.d
        cat >/run/systemd/system/voicemeet-edge.service.d/hang.conf <<END
[Service]
ExecStart=
ExecStart=/usr/bin/python3 -I /tmp/wedge_signaling.py run --config %d/voicemeet.toml
PrivateTmp=no
END
        cp /run/bench/wedge_signaling.py /tmp; systemctl daemon-reload; systemctl restart voicemeet-edge
        until_true 60 "the device is connected" says voicemeet-edge "Ready: press call"
        start_again voicemeet-edge 90 touch /run/voicemeet-edge/hang
        words_of voicemeet-edge | grep "no sign of life" | tail -n 1
        rm -r /run/systemd/system/voicemeet-edge.service.d; systemctl daemon-reload
        """,
    )
    assert "signaling gives no sign of life" in said


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


def test_new_settings_are_taken_without_ending_a_call(machine: Machine) -> None:
    said = inside(
        machine,
        """
        until_true 60 "the device is connected" says voicemeet-edge "Ready: press call"
        call_up
        before=$(pid voicemeet-edge)
        sed 's/^\\[status\\]/[status]\\nname = "Gate 3"/' $BOX_SETTINGS >/tmp/new.toml
        sed -i 's/complexity = 0/complexity = 0\\nvolume = 33/' /tmp/new.toml
        cp /tmp/new.toml $BOX_SETTINGS
        systemctl reload voicemeet-edge
        quieter() { voicemeet-edge status --json | grep -q '"volume": 33'; }
        until_true 20 "the volume is taken" quieter
        [ "$(pid voicemeet-edge)" = "$before" ] && says voicemeet-edge "In a call" || fail "the call is over"
        hang_up
        renamed() { voicemeet-edge status --json | grep -q 'Gate 3'; }
        until_true 60 "the rest is taken by a new start" renamed
        voicemeet-edge status
        """,
    )
    print(said)
    assert "33 %" in said


def test_a_stop_in_a_call_says_goodbye(machine: Machine) -> None:
    said = inside(
        machine,
        """
        call_up
        begin=$(date +%s%N)
        systemctl stop voicemeet-edge
        echo "stopped after $((($(date +%s%N) - begin) / 1000000)) ms"
        until_true 20 "the peer is told" says voicemeet-peer "Ready: press call"
        words_of voicemeet-peer | grep "call: ended" | tail -n 1
        systemctl stop voicemeet-peer voicemeet-hub
        systemctl --failed --no-legend
        """,
    )
    print(said)
    assert "call: ended (" in said
    assert "path_lost" not in said
