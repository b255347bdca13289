from __future__ import annotations

from voicemeet_edge.update.stage import is_chosen, place
from voicemeet_edge.update.version import SystemVersion

ONE, TWO = SystemVersion(0, 2, 0), SystemVersion(0, 3, 0)
DEVICES = [f"device {number}" for number in range(10_000)]


def test_who_is_chosen_stays_so_while_the_share_grows() -> None:
    for device in DEVICES[:200]:
        chosen = [is_chosen(device, ONE, percent) for percent in range(101)]
        assert chosen == sorted(chosen)
        assert chosen[0] is False
        assert chosen[100] is True


def test_the_share_is_what_it_says() -> None:
    for percent in (1, 5, 20, 50):
        chosen = sum(is_chosen(device, ONE, percent) for device in DEVICES)
        assert abs(chosen - 100 * percent) < 4 * (100 * percent) ** 0.5


def test_another_version_has_another_first_one() -> None:
    first = min(DEVICES, key=lambda device: place(device, ONE))
    assert first != min(DEVICES, key=lambda device: place(device, TWO))
    assert place(first, ONE) == place(first, ONE)
