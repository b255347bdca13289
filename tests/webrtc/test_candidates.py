"""Candidates read back, what we cannot use is passed over, and of too many the best are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.errors import SdpError
from voicemeet_edge.webrtc.candidates import (
    MAX_CANDIDATES,
    RESERVED,
    IceCandidate,
    best,
    parse_candidate,
    write_candidate,
)

any_candidate = st.builds(
    IceCandidate,
    foundation=st.text("0123456789abcdefAZ+/", min_size=1, max_size=32),
    priority=st.integers(0, 2**32 - 1),
    address=st.ip_addresses().filter(lambda a: not a.is_multicast and not a.is_unspecified).map(str),
    port=st.integers(1, 65535),
    kind=st.sampled_from(["host", "srflx", "prflx", "relay"]),
)


@given(any_candidate)
def test_any_candidate_reads_back(candidate: IceCandidate) -> None:
    assert parse_candidate(write_candidate(candidate)) == candidate


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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "candidate:",
        "candidate:1 1 udp x 192.0.2.1 1 typ host",
        "candidate:1 1 udp 1 192.0.2.1 1 host host",
    ],
)
def test_what_is_no_candidate(text: str) -> None:
    with pytest.raises(SdpError):
        parse_candidate(text)


def host(n: int, priority: int = 2122260223) -> IceCandidate:
    return IceCandidate(str(n), priority - n, f"10.0.{n}.1", 5000, "host")


RELAY = IceCandidate("r", 41885439, "198.51.100.1", 3478, "relay")
PUBLIC = IceCandidate("s", 1686052607, "203.0.113.9", 5000, "srflx")
SIX = IceCandidate("6", 1, "2001:db8::7", 5000, "host")


def test_a_few_are_kept_as_they_are() -> None:
    assert best([RELAY, host(1), RELAY]) == (RELAY, host(1))


def test_of_many_the_best_and_some_of_every_kind() -> None:
    hosts = [host(n) for n in range(60)]
    kept = best([*reversed(hosts), RELAY, PUBLIC, SIX])
    assert len(kept) == MAX_CANDIDATES
    assert kept[-3:] == (RELAY, PUBLIC, SIX)
    assert set(kept[:-3]) == set(hosts[: MAX_CANDIDATES - 3])


def test_many_of_one_kind_do_not_push_out_another() -> None:
    relays = [IceCandidate(f"r{n}", 2**31 - n, "198.51.100.1", 3000 + n, "relay") for n in range(80)]
    kept = best([*relays, *(host(n, 5000) for n in range(40))])
    assert [one.kind for one in kept].count("host") == RESERVED


def test_one_place_told_often_counts_once() -> None:
    copies = [IceCandidate(str(n), n, "192.0.2.1", 5000, "host") for n in range(100)]
    assert best([*copies, RELAY]) == (copies[-1], RELAY)


@given(st.lists(any_candidate, max_size=80), st.integers(1, 40))
def test_never_more_than_asked_for_and_none_invented(found: list[IceCandidate], limit: int) -> None:
    kept = best(found, limit)
    assert len(kept) <= limit
    assert set(kept) <= set(found)
    assert kept or not found
