"""Somebody in the middle: a hub that swaps fingerprints, or sits in the call with certificates of its own.

Each test names the defence that was taken out once to see it fail.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.attacks.lab import WAIT_S, Hub, distrusts, end_reason, happened, never_talked, new_key, pair
from voicemeet_edge.testing.hostile import DeviceSocket, Middle, Payload, swap_fingerprint
from voicemeet_edge.testing.waiting import until
from voicemeet_edge.webrtc.peer import new_certificate

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def test_without_a_key_the_check_words_differ(hub: Hub, tmp_path: Path) -> None:
    # Fails when the words come from the call id alone (call/words.py, show).
    async with pair(hub, tmp_path) as devices:
        assert devices.carrier is not None
        middle = Middle(devices.carrier)
        try:
            await devices.call()
            words = [event["words"] for event in await devices.expect("words")]
            relayed = [end.relayed for end in middle.ends.values()]
        finally:
            await middle.close()
    assert min(relayed) > 0, "the attack itself must work, or this test shows nothing"
    assert len(words[0]) == len(words[1]) == 3
    assert words[0] != words[1]


async def test_with_a_key_the_middle_never_gets_a_call(hub: Hub, tmp_path: Path) -> None:
    # Fails when Sealer.open lets unsealed payloads through (signaling/sealed.py).
    key = new_key()
    async with pair(hub, tmp_path, keys=(key, key)) as devices:
        assert devices.carrier is not None
        middle = Middle(devices.carrier)
        try:
            await devices.press()
            await devices.expect("state", state="ended")
            await devices.expect("state", state="idle")
            refusals = [end.refusals for end in middle.ends.values()]
        finally:
            await middle.close()
    assert min(refusals) > 0, "the middle could read nothing"
    for device in devices.both:
        assert never_talked(device)
        assert distrusts(device)
        assert end_reason(device) == "peer_not_sealed"


async def test_with_a_key_a_changed_offer_is_refused_and_no_call_starts(hub: Hub, tmp_path: Path) -> None:
    # Fails without GCM's tag (signaling/sealed.py, open): then the changed bytes are taken.
    def spoil(_line: DeviceSocket, event: str, payload: Payload) -> list[tuple[str, Payload]]:
        if event not in ("offer", "answer"):
            return [(event, payload)]
        text = str(payload["sealed"])
        return [(event, payload | {"sealed": text[:600] + ("A" if text[600] != "A" else "B") + text[601:]})]

    key = new_key()
    async with pair(hub, tmp_path, keys=(key, key)) as devices:
        carrier = devices.carrier
        assert carrier is not None
        carrier.tamper = spoil
        await devices.press()
        await devices.expect("state", state="connecting")
        _, answerer = devices.offerer()
        refused, deadline = 0, time.monotonic() + WAIT_S
        while not refused:
            refused = (await answerer.stats())["refused"].get("seal_broken", 0)
            assert time.monotonic() < deadline, "the changed offer was taken"
        for device in devices.both:
            await device.press()  # nothing will come of it: the persons give up
        await until(lambda: all(end_reason(device) for device in devices.both))
    assert not any(event == "answer" for line in carrier.lines for event, _ in line.said)
    assert all(never_talked(device) for device in devices.both)


@pytest.mark.parametrize("event", ["offer", "answer"])
async def test_a_fingerprint_swapped_on_one_side_ends_before_any_sound(
    hub: Hub, tmp_path: Path, event: str
) -> None:
    # Fails without EdgeCertificate._verify (webrtc/dtls.py): aiortc looks only after the handshake.
    other = new_certificate().sha256

    def swap(_line: DeviceSocket, said: str, payload: Payload) -> list[tuple[str, Payload]]:
        if said == event:
            payload = payload | {"sdp": swap_fingerprint(str(payload["sdp"]), other)}
        return [(said, payload)]

    async with pair(hub, tmp_path) as devices:
        assert devices.carrier is not None
        devices.carrier.tamper = swap
        await devices.press()
        await devices.expect("state", state="ended")
        await devices.expect("state", state="idle")
        offerer, answerer = devices.offerer()
    deceived = answerer if event == "offer" else offerer
    assert end_reason(deceived) == "fingerprint_mismatch"
    for device in devices.both:
        assert never_talked(device)
        assert distrusts(device)
        assert not happened(device, "words")


async def test_check_words_that_are_taken_out_are_missed_aloud(hub: Hub, tmp_path: Path) -> None:
    # Fails without the timer WORDS (call/conversation.py): who does not expect words does not miss them.
    async with pair(hub, tmp_path) as devices:
        assert devices.carrier is not None
        devices.carrier.tamper = without_words
        await devices.press()
        await devices.expect("tone", tone="words_unavailable")
    assert not any(happened(device, "words") for device in devices.both)


def without_words(_line: DeviceSocket, event: str, payload: Payload) -> list[tuple[str, Payload]]:
    kept = {name: value for name, value in payload.items() if name not in ("nonce", "commitment")}
    return [] if event == "reveal" else [(event, kept)]


async def test_words_bound_to_another_certificate_end_the_call(hub: Hub, tmp_path: Path) -> None:
    # Fails without the check of the commitment (call/words.py, WordsExchange.words).
    def forget(_line: DeviceSocket, event: str, payload: Payload) -> list[tuple[str, Payload]]:
        if event == "hello" and payload.get("commitment"):
            payload = payload | {"commitment": "ab" * 32}
        return [(event, payload)]

    async with pair(hub, tmp_path) as devices:
        assert devices.carrier is not None
        devices.carrier.tamper = forget
        await devices.press()
        await devices.expect("state", state="ended")
    assert "bad_commitment" in {end_reason(device) for device in devices.both}
    assert all(distrusts(device) for device in devices.both)
    assert not any(happened(device, "words") for device in devices.both)
