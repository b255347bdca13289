"""The product as services under a real systemd in a virtual machine: one boot, tests in the written order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.machine.conftest import figure
from tests.machine.qemu import Machine
from voicemeet_edge.audio.wav import read_wav, write_wav
from voicemeet_edge.testing.signals import speech_like

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1800)]

SPEECH_S = 5.0  # s said in a call
STARVED = 20  # lost periods of sound from which the machine was too busy to judge a voice by its shape
LOUD = 100.0  # of 32,767, effective: speech that arrives, however torn; a silent cable gives 0
ALIKE = 0.6  # correlation of loudness over time; quiet machines reach 0.98, other speech stays below 0.35


def inside(machine: Machine, script: str, limit_s: float = 1500.0) -> str:
    """Run a script with what bench.sh knows and return what it said."""
    done = machine.run(f"set -u\n. /run/bench/bench.sh\n{script}\n", limit_s=limit_s)
    return done.output


def test_without_settings_nothing_fails_and_the_file_is_named(machine: Machine) -> None:
    said = inside(
        machine, "systemctl is-system-running --wait; systemctl status voicemeet-edge voicemeet-hub; true"
    )
    assert said.splitlines()[0] == "running"
    assert "/boot/firmware/voicemeet.toml" in said
    assert "/etc/voicemeet/hub.toml" in said


def test_the_hub_runs_its_own_coturn_though_debians_is_enabled(machine: Machine) -> None:
    said = inside(
        machine,
        """
        systemctl is-enabled coturn
        hub_settings; systemctl start voicemeet-hub; status voicemeet-hub
        pgrep -u voicemeet-hub -c turnserver
        pgrep -c turnserver
        voicemeet-edge device-settings | sed '/^\\[call\\]/,$d' >/run/bench/backend.toml
        printf '[security]\\nintercom_keys = []\\n' >>/run/bench/backend.toml
        new_key
        grep -c apikey /run/bench/backend.toml
        is_active voicemeet-hub || fail "the hub stands no more"
        """,
    )
    assert said.split() == ["enabled", "ready", "1", "1", "1"]


def test_a_second_hub_does_the_first_no_harm(machine: Machine) -> None:
    said = inside(
        machine,
        """
        before=$(pgrep turnserver)
        setpriv --reuid voicemeet-hub --regid voicemeet-hub --clear-groups voicemeet-edge hub; echo "ended $?"
        kill -9 "$before"
        until_true 30 "coturn again" pgrep -u voicemeet-hub turnserver
        echo again
        """,
    )
    assert "cannot listen on port 8443" in said
    assert said.split()[-3:] == ["ended", "1", "again"]


def test_lines_that_come_late_are_found(machine: Machine) -> None:
    said = inside(
        machine,
        """
        sound_cards
        gpio_chip other OTHER
        device_settings $BOX_SETTINGS Loopback GPIO caller
        more_lines workshop
        failed_once() { words_of voicemeet-edge | grep -q "no GPIO line is called"; }
        until_true 60 "the missing line is named" failed_once
        gpio_chip box GPIO
        until_true 90 "the device is up" is_active voicemeet-edge
        until_true 30 "the device is connected" says voicemeet-edge "Ready: press call"
        words_of voicemeet-edge
        echo "READY after $(ready_after voicemeet-edge) ms"
        """,
    )
    figure(f"the device, started in a running system: {said.splitlines()[-1]}")
    assert "no GPIO line is called GPIO" in said
    assert "Traceback" not in said


def test_the_sandbox_is_as_tight_as_promised(machine: Machine) -> None:
    said = inside(
        machine,
        """
        for unit in voicemeet-edge voicemeet-hub voicemeet-edge-fault; do
            systemd-analyze security --no-pager $unit.service | grep -o 'Overall.*: [0-9.]*'
        done
        """,
    )
    scores = [float(line.split()[-1]) for line in said.splitlines()]
    assert all(score <= limit for score, limit in zip(scores, (1.5, 1.2, 0.5), strict=True)), scores


def test_the_kernel_keeps_the_device_to_its_memory_and_its_devices(machine: Machine) -> None:
    (machine.share / "look.sh").write_text(
        "for device in /dev/null /dev/gpiochip0 /dev/snd/controlC0 /dev/vda /dev/kmsg /dev/ttyS0; do\n"
        "    (: <$device) 2>/dev/null && echo open $device || echo closed $device\n"
        "done >/run/looked\n"
    )
    said = inside(
        machine,
        """
        cat /sys/fs/cgroup/system.slice/voicemeet-edge.service/memory.max
        in_its_place look "+/bin/sh /run/bench/look.sh" # by root: only the device policy is left
        systemctl start look
        until_true 30 "it has looked" is_inactive look
        cat /run/looked
        """,
    )
    opened = ("/dev/null", "/dev/gpiochip0", "/dev/snd/controlC0")
    closed = ("/dev/vda", "/dev/kmsg", "/dev/ttyS0")
    assert said.split() == [
        str(384 * 1024 * 1024),
        *(word for name in opened for word in ("open", name)),
        *(word for name in closed for word in ("closed", name)),
    ]


def alike(said: Path, heard: Path) -> float:
    """Correlate loudness over time, 20 ms at a time, at the best delay."""
    size = 960
    envelopes = []
    for path in (said, heard):
        samples = read_wav(path).astype(np.float64)
        frames = samples[: len(samples) // size * size].reshape(-1, size)
        envelopes.append(np.sqrt((frames**2).mean(axis=1)))
    short, long = envelopes
    best = 0.0
    for shift in range(max(1, len(long) - len(short))):
        part = long[shift : shift + len(short)]
        if part.std() > 0:
            best = max(best, float(np.corrcoef(short[: len(part)], part)[0, 1]))
    return best


def print_memory(said: str) -> None:
    """Print what a device's system needs in a call: this machine carries another device and the hub, too."""
    used = {name: int(mebibytes) for name, mebibytes in (line.split() for line in said.splitlines())}
    alone = used["all"] - used["voicemeet-peer"] - used["voicemeet-hub"]
    figure(f"memory in a call, MiB: {used}; without the other device and the hub {alone}")


def test_a_press_makes_a_call_and_speech_arrives_both_ways(machine: Machine) -> None:
    for name, seed in (("box", 1), ("peer", 2)):
        write_wav(machine.share / f"{name}.wav", speech_like(SPEECH_S, seed=seed))
    inside(
        machine,
        """
        second_device
        gpio_chip peer PEER
        device_settings /run/peer/voicemeet.toml Peer PEER answerer
        systemctl start voicemeet-peer
        dark box || fail "steady light without a call"
        talk
        cp /run/bench/*.wav /tmp
        hear Peer /tmp/heard-from-box.wav 8 & one=$!
        hear Loopback /tmp/heard-from-peer.wav 8 & two=$!
        sleep 1
        speak Loopback /tmp/box.wav & speak Peer /tmp/peer.wav
        wait $one $two
        cp /tmp/heard-*.wav /run/bench
        says voicemeet-edge "In a call" || fail "the call is over"
        voicemeet-edge status --json >/run/bench/status.json
        memory >/run/bench/memory
        """,
    )
    print_memory((machine.share / "memory").read_text())
    sound = json.loads((machine.share / "status.json").read_text())["sound"]
    starved = sum(sound[key] for key in ("capture_xruns", "playback_xruns", "sound_losses"))
    results = {
        name: alike(machine.share / f"{name}.wav", machine.share / f"heard-from-{name}.wav")
        for name in ("box", "peer")
    }
    figure(f"speech arrived: {results}, {starved} periods lost")
    for name in results:
        samples = read_wav(machine.share / f"heard-from-{name}.wav").astype(np.float64)
        assert np.sqrt((samples**2).mean()) >= LOUD, f"nothing is heard from {name}"
    if starved <= STARVED:
        assert min(results.values()) >= ALIKE, results


def test_a_report_ends_the_call_and_gives_a_receipt(machine: Machine) -> None:
    said = inside(
        machine,
        """
        talks voicemeet-edge || call_up
        report_call
        until_true 20 "the box's lamp is no microphone lamp" dark box
        listed() { voicemeet-edge reports | grep -q button; }
        until_true 30 "the report is listed" listed
        until_true 30 "the peer is told" says voicemeet-peer "Ready: press call"
        until_true 30 "the box is ready" says voicemeet-edge "Ready: press call"
        journalctl -q -b -o cat | grep -cE 'receipt|R[0-9A-Z]{20}' || true
        """,
    )
    assert said.split()[-1] == "0"


def test_the_door_lets_go_though_who_opened_it_is_stopped(machine: Machine) -> None:
    said = inside(
        machine,
        """
        in_its_place door "/usr/bin/voicemeet-edge door --config %d/voicemeet.toml"
        low box 16 || fail "the relay is drawn at rest"
        systemctl start door
        until_true 60 "the relay is drawn" high box 16
        begin=$(date +%s%N)
        kill -STOP "$(pid door)"
        until_true 60 "the relay is let go" low box 16
        echo "let go after $((($(date +%s%N) - begin) / 1000000)) ms"
        grep '^State' "/proc/$(pid door)/status"
        kill -CONT "$(pid door)"
        until_true 60 "it ends" is_inactive door
        systemctl show -P Result door
        """,
    )
    print(said)
    assert "State:\tT (stopped)" in said
    assert said.split()[-1] == "success"


def test_an_open_housing_ends_the_call_and_the_box_until_it_has_a_new_key(machine: Machine) -> None:
    said = inside(
        machine,
        """
        sed -i 's/^\\[panel\\]/&\\ntamper_line = "GPIO12"/' $BOX_SETTINGS
        shut & closed=$!
        systemctl restart voicemeet-edge
        until_true 60 "box ready" says voicemeet-edge "Ready: press call"
        kill $closed
        call_up
        grep -c 'intercom_keys = \\["' $BOX_SETTINGS
        pull box 12 pull-up
        until_true 60 "the box is out of order" has_failed voicemeet-edge
        until_true 60 "the peer is told" says voicemeet-peer "Ready: press call"
        words_of voicemeet-peer | grep -c tampered
        erased() { ! grep -q 'intercom_keys = \\["' $BOX_SETTINGS; }
        until_true 60 "the key is erased" erased
        device_settings $BOX_SETTINGS Loopback GPIO caller # with the old key
        systemctl restart voicemeet-edge 2>/dev/null; echo "again: $?"
        systemctl show -P ExecMainStatus voicemeet-edge
        """,
    )
    print(said)
    assert said.split() == ["1", "1", "again:", "1", "78"]


def test_a_bell_rings_in_its_own_pool(machine: Machine) -> None:
    inside(
        machine,
        """
        new_key
        device_settings $BOX_SETTINGS Loopback GPIO caller
        sed -i 's/^pool = .*/pool = "lobby"/' $BOX_SETTINGS
        more_lines frontdesk
        systemctl restart voicemeet-peer & systemctl restart voicemeet-edge; wait
        until_true 60 "box ready" says voicemeet-edge "Ready: press call"
        until_true 60 "peer ready" says voicemeet-peer "Ready: press call"
        become voicemeet-edge box "Looking\\|Ringing" 5
        until_true 60 "peer rings" says voicemeet-peer "Ringing"
        press box 5
        until_true 60 "box idle" says voicemeet-edge "Ready: press call"
        until_true 60 "peer idle" says voicemeet-peer "Ready: press call"
        """,
    )


def test_a_device_that_stands_still_is_started_again_by_the_watchdog(machine: Machine) -> None:
    inside(
        machine,
        """
        before=$(restarts voicemeet-edge)
        kill -STOP "$(pid voicemeet-edge)"
        again() { [ "$(restarts voicemeet-edge)" -gt "$before" ]; }
        until_true 120 "the watchdog ends it, and systemd starts it" again
        until_true 120 "it is ready again" says voicemeet-edge "Ready: press call"
        words_of voicemeet-edge -b | grep -q "Watchdog timeout" || fail "it was not the watchdog"
        """,
    )
