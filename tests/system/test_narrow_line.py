"""A real call over a line of 48 kb/s: both ends find the rate, and what they send gets through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.lab import Lab, meet
from tests.system.test_recovery import two_at_a_distance
from voicemeet_edge.testing.network import ImpairedNetwork, Impairment, unavailable

pytestmark = [pytest.mark.system, pytest.mark.namespaces, pytest.mark.timeout(240)]

NARROW = Impairment(kbit_s=48, queue_s=0.3, delay_s=0.02, keep_order=True)
WINDOW_S = 6.0  # s over which packets are counted
MAX_WINDOWS = 8  # a machine that stalls in each of so many says nothing of the line
LOST = 0.03  # of the packets; without the control a fifth and more


@pytest.fixture
def network() -> Iterator[ImpairedNetwork]:
    if reason := unavailable():
        pytest.skip(reason)
    with ImpairedNetwork(("a", "b", "hub")) as made:
        yield made


async def media(device: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await device.stats())["media"]
    return found


async def test_a_call_fits_into_48_kilobits(network: ImpairedNetwork, lab: Lab) -> None:
    one, other = await two_at_a_distance(lab, network)
    for source, target in (("a", "b"), ("b", "a")):
        network.impair(NARROW, source=source, target=target)
    await meet(one, other)
    seen: list[list[float]] = []
    for _ in range(MAX_WINDOWS):
        before = [await media(device) for device in (one, other)]
        await asyncio.sleep(WINDOW_S)
        after = [await media(device) for device in (one, other)]
        lost = []
        for sender, receiver in ((0, 1), (1, 0)):
            sent = after[sender]["packets_sent"] - before[sender]["packets_sent"]
            came = after[receiver]["packets_received"] - before[receiver]["packets_received"]
            lost.append(1 - came / sent)
        seen.append([round(share, 3) for share in lost])
        rates = [figures["send_kbit_s"] for figures in after]
        if max(lost) <= LOST and max(rates) < NARROW.kbit_s:
            break
    else:
        raise AssertionError(f"lost in each {WINDOW_S:.0f} s: {seen}")
    await lab.both_hear(one, other)
