"""The world goes away and comes back: the device is ready again by itself, and a call lives on if it can."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.system.lab import Lab, LabCall, ended, meet
from voicemeet_edge.demo.remote import RemoteDevice
from voicemeet_edge.hub.settings import HttpSettings
from voicemeet_edge.testing.network import ImpairedNetwork, Impairment, unavailable
from voicemeet_edge.testing.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

DIRECT = LabCall(policy="direct")
SHORT_OUTAGE_S = 5.0
LONG_OUTAGE_S = 60.0
SHORTENED_S = 8.0  # the long outage without --full: longer than the time a device waits for its call
GIVE_UP_S = 4.0  # reconnect_timeout_s of those devices
BACK_S = 90.0  # s to be back: the longest back-off and a slow machine


async def two(lab: Lab) -> tuple[RemoteDevice, RemoteDevice]:
    one, other = await asyncio.gather(lab.device("a", DIRECT), lab.device("b", DIRECT))
    return one, other


async def test_the_hub_restarts_while_devices_are_idle(lab: Lab) -> None:
    one, other = await two(lab)
    for device in (one, other):
        device.mark()
    await lab.stop_hub()
    for device in (one, other):
        await device.expect("backend", up=False)
        await device.expect("lamp", lamp="waiting")
    await lab.start_hub()
    for device in (one, other):
        await device.expect("backend", BACK_S, up=True)
        await device.expect("lamp", lamp="ready")
    await meet(one, other)


async def test_the_hub_restarts_during_a_call(lab: Lab) -> None:
    one, other = await two(lab)
    await meet(one, other)
    for device in (one, other):
        device.mark()
    await lab.stop_hub()
    for device in (one, other):
        await device.expect("backend", up=False)
    await lab.both_hear(one, other)
    await lab.start_hub()
    await asyncio.gather(*(waits_for_hub(device) for device in (one, other)))
    await lab.both_hear(one, other)
    for device in (one, other):
        assert device.last("state")["state"] == "talking"
    # The channel was joined again: the goodbye gets through.
    other.mark()
    await one.press()
    await ended(one, "hung_up")
    await ended(other, "peer_hung_up")
    await meet(one, other)


async def waits_for_hub(device: RemoteDevice) -> None:
    """Wait until the device's last word about the backend is that it is up."""
    await until(lambda: bool(device.last("backend")["up"]), BACK_S)


@pytest.fixture
def network() -> Iterator[ImpairedNetwork]:
    if reason := unavailable():
        pytest.skip(reason)
    with ImpairedNetwork(("a", "b", "hub")) as made:
        yield made


async def two_at_a_distance(
    lab: Lab, network: ImpairedNetwork, **rules: object
) -> tuple[RemoteDevice, RemoteDevice]:
    """Hub and devices on nodes of their own: no voice and no signaling gets past an outage."""
    await lab.stop_hub()
    http = HttpSettings(listen=(network.address("hub"),), port=0, tls="off", allow_plaintext=True)
    lab.settings = replace(lab.settings, http=http)
    with network.inside("hub"):
        await lab.start_hub()
    one, other = await asyncio.gather(
        *(
            lab.device(name, DIRECT, node=(network.command(name), network.address(name)), rules=rules)
            for name in ("a", "b")
        )
    )
    return one, other


@pytest.mark.namespaces
async def test_a_short_outage_heals_by_itself(network: ImpairedNetwork, lab: Lab) -> None:
    one, other = await two_at_a_distance(lab, network)
    await meet(one, other)
    for device in (one, other):
        device.mark()
    network.impair(Impairment(outage=True))
    for device in (one, other):
        await device.state("reconnecting")
        await device.expect("microphone", open=False)
    await asyncio.sleep(SHORT_OUTAGE_S)
    for device in (one, other):
        device.mark()
    network.impair(Impairment())
    for device in (one, other):
        await device.state("talking", BACK_S)
        await device.expect("tone", tone="path_back")
        await device.expect("microphone", open=True)
    await lab.both_hear(one, other)


@pytest.mark.namespaces
async def test_a_long_outage_ends_the_call_and_no_more(
    network: ImpairedNetwork, lab: Lab, pytestconfig: pytest.Config
) -> None:
    one, other = await two_at_a_distance(lab, network, reconnect_timeout_s=GIVE_UP_S)
    await meet(one, other)
    for device in (one, other):
        device.mark()
    network.impair(Impairment(outage=True))
    for device in (one, other):
        await device.state("reconnecting")
    full = pytestconfig.getoption("--full")
    await asyncio.sleep(LONG_OUTAGE_S if full else SHORTENED_S)
    for device in (one, other):
        await ended(device, "path_lost")
    network.impair(Impairment())
    await asyncio.gather(*(waits_for_hub(device) for device in (one, other)))
    # Nothing was done to them in between: they are ready, and call again.
    await meet(one, other, timeout_s=BACK_S)
