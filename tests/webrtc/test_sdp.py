"""Descriptions: what we write reads back, what browsers write is taken, what is unsafe is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.webrtc.test_candidates import any_candidate
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.errors import SdpError
from voicemeet_edge.testing.descriptions import leaks
from voicemeet_edge.webrtc.candidates import MAX_CANDIDATES, IceCandidate
from voicemeet_edge.webrtc.sdp import MAX_BYTES, MAX_REJECTED_LINES, PROFILES, LocalDescription, parse, write

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
    for word in ("extmap", "transport-cc", "audio-level", "abs-send-time", "PCMU", "telephone-event"):
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
        (CHROMIUM.replace("UDP/TLS/RTP/SAVPF", "RTP/FANCY"), "no_encryption"),
        (without(CHROMIUM.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "a=fingerprint"), "no_fingerprint"),
        (CHROMIUM.replace("m=audio", "m=video"), "no_audio"),
        (CHROMIUM.replace("m=audio 56789", "m=audio 0"), "no_audio"),
        (CHROMIUM + "m=video 0 UDP/TLS/RTP/SAVPF 9\r\n" * (MAX_REJECTED_LINES + 1), "several_media"),
        (CHROMIUM.replace("opus/48000/2", "PCMU/8000"), "no_opus"),
        (without(CHROMIUM, "a=rtcp-mux"), "no_rtcp_mux"),
        (without(CHROMIUM, "a=setup"), "no_setup"),
        (CHROMIUM.replace("setup:actpass", "setup:holdconn"), "no_setup"),
        (without(CHROMIUM, "a=ice-pwd"), "no_ice"),
        (CHROMIUM.replace("ice-ufrag:Zb4/", "ice-ufrag:x"), "no_ice"),
        (CHROMIUM + "a=" + "x" * MAX_BYTES, "sdp_too_large"),
        (CHROMIUM + "a=mid:" + "x" * 2000, "bad_sdp"),
        (CHROMIUM + f"a=fingerprint:sha-256 {FINGERPRINT[:-2]}{{}}\r\n", "bad_fingerprint"),
        (CHROMIUM.replace("a=mid:0", "a=mid:\x00"), "bad_sdp"),
    ],
)
def test_what_is_refused_says_why(text: str, code: str) -> None:
    with pytest.raises(SdpError) as refused:
        parse(text)
    assert refused.value.code == code


VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\na=sendrecv\r\n"
CHANNEL = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_name_of_rfc_8829_is_taken_and_mirrored(profile: str) -> None:
    offer = parse(CHROMIUM.replace("UDP/TLS/RTP/SAVPF", profile))
    assert f"m=audio 9 {profile} 111\r\n" in write(replace(LOCAL, answer_to=offer))


@pytest.mark.parametrize("direction", ["sendrecv", "sendonly", "recvonly", "inactive"])
def test_the_direction_is_mirrored(direction: str) -> None:
    answers = {"sendonly": "recvonly", "recvonly": "sendonly"}
    offer = parse(CHROMIUM.replace("a=sendrecv", f"a={direction}"))
    assert f"a={answers.get(direction, direction)}\r\n" in write(replace(LOCAL, answer_to=offer))


@pytest.mark.parametrize("level", ["session", "media"])
@pytest.mark.parametrize(
    "name", ["ice-ufrag", "ice-pwd", "fingerprint", "setup", "sendrecv", "rtcp-mux", "candidate"]
)
def test_an_attribute_may_stand_at_either_level(name: str, level: str) -> None:
    lines = [line for line in CHROMIUM.split("\r\n") if line.startswith(f"a={name}")]
    rest = [line for line in CHROMIUM.split("\r\n") if not line.startswith(f"a={name}")]
    place = 4 if level == "session" else len(rest) - 1
    moved = parse("\r\n".join([*rest[:place], *lines, *rest[place:]]))
    assert moved == parse(CHROMIUM)


def test_rtcp_mux_only_is_enough() -> None:
    assert parse(CHROMIUM.replace("a=rtcp-mux\r\n", "a=rtcp-mux-only\r\n")) == parse(CHROMIUM)


def test_only_what_says_so_is_the_end_of_candidates() -> None:
    assert not parse(CHROMIUM).candidates_end
    assert not parse(
        without(CHROMIUM, "a=ice-options")
    ).candidates_end  # trickled all the same: Pion before 4.1
    assert parse(CHROMIUM + "a=end-of-candidates\r\n").candidates_end
    assert parse(CHROMIUM.replace("t=0 0", "t=0 0\r\na=end-of-candidates")).candidates_end
    # That another line has no more says nothing about ours.
    assert not parse(CHROMIUM + VIDEO + "a=end-of-candidates\r\n").candidates_end


def test_what_we_do_not_want_is_answered_with_port_0() -> None:
    head, audio = CHROMIUM.split("m=audio", 1)
    offer = parse(head + VIDEO + "m=audio" + audio + CHANNEL + VIDEO.replace("video", "audio"))
    media = [line for line in write(replace(LOCAL, answer_to=offer)).split("\r\n") if line.startswith("m=")]
    assert media == [
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "m=audio 0 UDP/TLS/RTP/SAVPF 96",
    ]


def test_a_bundled_line_with_port_0_is_not_a_rejected_one() -> None:
    assert parse(CHROMIUM.replace("m=audio 56789", "m=audio 0") + "a=bundle-only\r\n").mid == "0"


def test_several_fingerprints_are_several_certificates() -> None:
    other = f"a=fingerprint:SHA-256 {FINGERPRINT.replace('AB', 'cd')}\r\n"
    remote = parse(CHROMIUM + other)
    assert [value[:2] for _, value in remote.fingerprints] == ["AB", "CD"]
    assert remote.fingerprint_sha256() is None  # which is used shows in the handshake
    assert parse(CHROMIUM + f"a=fingerprint:sha-256 {FINGERPRINT}\r\n") == parse(CHROMIUM)
    longer = parse(CHROMIUM.replace(f"sha-256 {FINGERPRINT}", "sha-384 " + ":".join(["CD"] * 48)))
    assert longer.fingerprint_sha256() is None
    assert parse(CHROMIUM + "a=fingerprint:md5 AB:CD\r\n") == parse(CHROMIUM)


def test_more_candidates_than_can_be_checked_are_the_best_ones() -> None:
    bridges = "".join(
        f"a=candidate:{n} 1 udp {2122260223 - n} 172.{n}.0.1 5000 typ host\r\n" for n in range(100)
    )
    relay = "a=candidate:200 1 udp 41885439 198.51.100.1 3478 typ relay raddr 0.0.0.0 rport 9\r\n"
    remote = parse(CHROMIUM + bridges + relay)
    assert len(remote.candidates) == MAX_CANDIDATES
    assert {"relay", "srflx"} <= {candidate.kind for candidate in remote.candidates}
    assert remote.candidates[-1].kind == "relay"


def test_what_cannot_be_used_costs_nothing() -> None:
    for line in (
        "a=candidate:1 1 udp x 192.0.2.1 1 typ host",
        "a=candidate:bad",
        *(f"a=candidate:{n} 1 tcp 2105458943 10.0.0.{n} 9 typ host tcptype active" for n in range(1)),
        "a=x\r\n" * 900,
        "a=extmap:1 " + "x" * 3000,
        "a=ssrc:1 cname:\x07",
        "i=\t",
    ):
        assert parse(f"{CHROMIUM}{line}\r\n") == parse(CHROMIUM)
    tcp = "".join(
        f"a=candidate:{n} 1 tcp 2105458943 10.0.0.{n} 9 typ host tcptype active\r\n" for n in range(99)
    )
    assert parse(CHROMIUM + tcp) == parse(CHROMIUM)


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


@given(st.lists(any_candidate, max_size=32, unique=True), st.booleans())
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
