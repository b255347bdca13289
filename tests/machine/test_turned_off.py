"""The last of the booted image: turned off in order while hub and device work. Nothing comes after it."""

from __future__ import annotations

import pytest

from tests.machine.conftest import figure
from tests.machine.qemu import Machine

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

NOT_IN_ORDER = ("timed out", "Failed", "result 'timeout'", "result 'signal'", "Killing")


def test_everything_that_runs_ends_by_itself_when_it_is_turned_off(machine: Machine) -> None:
    running = machine.run(
        """
        systemctl is-system-running --wait >/dev/null # asked for alone, it would be stopped while it starts
        systemctl list-units --plain --no-legend --state=running 'voicemeet-*.service' | cut -d ' ' -f 1
        systemctl log-level info; systemctl log-target console # what process 1 says is seen to the end
        echo "bench: turned off from here" >/dev/console
        """
    ).output.split()
    took = machine.power_off()
    said = machine.last_words(500).rpartition("bench: turned off from here")[2]
    figure(f"turned off in {took:.1f} s with {' '.join(running)}")
    for unit in running:
        assert f"{unit}: Deactivated successfully" in said
    wrong = [line for line in said.splitlines() if any(words in line for words in NOT_IN_ORDER)]
    assert not wrong, "\n".join(wrong)
    assert "Power down" in said
