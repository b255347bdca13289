"""Descriptions: what we write reads back, what browsers write is taken, what is unsafe is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicemeet_edge.errors import SdpError
from voicemeet_edge.webrtc.options import IcePolicy
from voicemeet_edge.webrtc.sdp import (
    MAX_BYTES,
    IceCandidate,
    LocalDescription,
    leaks,
    parse,
    parse_candidate,
    write,
    write_candidate,
)

FINGERPRINT = ":".join(["AB"] * 32)

# The shape of Chromium's offer for one microphone, with everything it says that we do not use.
CHROMIUM = "\r\n".join(
    [
        "v=0",
        "o=- 4611731400430051336 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS 5f0a",
        "m=audio 56789 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126",
        "c=IN IP4 203.0.113.9",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=candidate:2413282371 1 udp 2122260223 9d1a7d4c-6a30-4d0f-9f3a-0f6b2a0c1d2e.local 56789 typ host "
        "generation 0 network-id 1 network-cost 10",
        "a=candidate:842163049 1 udp 1686052607 203.0.113.9 56789 typ srflx raddr 0.0.0.0 rport 0",
        "a=candidate:3388485749 1 tcp 1518280447 9d1a7d4c-6a30-4d0f-9f3a-0f6b2a0c1d2e.local 9 typ host "
        "tcptype active generation 0",
        "a=ice-ufrag:Zb4/",
        "a=ice-pwd:0123456789abcdefABCDEF+/",
        "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "a=setup:actpass",
        "a=mid:0",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=sendrecv",
        "a=msid:5f0a 7c2e",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:111 opus/48000/2",
        "a=rtcp-fb:111 transport-cc",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:63 red/48000/2",
        "a=fmtp:63 111/111",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:13 CN/8000",
        "a=rtpmap:110 telephone-event/48000",
        "a=rtpmap:126 telephone-event/8000",
        "a=ssrc:2841293742 cname:Yd3p",
        "a=ssrc:2841293742 msid:5f0a 7c2e",
        "",
    ]
)
LOCAL = LocalDescription(
    session_id=1234,
    ufrag="abcd",
    password="p" * 22,
    fingerprint=FINGERPRINT,
    setup="actpass",
    ssrc=99,
    cname="c",
    candidates=(
        IceCandidate("1", 100, "192.0.2.7", 4000, "host"),
        IceCandidate("2", 90, "198.51.100.7", 4001, "srflx"),
        IceCandidate("3", 10, "198.51.100.1", 4002, "relay"),
        IceCandidate("4", 100, "2001:db8::7", 4003, "host"),
    ),
)


def without(text: str, start: str) -> str:
    return "\r\n".join(line for line in text.split("\r\n") if not line.startswith(start))


def test_our_offer_reads_back() -> None:
    remote = parse(write(LOCAL))
    assert remote.candidates == LOCAL.candidates
    assert remote.candidates_end
    assert (remote.ufrag, remote.password) == (LOCAL.ufrag, LOCAL.password)
    assert remote.fingerprint_sha256() == bytes([0xAB] * 32)
    assert (remote.setup, remote.mid, remote.bundled) == ("actpass", "0", True)
    assert (remote.opus_type, remote.red_type) == (111, None)


def test_red_is_written_and_read_only_when_wanted() -> None:
    assert parse(write(replace(LOCAL, red=True))).red_type == 63
    assert "red" not in write(LOCAL)


def test_our_offer_says_nothing_else() -> None:
    text = write(LOCAL)
    for word in ("extmap", "rtcp-fb", "audio-level", "abs-send-time", "PCMU", "telephone-event"):
        assert word not in text
    assert "useinbandfec=1" in text
    assert "cbr=1" in text
    for line in text.split("\r\n"):
        if line.startswith(("c=", "o=", "a=rtcp:")):
            assert re.search(r" (0\.0\.0\.0|127\.0\.0\.1)$", line)


def test_chromiums_offer_is_taken() -> None:
    remote = parse(CHROMIUM)
    assert [candidate.kind for candidate in remote.candidates] == ["host", "srflx"]
    assert remote.candidates[0].is_name
    assert not remote.candidates_end
    assert (remote.opus_type, remote.red_type, remote.direction) == (111, 63, "sendrecv")


def test_the_answer_fits_the_offer() -> None:
    rejected = "m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:v\r\na=inactive\r\n"
    head, audio = CHROMIUM.split("m=audio", 1)
    offer = parse((head + rejected + "m=audio" + audio).replace("111", "96"))
    answer = write(replace(LOCAL, setup="active", answer_to=offer))
    media = [line for line in answer.split("\r\n") if line.startswith("m=")]
    assert media == ["m=video 0 UDP/TLS/RTP/SAVPF 96", "m=audio 9 UDP/TLS/RTP/SAVPF 96"]
    assert "a=group:BUNDLE 0\r\n" in answer
    assert "a=rtpmap:96 opus/48000/2" in answer


def test_the_answer_bundles_only_what_was_offered_bundled() -> None:
    offer = parse(without(CHROMIUM, "a=group"))
    assert "BUNDLE" not in write(replace(LOCAL, answer_to=offer))
    assert "a=mid" not in write(replace(LOCAL, answer_to=parse(without(CHROMIUM, "a=mid"))))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_sdp"),
        ("hello", "bad_sdp"),
        (without(CHROMIUM, "a=fingerprint"), "no_fingerprint"),
        (CHROMIUM.replace("sha-256", "sha-1"), "no_fingerprint"),
        (CHROMIUM.replace("AB:AB", "AB", 1), "bad_fingerprint"),
        (CHROMIUM.replace("UDP/TLS/RTP/SAVPF", "RTP/AVPF"), "no_encryption"),
        (CHROMIUM.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVPF"), "no_encryption"),
        (CHROMIUM.replace("m=audio", "m=video"), "wrong_media"),
        (CHROMIUM.replace("m=audio 56789", "m=audio 0"), "no_audio"),
        (CHROMIUM + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "several_media"),
        (CHROMIUM + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "wrong_media"),
        (CHROMIUM + "m=video 0 UDP/TLS/RTP/SAVPF 9\r\n" * 5, "several_media"),
        (CHROMIUM.replace("opus/48000/2", "PCMU/8000"), "no_opus"),
        (without(CHROMIUM, "a=rtcp-mux"), "no_rtcp_mux"),
        (without(CHROMIUM, "a=setup"), "no_setup"),
        (CHROMIUM.replace("setup:actpass", "setup:holdconn"), "no_setup"),
        (without(CHROMIUM, "a=ice-pwd"), "no_ice"),
        (CHROMIUM.replace("ice-ufrag:Zb4/", "ice-ufrag:x"), "no_ice"),
        (CHROMIUM + "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n" * 40, "too_many_candidates"),
        (CHROMIUM + "a=candidate:1 1 udp x 192.0.2.1 1 typ host\r\n", "bad_candidate"),
        (CHROMIUM + "a=x\r\n" * 500, "sdp_too_large"),
        (CHROMIUM + "a=" + "x" * MAX_BYTES, "sdp_too_large"),
        (CHROMIUM + "a=" + "x" * 2000, "bad_sdp"),
        (CHROMIUM.replace("a=mid:0", "a=mid:\x00"), "bad_sdp"),
    ],
)
def test_what_is_refused_says_why(text: str, code: str) -> None:
    with pytest.raises(SdpError) as refused:
        parse(text)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "text",
    [
        "candidate:1 2 udp 1 192.0.2.1 1000 typ host",
        "candidate:1 1 tcp 1 192.0.2.1 1000 typ host tcptype passive",
        "candidate:1 1 udp 1 example.com 1000 typ host",
        "candidate:1 1 udp 1 224.0.0.1 1000 typ host",
        "candidate:1 1 udp 1 0.0.0.0 1000 typ host",
        "candidate:1 1 udp 1 fe80::1%eth0 1000 typ host",
        "candidate:1 1 udp 1 x.local 1000 typ srflx",
        "candidate:1 1 udp 1 192.0.2.1 0 typ host",
        "candidate:1 1 udp 1 192.0.2.1 1000 typ other",
    ],
)
def test_candidates_we_pass_over(text: str) -> None:
    assert parse_candidate(text) is None


def test_leaks_are_found() -> None:
    text = write(LOCAL)
    assert leaks(text, IcePolicy.DIRECT) == []
    assert len(leaks(text, IcePolicy.RELAY)) == 3
    relay = write(replace(LOCAL, candidates=LOCAL.candidates[2:3]))
    assert leaks(relay, IcePolicy.RELAY) == []
    assert leaks(relay.replace("raddr 0.0.0.0", "raddr 192.0.2.7"), IcePolicy.RELAY)
    assert leaks(relay.replace("c=IN IP4 0.0.0.0", "c=IN IP4 192.0.2.7"), IcePolicy.RELAY)
    assert leaks(relay.replace("o=- 1234 2 IN IP4 127.0.0.1", "o=- 1 2 IN IP6 2001:db8::7"), IcePolicy.RELAY)
    named = write(replace(LOCAL, candidates=(IceCandidate("1", 1, "a-b.local", 5, "host"),)))
    assert leaks(named, IcePolicy.MDNS) == []
    assert leaks(text, IcePolicy.MDNS)


candidates = st.builds(
    IceCandidate,
    foundation=st.text("0123456789abcdefAZ+/", min_size=1, max_size=32),
    priority=st.integers(0, 2**32 - 1),
    address=st.ip_addresses().filter(lambda a: not a.is_multicast and not a.is_unspecified).map(str),
    port=st.integers(1, 65535),
    kind=st.sampled_from(["host", "srflx", "prflx", "relay"]),
)


@given(candidates)
def test_any_candidate_reads_back(candidate: IceCandidate) -> None:
    assert parse_candidate(write_candidate(candidate)) == candidate


@given(st.lists(candidates, max_size=32, unique=True), st.booleans())
@settings(max_examples=50)
def test_any_description_reads_back(found: list[IceCandidate], red: bool) -> None:
    remote = parse(write(replace(LOCAL, candidates=found, red=red)))
    assert list(remote.candidates) == found
    assert write(replace(LOCAL, answer_to=remote))


lines = st.one_of(
    st.sampled_from(CHROMIUM.split("\r\n")),
    st.text(max_size=40),
    st.builds("a={}:{}".format, st.sampled_from(["candidate", "mid", "group", "rtpmap", "fmtp"]), st.text()),
)


@given(
    st.one_of(
        st.text(), st.lists(lines).map("\r\n".join), st.lists(lines).map(lambda x: "v=0\n" + "\n".join(x))
    )
)
@settings(max_examples=300)
def test_any_text_gives_a_description_or_an_sdp_error(text: str) -> None:
    try:
        remote = parse(text)
    except SdpError:
        return
    assert parse(write(replace(LOCAL, answer_to=remote, setup="active"))).opus_type == remote.opus_type


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_offer_gives_a_description_or_an_sdp_error(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(CHROMIUM)))
    end = data.draw(st.integers(start, min(len(CHROMIUM), start + 30)))
    text = CHROMIUM[:start] + data.draw(st.text(max_size=8)) + CHROMIUM[end:]
    try:
        remote = parse(text)
    except SdpError:
        return
    parse(write(replace(LOCAL, answer_to=remote)))
