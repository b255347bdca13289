"""Hub and two devices as services in one booted system, and what the tests do with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.booted.booted import Booted

PIP = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/run/bench/packages"}
INSTALL_LIMIT_S = 1200.0  # s; half a minute on two quiet cores
WAIT_LIMIT_S = 90.0  # s for what takes seconds
LOOK_S = 0.1  # s between two looks
HUB, BOX, PEER = "voicemeet-hub", "voicemeet-edge", "voicemeet-peer"
READY, TALKING = "Ready: press call", "In a call"
SETTINGS = {BOX: "/boot/firmware/voicemeet.toml", PEER: "/run/peer/voicemeet.toml"}
# What the line from the hub leaves out.
TABLES = """
[audio]
card = "virtual"
virtual_in = "speech"
complexity = 0
echo = "off"
[panel]
factory = "{factory}"
[status]
self_test_at = ""
"""
# Boards in memory instead of the machine's, and a second device.
ON_A_BOARD = r"""
mkdir -p /run/systemd/system/voicemeet-edge.service.d
start="ExecStart=/opt/voicemeet-edge/bin/python -I /run/bench/door.py run --config %d/voicemeet.toml"
printf '%s\n' "[Service]" ExecStart= "$start" >/run/systemd/system/voicemeet-edge.service.d/board.conf
sed -e "s#/boot/firmware/voicemeet.toml#/run/peer/voicemeet.toml#g" \
    -e "s#RuntimeDirectory=voicemeet-edge#RuntimeDirectory=voicemeet-peer#" \
    -e "s#%t/voicemeet-edge#%t/voicemeet-peer#" \
    -e "s#^ExecStart=.*#$start#" \
    /etc/systemd/system/voicemeet-edge.service >/run/systemd/system/voicemeet-peer.service
systemctl daemon-reload
"""


def make(system: Booted, target: str) -> str:
    """Type `make TARGET` in the checkout; returns what it said."""
    script = f"cd /root/voicemeet-edge && make {target}"
    return system.run(script, limit_s=INSTALL_LIMIT_S, environment=PIP)


@dataclass
class House:
    """A booted system with the product in it."""

    system: Booted
    said: dict[str, str] = field(default_factory=dict)
    """What `make` said."""

    def run(self, script: str, *, limit_s: float = 120.0) -> str:
        """Run a script in it."""
        return self.system.run(script, limit_s=limit_s)

    def property(self, unit: str, name: str) -> str:
        """What systemd knows of a unit."""
        return self.run(f"systemctl show -P {name} {unit}").strip()

    def sentence(self, unit: str) -> str:
        """What a unit says it is doing."""
        return self.property(unit, "StatusText")

    def restarts(self, unit: str) -> int:
        """How often systemd has started it again."""
        return int(self.property(unit, "NRestarts"))

    def until(self, what: str, is_so: Callable[[], object]) -> float:
        """Wait for something to be so; returns the seconds it took."""
        begin = time.monotonic()
        while not is_so():
            if time.monotonic() - begin > WAIT_LIMIT_S:
                raise AssertionError(f"never so: {what}\n{self.system.evidence()}")
            time.sleep(LOOK_S)
        return time.monotonic() - begin

    def says(self, unit: str, sentence: str) -> float:
        """Wait until a unit is active and says this; returns the seconds it took."""

        def is_so() -> bool:
            return self.property(unit, "ActiveState") == "active" and self.sentence(unit) == sentence

        return self.until(f"{unit} says {sentence!r}", is_so)

    def stop(self, unit: str) -> int:
        """Stop a unit; returns the milliseconds that systemd took for it."""
        stop = f"systemctl -q stop {unit} 2>/dev/null"
        return int(self.run(f"begin=$(date +%s%N); {stop}; echo $((($(date +%s%N) - begin) / 1000000))"))

    def give_settings(self, unit: str, *, factory: str = "none") -> None:
        """Set a device up as a person does: the hub's line, pasted; the file appears whole."""
        path, new = SETTINGS[unit], f"/run/{unit}.toml"
        script = f"mkdir -p $(dirname {path}); cat >{new} <<'END'\n{TABLES.format(factory=factory)}END\n"
        script += f"voicemeet-edge enroll --name {unit} | grep ^voicemeet-settings: | "
        script += f"voicemeet-edge setup --config {new}\n"
        if unit == PEER:  # a door that answers is no door to the hub's operator: its pass is made apart
            script += (
                "pass=$(voicemeet-edge pass --pool frontdesk --role answerer --label peer | sed -n 1p)\n"
            )
            script += f'sed -i "s/^pass = .*/pass = \\"$pass\\"/; s/= .caller.$/= \\"answerer\\"/" {new}\n'
        self.run(f"{script}cp {new} {path}.new && mv {path}.new {path}")

    def have_boards(self) -> None:
        """Let two devices run on boards in memory; idempotent."""
        if self.property(PEER, "LoadState") == "loaded":
            return
        self.run(ON_A_BOARD)
        for unit in (BOX, PEER):
            self.give_settings(unit, factory="gpiod")
            self.run(f"systemctl restart {unit}")
        for unit in (BOX, PEER):
            self.says(unit, READY)

    def do(self, unit: str, line: str) -> None:
        """Let a hand, or a fault, do something to a device."""
        self.run(f"echo {line} >/run/{unit}/hands", limit_s=20.0)

    def press(self, unit: str, line: str = "GPIO17") -> None:
        """Press a button as a person does."""
        self.do(unit, f"press {line}")
        time.sleep(0.2)  # too short for a hold, too long for a bounce
        self.do(unit, f"release {line}")

    def call_up(self) -> None:
        """Let the box call and the peer answer, until both talk."""
        self.have_boards()
        for unit in (BOX, PEER):
            self.says(unit, READY)
        self.press(BOX)
        self.until("the peer rings", lambda: "Ringing" in self.sentence(PEER))
        self.press(PEER)
        for unit in (BOX, PEER):
            self.says(unit, TALKING)

    def hang_up(self) -> None:
        """End the call, if there is one."""
        if self.sentence(BOX) != READY:
            self.press(BOX)
        for unit in (BOX, PEER):
            self.says(unit, READY)


def install(system: Booted) -> House:
    """Make a hub of it, and then a device, as the documents say."""
    house = House(system)
    for target in ("install-hub", "install-device"):
        begin = time.monotonic()
        house.said[target] = make(system, target)
        print(f"make {target}: {time.monotonic() - begin:.0f} s")
    return house
