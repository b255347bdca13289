"""Signaling under attack: recorded, replayed, reordered, spliced, reflected, truncated, and by strangers."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import cast

import aiohttp
import jwt
import pytest

from tests.attacks.lab import WAIT_S, Hub, distrusts, end_reason, happened, never_talked, new_key, pair
from voicemeet_edge.call.keys import parse_key
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.demo.remote import RemoteDevice
from voicemeet_edge.errors import SignalingError
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling import sealed
from voicemeet_edge.signaling.sealed import Sealer, make_envelope
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.testing.descriptions import leaks
from voicemeet_edge.testing.hostile import HostileCarrier, Payload
from voicemeet_edge.webrtc.sdp import parse

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SIZES = {sealed.SMALL_BYTES, *range(sealed.STEP_BYTES, sealed.MAX_PLAIN_BYTES + 1, sealed.STEP_BYTES)}


def size_of(payload: Payload) -> int:
    """How long the plain text of a sealed message is; anybody on the way can see that much."""
    text = str(payload["sealed"])
    return len(base64.urlsafe_b64decode(text + "==")) - sealed.PREFIX_BYTES - sealed.TAG_BYTES


async def test_with_a_key_a_recording_hub_learns_nothing(hub: Hub, tmp_path: Path) -> None:
    # Fails with NoSeal in make_envelope (signaling/sealed.py), and with _pad returning its input.
    key = new_key()
    async with pair(hub, tmp_path, keys=(key, key), policy="direct") as devices:
        await devices.call()
        await devices.hang_up()
        assert devices.carrier is not None
        lines, record = devices.carrier.lines, b"\n".join(devices.carrier.record)
    said = [(event, payload) for line in lines for event, payload in line.said]
    assert {"hello", "offer", "answer"} <= {event for event, _ in said}
    assert {tuple(payload) for _, payload in said} == {("v", "slot", "seq", "f", "k", "sealed")}
    assert {size_of(payload) for _, payload in said} <= SIZES
    small = {size_of(payload) for event, payload in said if event not in ("offer", "answer")}
    assert small == {sealed.SMALL_BYTES}
    for word in (
        b"candidate",
        b"fingerprint",
        b"ice-ufrag",
        b"v=0",
        b"commitment",
        b"typ host",
        key.encode(),
    ):
        assert word not in record, word


async def test_without_a_key_the_same_recording_hub_sees_descriptions(hub: Hub, tmp_path: Path) -> None:
    """What the test above looks for is what an unsealed call says: it would be found."""
    async with pair(hub, tmp_path, policy="direct") as devices:
        await devices.call()
        assert devices.carrier is not None
        record = b"\n".join(devices.carrier.record)
    for word in (b"candidate", b"fingerprint", b"ice-ufrag", b"v=0", b"commitment", b"typ host"):
        assert word in record, word


async def test_relay_only_descriptions_hold_the_relay_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    # Fails when _publish in webrtc/ice.py publishes host candidates too.
    async with pair(hub, tmp_path, ice={"addresses": [], "ipv6": True}) as devices:
        await devices.call()
        assert devices.carrier is not None
        said = [payload for line in devices.carrier.lines for _, payload in line.said]
    descriptions = [str(payload["sdp"]) for payload in said if "sdp" in payload]
    assert len(descriptions) >= 2
    for text in descriptions:
        assert leaks(text, IcePolicy.RELAY) == []
        assert {candidate.kind for candidate in parse(text).candidates} == {"relay"}
        assert {candidate.address for candidate in parse(text).candidates} == {hub.turn.host}


async def refused(device: RemoteDevice, *expected: str) -> dict[str, int]:
    """Ask a device what it refused until all of these were; a message takes its way."""
    counts: dict[str, int] = {}
    deadline = time.monotonic() + WAIT_S
    while not set(expected) <= set(counts):
        counts = (await device.stats())["refused"]
        assert time.monotonic() < deadline, f"not refused: {set(expected) - set(counts)} of {counts}"
    return counts


async def still_talking(device: RemoteDevice) -> None:
    """The call goes on: packets come, and nobody saw a state but talking."""
    before = (await device.stats())["media"]["packets_received"]
    deadline = time.monotonic() + WAIT_S
    while (await device.stats())["media"]["packets_received"] <= before + 10:
        assert time.monotonic() < deadline, "no packets come any more"
    states = [event["state"] for event in device.events if event["event"] == "state"]
    assert states[-1] == "talking"


async def recorded_call(hub: Hub, directory: Path, key: str) -> list[tuple[str, Payload]]:
    """What slot b said in another call with the same key."""
    async with pair(hub, directory, keys=(key, key)) as devices:
        await devices.call()
        assert devices.carrier is not None
        return list(devices.carrier.line("b").said)


async def test_a_sealed_call_survives_every_forgery(hub: Hub, tmp_path: Path) -> None:
    # Fails without the window (_Window.check), the slot check, the key ids, or GCM's tag in Sealer.open.
    key = new_key()
    old = await recorded_call(hub, tmp_path / "earlier", key)
    async with pair(hub, tmp_path, keys=(key, key)) as devices:
        await devices.call()
        carrier = devices.carrier
        assert carrier is not None
        victim, heard = carrier.line("a"), carrier.line("b").said
        device = device_in_slot(devices.both, carrier, "a")
        good = heard[0][1]
        text = str(good["sealed"])
        await victim.tell(*heard[-1])  # replayed; the first may have been said to nobody yet
        await victim.tell(*victim.said[0])  # reflected
        await victim.tell(old[0][0], old[0][1] | {"seq": 40})  # spliced in from another call
        await victim.tell("bye", good | {"seq": 41})  # another event, another number
        await victim.tell("offer", good | {"seq": 42, "sealed": text[:-40]})  # truncated
        await victim.tell("bye", good | {"seq": 43, "sealed": "A" * 40_000})  # longer than anything
        await victim.tell("bye", {"v": 1, "slot": "b", "seq": 44, "reason": "hung_up"})  # not sealed
        await victim.tell("bye", good | {"seq": 2**53})  # beyond what JavaScript counts
        stranger = Sealer([parse_key(Secret(new_key()))], carrier.match("a").call_id, "b")
        bye: Payload = {"v": 1, "slot": "b", "seq": 45, "reason": "hung_up"}
        await victim.tell("bye", stranger.seal("bye", bye))  # a good seal of another deployment
        expected = (
            "replay",
            "reflection",
            "seal_broken",
            "truncated",
            "too_big",
            "peer_not_sealed",
            "malformed",
        )
        counts = await refused(device, *expected, "not_fresh")
        await still_talking(device)
        await devices.hang_up()
    assert {name: counts[name] for name in expected} == dict.fromkeys(expected, 1)
    assert counts["not_fresh"] == 2
    assert not any(happened(one, "tone", tone="distrust") for one in devices.both)


async def test_an_open_call_survives_replay_reflection_and_nonsense(hub: Hub, tmp_path: Path) -> None:
    # Fails without MessageFilter.accept in CallSession._receive (call/session.py).
    async with pair(hub, tmp_path) as devices:
        await devices.call()
        carrier = devices.carrier
        assert carrier is not None
        victim, heard = carrier.line("a"), carrier.line("b").said
        device = device_in_slot(devices.both, carrier, "a")
        await victim.tell(*heard[-1])  # replayed; the first may have been said to nobody yet
        await victim.tell(*victim.said[0])  # reflected
        await victim.tell("bye", {"v": 1, "slot": "b", "seq": 50_000, "reason": "hung_up"})  # jumped ahead
        await victim.tell("bye", {"v": 1, "slot": "b", "seq": 30})  # truncated: no reason
        number = len(heard) + 5  # further on, but not so far that the true messages look stale
        await victim.tell("ring", {"v": 1, "slot": "b", "seq": number})  # unasked: nobody was called
        counts = await refused(device, "replayed", "reflected", "jumped", "malformed", "unasked")
        await still_talking(device)
        await devices.hang_up()
    assert counts["replayed"] == counts["reflected"] == counts["jumped"] == counts["malformed"] == 1


@pytest.mark.parametrize("sealing", ["sealed", "open"])
async def test_order_is_forgiven_within_a_window_and_not_beyond(
    hub: Hub, tmp_path: Path, sealing: str
) -> None:
    # Fails with a window of one message (WINDOW, REORDER_WINDOW) and with one of a thousand.
    key = new_key() if sealing == "sealed" else ""
    async with pair(hub, tmp_path, keys=(key, key)) as devices:
        await devices.call()
        carrier = devices.carrier
        assert carrier is not None
        victim = carrier.line("a")
        device = device_in_slot(devices.both, carrier, "a")
        keys = [parse_key(Secret(key))] if key else []
        envelope = make_envelope(keys, carrier.match("b").call_id, "b")
        if isinstance(envelope, Sealer):
            # Somebody who has the key: the device takes what it says for the other end's.
            mine, theirs = (carrier.line(slot).said[-1][1]["f"] for slot in ("b", "a"))
            envelope._fresh = base64.urlsafe_b64decode(f"{mine}==")
            heard = envelope._hear(base64.urlsafe_b64decode(f"{theirs}=="))
            assert heard is not None
            envelope._send = heard.send
        last = max(cast("int", payload["seq"]) for _, payload in carrier.line("b").said)
        rings = {
            ahead: envelope.seal("ring", {"v": 1, "slot": "b", "seq": last + ahead})
            for ahead in (1, 2, 3, 10, 90)
        }
        for ahead in (3, 1, 2):
            await victim.tell("ring", rings[ahead])
        await victim.tell("ring", rings[90])
        await victim.tell("ring", rings[10])
        beyond = "old" if key else "stale"
        counts = await refused(device, "unasked", beyond)
        await still_talking(device)
    assert counts["unasked"] == 4, "all four were understood: nobody was called, so nothing rings"
    assert counts[beyond] == 1


def device_in_slot(
    both: tuple[RemoteDevice, RemoteDevice], carrier: HostileCarrier, slot: str
) -> RemoteDevice:
    """Find the device that got this slot: it is the one the server told to offer, or the other."""
    offers = carrier.match(slot).offerer == slot
    return next(
        device
        for device in both
        if any(event["event"] == "matched" and event["offerer"] == offers for event in device.events)
    )


@pytest.mark.parametrize(
    ("with_keys", "reasons"), [(2, {"wrong_key"}), (1, {"peer_sealed", "peer_not_sealed"})]
)
async def test_an_end_with_another_key_or_none_is_refused_on_both_sides(
    hub: Hub, tmp_path: Path, with_keys: int, reasons: set[str]
) -> None:
    # Fails without _KEY_TROUBLE (call/session.py): then it ends as peer_absent, without a warning.
    keys = (new_key(), new_key() if with_keys == 2 else "")
    async with pair(hub, tmp_path, keys=keys, carried=False) as devices:
        await devices.press()
        await devices.expect("state", state="ended")
        await devices.expect("tone", tone="distrust")
    assert {end_reason(device) for device in devices.both} <= reasons
    assert all(never_talked(device) and distrusts(device) for device in devices.both)


async def test_strangers_get_neither_in_nor_a_word_out(hub: Hub, tmp_path: Path) -> None:
    # Fails when HubAuthorizer.may_read or may_write says yes to everything private.
    async with pair(hub, tmp_path) as devices:
        await devices.call()
        carrier = devices.carrier
        assert carrier is not None
        grant = carrier.match("a")
        topic = f"call:{grant.call_id}"
        claims = jwt.decode(grant.token.reveal(), options={"verify_signature": False})
        secret = hub.secrets.jwt.reveal()
        expired = jwt.encode(claims | {"exp": int(time.time()) - 60}, secret, "HS256")
        other_call = jwt.encode(claims | {"call_id": "0" * len(grant.call_id)}, secret, "HS256")
        forged = jwt.encode(claims, "another secret of thirty-two characters", "HS256")
        unsigned = jwt.encode(claims, "", "none")
        for token in (hub.apikey.reveal(), expired, other_call, forged, unsigned, "nonsense"):
            await cannot_join(hub, topic, token)
            await cannot_say(hub, topic, token)
        await still_talking(devices.first)
        await still_talking(devices.second)
        await devices.hang_up()
    assert not any(event == "intruder" for line in carrier.lines for event, _ in line.said)
    assert b"intruder" not in b"".join(carrier.record), "nothing of it was delivered"


async def cannot_join(hub: Hub, topic: str, token: str) -> None:
    """Join a call's topic with the deployment's key and this token: refused, by code and for good."""
    socket = RealtimeSocket(hub.url, hub.apikey)
    running = asyncio.create_task(socket.run())
    try:
        channel = socket.channel(
            topic, Secret(token), on_broadcast=lambda _event, _payload: None, on_state=lambda _state: None
        )
        with pytest.raises(SignalingError):
            await channel.joined(3.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def cannot_say(hub: Hub, topic: str, token: str) -> None:
    """Say something there over HTTP, as the official clients can."""
    message = {"topic": topic, "event": "intruder", "payload": {"v": 1}, "private": True}
    headers = {"apikey": hub.apikey.reveal(), "Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{hub.url}/realtime/v1/api/broadcast", json={"messages": [message]}, headers=headers
        ) as answer,
    ):
        assert answer.status in (202, 401, 403)  # 202 as hosted: dropped without a word
