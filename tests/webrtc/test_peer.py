"""Two real peers over loopback: descriptions, voice, refusals, the end."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import threading
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.webrtc.ends import WAIT_S, End, ends, join, talk_in_threads
from voicemeet_edge.errors import MediaError, SdpError
from voicemeet_edge.webrtc.dtls import EdgeCertificate
from voicemeet_edge.webrtc.events import Closed, Connected, Failed
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.peer import new_certificate

PAYLOAD = bytes(range(80))


async def test_voice_crosses_both_ways_encrypted() -> None:
    async with ends() as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        await answerer.hears(caller, PAYLOAD, 5)
        await caller.hears(answerer, PAYLOAD, 5)
        assert {packet.payload for packet in caller.packets + answerer.packets} == {PAYLOAD}
        first, second = answerer.packets[:2]
        assert second.timestamp - first.timestamp & 0xFFFFFFFF == 960
        assert second.sequence - first.sequence & 0xFFFF == 1
        assert first.arrival <= second.arrival
        stats = caller.peer.stats()
        assert (stats.local_kind, stats.remote_kind) == ("host", "host")
        assert stats.srtp_profile == "SRTP_AEAD_AES_256_GCM"
        assert stats.packets_received >= 5
        assert stats.last_rtp_at is not None


async def test_both_ends_know_the_same_fingerprints() -> None:
    async with ends() as (caller, answerer):
        await join(caller, answerer)
        here, there = caller.peer.fingerprints(), answerer.peer.fingerprints()
        assert (here.ours, here.theirs) == (there.theirs, there.ours)
        assert len(here.ours) == 32


@pytest.mark.parametrize("who", ["caller", "answerer"])
async def test_a_swapped_fingerprint_ends_the_call_before_any_voice(who: str) -> None:
    """Whichever side is lied to, neither end completes, and no voice is accepted or sent."""

    def swap(text: str) -> str:
        return re.sub(r"(a=fingerprint:sha-256 )..", r"\g<1>00", text)

    async with ends() as (caller, answerer):
        offer = await caller.peer.create_offer()
        answer = await answerer.peer.create_answer(swap(offer) if who == "answerer" else offer)
        await caller.peer.accept_answer(swap(answer) if who == "caller" else answer)
        failures = [await end.event(Failed) for end in (caller, answerer)]
        codes = [failure.error.code for failure in failures if isinstance(failure, Failed)]
        expected = ["fingerprint_mismatch", "certificate_refused"]
        assert codes == (expected if who == "caller" else expected[::-1])
        for end in (caller, answerer):
            end.peer.send(PAYLOAD, 0)
            assert end.peer.stats().packets_sent == 0
            assert not any(isinstance(event, Connected) for event in end.events)
        assert not caller.packets
        assert not answerer.packets


async def test_hanging_up_tells_the_other_end() -> None:
    async with ends() as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        await caller.peer.close()
        await answerer.event(Closed)
        assert len(caller.events) == 1  # who hangs up is told nothing


async def test_the_other_end_is_told_from_any_thread_that_the_process_ends() -> None:
    # Fails when a device whose loop hangs leaves who is talked to waiting for it.
    async with ends() as (caller, answerer):
        caller.peer.close_notify()  # not yet encrypted: nothing to say, nobody to say it to
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        await asyncio.to_thread(caller.peer.close_notify)
        await answerer.event(Closed)


@pytest.mark.parametrize("epoch", [0, 1])
async def test_a_forged_end_from_the_right_address_ends_nothing(epoch: int) -> None:
    # Who can send in the peer's name could else hang up every call (RFC 6347 §4.1.2.7).
    async with ends() as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        for end in (b"\1\0", b"\2\x28"):  # close_notify; a fatal alert
            header = bytes((21, 0xFE, 0xFD)) + epoch.to_bytes(2) + (1 << 40).to_bytes(6) + bytes((0, 2))
            caller.peer._connection.send_now(header + end)
        await answerer.hears(caller, PAYLOAD, 5)
        assert not any(isinstance(event, Closed | Failed) for event in answerer.events)
        await answerer.hears(caller, PAYLOAD, 5)


async def test_reports_carry_loss_and_round_trip() -> None:
    async with ends() as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        await answerer.hears(caller, PAYLOAD, 20)
        # Twenty packets that never leave: the answerer must report them.
        sequence = caller.peer._sequence
        caller.peer._sequence = sequence + 20 & 0xFFFF
        said: list[float] = []
        async with asyncio.timeout(WAIT_S):
            while not said or caller.peer.stats().round_trip_s is None:
                await answerer.hears(caller, PAYLOAD)
                said += [caller.peer.stats().remote_loss] if caller.peer.stats().remote_loss else []
        assert 0 < said[0] < 1


async def test_descriptions_out_of_turn_are_refused() -> None:
    async with ends() as (caller, answerer):
        offer = await caller.peer.create_offer()
        answer = await answerer.peer.create_answer(offer)
        await caller.peer.accept_answer(answer)
        for attempt in (
            caller.peer.accept_answer(answer),
            answerer.peer.create_answer(offer),
            answerer.peer.accept_answer(answer),
            caller.peer.create_answer(offer),
        ):
            with pytest.raises(SdpError):
                await attempt
        await asyncio.gather(caller.connected(), answerer.connected())


async def test_trickled_candidates_are_enough() -> None:
    async with ends() as (caller, answerer):
        offer = await caller.peer.create_offer()
        answer = await answerer.peer.create_answer(offer)
        lines = answer.splitlines()
        candidates = [line for line in lines if line.startswith("a=candidate:")]
        bare = [line for line in lines if line not in candidates and line != "a=end-of-candidates"]
        bare.insert(4, "a=ice-options:trickle")
        await caller.peer.add_candidate(candidates[0].removeprefix("a="), "0")
        await caller.peer.accept_answer("\r\n".join(bare) + "\r\n")
        await caller.peer.add_candidate(None, "0")
        await asyncio.gather(caller.connected(), answerer.connected())


async def test_candidates_that_come_without_having_been_announced_are_enough() -> None:
    async with ends() as (caller, answerer):
        answer = await answerer.peer.create_answer(await caller.peer.create_offer())
        lines = answer.splitlines()
        candidates = [line for line in lines if line.startswith("a=candidate:")]
        bare = [line for line in lines if line not in candidates and line != "a=end-of-candidates"]
        await caller.peer.accept_answer("\r\n".join(bare) + "\r\n")
        await asyncio.sleep(0.1)
        await caller.peer.add_candidate(candidates[0].removeprefix("a="), None)
        await asyncio.gather(caller.connected(), answerer.connected())


def foreign(kind: str) -> EdgeCertificate:
    """A certificate as other programs have it, and their willingness to use its ciphers."""
    key: Any = rsa.generate_private_key(65537, 2048)
    if kind == "P-384":
        key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "FreeSWITCH")])
    now = datetime.datetime.now(datetime.UTC)
    draft = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    week = datetime.timedelta(days=7)
    draft = draft.not_valid_before(now - week).not_valid_after(now + week)
    return EdgeCertificate(key, draft.sign(key, hashes.SHA256()))


@pytest.mark.parametrize("offers", [True, False])
@pytest.mark.parametrize("kind", ["P-384", "RSA"])
async def test_certificates_of_other_programs(kind: str, offers: bool) -> None:
    ours, theirs = End(), End(certificate=foreign(kind))
    try:
        await (join(theirs, ours) if offers else join(ours, theirs))
        await asyncio.gather(ours.connected(), theirs.connected())
        assert ours.peer.fingerprints().theirs == theirs.peer.fingerprints().ours
    finally:
        await ours.peer.close()
        await theirs.peer.close()


@pytest.mark.parametrize(
    ("more", "connects"),
    [
        ([("sha-256", 32)], True),  # another certificate, of which this one is not
        ([("sha-256", 32), ("sha-512", 64)], True),
        ([("sha-384", 48)], False),  # of this certificate, and wrong
    ],
)
async def test_one_of_several_certificates_is_enough(more: list[tuple[str, int]], connects: bool) -> None:
    lines = "".join(f"a=fingerprint:{name} {':'.join(['4F'] * size)}\r\n" for name, size in more)
    async with ends() as (caller, answerer):
        offer = (await caller.peer.create_offer()).replace("a=setup:", f"{lines}a=setup:")
        answer = await answerer.peer.create_answer(offer)
        if connects:
            with pytest.raises(MediaError):
                answerer.peer.fingerprints()  # which it is shows in the handshake
        await caller.peer.accept_answer(answer)
        if connects:
            await asyncio.gather(caller.connected(), answerer.connected())
            assert answerer.peer.fingerprints().theirs == caller.peer.fingerprints().ours
        else:
            failed = await answerer.event(Failed)
            assert isinstance(failed, Failed)
            assert failed.error.code == "fingerprint_mismatch"


async def test_an_answer_with_payload_types_of_its_own() -> None:
    """RFC 3264 §6.1: to it with its numbers, from it with ours; its own are taken from it too."""
    async with ends(PeerOptions(addresses=("127.0.0.1",), red=True)) as (caller, answerer):
        answer = await answerer.peer.create_answer(await caller.peer.create_offer())
        answer = answer.replace("111/111", "97/97")
        for ours, its in (("111", "97"), ("63", "98")):
            answer = answer.replace(f" {ours}", f" {its}").replace(f":{ours} ", f":{its} ")
        await caller.peer.accept_answer(answer)
        await asyncio.gather(caller.connected(), answerer.connected())
        await caller.hears(answerer, b"by the offer")
        assert caller.peer.red_payload_type == 97
        answerer.peer._types = {97: False, 98: True}
        await answerer.hears(caller, b"by the answer")
        caller.peer.send(b"\x61wrapped", 960 * 100, red=True)
        await answerer.until(lambda: answerer.packets[-1].red)


async def test_more_candidates_than_can_be_checked() -> None:
    tcp = [f"a=candidate:{n} 1 tcp {2105458943 - n} 10.0.0.{n} 9 typ host tcptype active" for n in range(40)]
    udp = [f"a=candidate:{n} 1 udp {2122187007 - n} 192.0.2.{n} 4000 typ host" for n in range(90)]
    async with ends() as (caller, answerer):
        offer = (await caller.peer.create_offer()).split("\r\n")
        at = next(n for n, line in enumerate(offer) if line.startswith("a=candidate:"))
        crowded = "\r\n".join([*offer[: at + 1], *tcp, *udp, *offer[at + 1 :]])
        await caller.peer.accept_answer(await answerer.peer.create_answer(crowded))
        await asyncio.gather(caller.connected(), answerer.connected())


async def test_a_peer_that_never_comes_fails_in_time() -> None:
    options = PeerOptions(addresses=("127.0.0.1",), connect_timeout_s=0.3)
    async with ends(options) as (caller, answerer):
        offer = await caller.peer.create_offer()
        await answerer.peer.create_answer(offer)  # the answer gets lost
        failed = await answerer.event(Failed)
        assert isinstance(failed, Failed)
        assert failed.error.code == "connect_timeout"


async def test_close_at_any_moment_and_twice() -> None:
    for stage in range(4):
        async with ends() as (caller, answerer):
            if stage > 0:
                offer = await caller.peer.create_offer()
            if stage > 1:
                answer = await answerer.peer.create_answer(offer)
            if stage > 2:
                await caller.peer.accept_answer(answer)
            await asyncio.gather(*(end.peer.close() for end in (caller, answerer)))
            await caller.peer.close()
            caller.peer.send(PAYLOAD, 0)


async def test_a_hundred_peers_leave_nothing_behind() -> None:
    async def call() -> None:
        async with ends() as (caller, answerer):
            await join(caller, answerer)
            await asyncio.gather(caller.connected(), answerer.connected())

    await call()
    await asyncio.sleep(0)
    before = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(50):
        await call()
    await asyncio.sleep(0)
    after = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), threading.active_count()
    assert after == before


async def test_redundancy_goes_through_as_it_is_and_is_marked() -> None:
    options = PeerOptions(addresses=("127.0.0.1",), red=True)
    async with ends(options) as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        assert caller.peer.red_payload_type == 111
        await answerer.hears(caller, b"plain", 2)
        assert not any(packet.red for packet in answerer.packets)
        before = len(answerer.packets)
        caller.peer.send(b"\x6fwrapped", 960 * 100, red=True)
        await answerer.until(lambda: len(answerer.packets) > before)
        assert answerer.packets[-1].red
        assert answerer.packets[-1].payload == b"\x6fwrapped"


async def test_redundancy_is_not_sent_to_a_peer_that_does_not_take_it() -> None:
    async with ends() as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        assert caller.peer.red_payload_type is None
        caller.peer.send(b"\x6fwrapped", 960, red=True)
        assert caller.peer.stats().packets_sent == 0


async def test_connections_of_one_call_share_a_certificate_and_expect_each_their_own_peer() -> None:
    mine, theirs = new_certificate(), new_certificate()
    seen = []
    for _ in range(2):
        caller, answerer = End(certificate=mine), End(certificate=theirs)
        try:
            await join(caller, answerer)
            await asyncio.gather(caller.connected(), answerer.connected())
            seen.append(caller.peer.fingerprints())
        finally:
            await caller.peer.close()
            await answerer.peer.close()
    assert seen[0] == seen[1]
    assert not mine.expected  # what one connection expects is not written into the shared one


async def test_voice_in_other_threads_than_the_loops() -> None:
    async with ends() as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        assert caller.peer.sends_in_any_thread
        await talk_in_threads(caller, answerer)
        # And the loop hears again what comes when nobody polls.
        await caller.hears(answerer)
