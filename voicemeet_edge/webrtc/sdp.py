"""Session descriptions: what we write and what we accept. Nothing we did not choose reaches the wire.

One audio line, Opus only, bundled, multiplexed, encrypted. Reading is bounded and strict where safety
hangs on it (fingerprint, encryption, one media line) and lenient where browsers differ (order of lines,
attributes we do not know).
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from voicemeet_edge.errors import SdpError
from voicemeet_edge.webrtc.options import IcePolicy, policy_allows

MAX_BYTES = 16384  # a browser's audio offer with 32 candidates is about 6 kB
MAX_LINES = 400  # the same offer has about 120
MAX_LINE_CHARS = 1024  # the longest real line is a fingerprint or an fmtp, under 300
MAX_CANDIDATES = 32  # a laptop with VPNs and IPv6 gives about 12; each one costs the peer a check
MAX_REJECTED_LINES = 4  # rejected media lines an offer may still carry (they must be answered)

OPUS_TYPE = 111  # the number every browser uses; only a convention
RED_TYPE = 63  # the same
OPUS_FMTP = "minptime=10;useinbandfec=1;stereo=0;sprop-stereo=0;cbr=1"  # RFC 7587 §6.1
PROFILES = ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP")  # RFC 8827 §6.5: no other may be used
FINGERPRINT_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}  # what the DTLS side can check
CANDIDATE_KINDS = ("host", "srflx", "prflx", "relay")
MAX_PRIORITY = 2**32 - 1

_NAME = re.compile(r"[A-Za-z0-9-]{1,63}\.local")
_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_ADDRESS_V4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_ADDRESS_V6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_BLANK_ADDRESSES = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1"})


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """One UDP candidate of component 1 (RFC 8839 §5.1)."""

    foundation: str
    priority: int
    address: str
    """An IP address, or a `.local` name."""
    port: int
    kind: str

    @property
    def is_name(self) -> bool:
        """Say whether the address is an mDNS name."""
        return self.address.endswith(".local")


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A media line with port 0, which our answer must mirror (RFC 9429 §5.3.1)."""

    media: str
    protocol: str
    formats: str
    mid: str | None


@dataclass(frozen=True, slots=True)
class RemoteDescription:
    """What we need to know of the other side."""

    ufrag: str
    password: str
    ice_lite: bool
    fingerprints: tuple[tuple[str, str], ...]
    """(algorithm, value), lower case and upper case; sha-256 always among them."""
    setup: str
    """actpass, active or passive."""
    mid: str | None
    bundled: bool
    protocol: str
    opus_type: int
    red_type: int | None
    direction: str
    candidates: tuple[IceCandidate, ...]
    candidates_end: bool
    """No more will come: said so, or the side does not trickle."""
    position: int
    """Index of the audio line among all media lines."""
    rejected: tuple[RejectedLine, ...]

    def fingerprint_sha256(self) -> bytes:
        """Return the SHA-256 fingerprint as 32 bytes."""
        value = next(value for algorithm, value in self.fingerprints if algorithm == "sha-256")
        return bytes.fromhex(value.replace(":", ""))


@dataclass(frozen=True, slots=True)
class LocalDescription:
    """What we say of ourselves; `write` makes it text."""

    session_id: int
    ufrag: str
    password: str
    fingerprint: str
    """SHA-256, upper case, with colons."""
    setup: str
    ssrc: int
    cname: str
    candidates: Sequence[IceCandidate]
    red: bool = False
    answer_to: RemoteDescription | None = None


def write(local: LocalDescription) -> str:
    """Return an offer, or the answer to `answer_to`."""
    offer = local.answer_to
    mid = "0" if offer is None else offer.mid
    bundled = mid is not None and (offer is None or offer.bundled)
    lines = [
        "v=0",
        # RFC 9429 §5.2.1: a random session id, and an address that says nothing.
        f"o=- {local.session_id} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
    ]
    if bundled:
        lines.append(f"a=group:BUNDLE {mid}")
    media = [_rejected_lines(line) for line in offer.rejected] if offer is not None else []
    media.insert(offer.position if offer is not None else 0, _audio_lines(local, mid))
    for part in media:
        lines.extend(part)
    return "\r\n".join(lines) + "\r\n"


def _rejected_lines(line: RejectedLine) -> list[str]:
    lines = [f"m={line.media} 0 {line.protocol} {line.formats}", "c=IN IP4 0.0.0.0"]
    if line.mid is not None:
        lines.append(f"a=mid:{line.mid}")
    lines.append("a=inactive")
    return lines


def _audio_lines(local: LocalDescription, mid: str | None) -> list[str]:
    offer = local.answer_to
    opus = OPUS_TYPE if offer is None else offer.opus_type
    red = (RED_TYPE if offer is None else offer.red_type) if local.red else None
    # Opus first: it is what we send unless loss makes redundancy worth its bits.
    formats = f"{opus}" if red is None else f"{opus} {red}"
    lines = [
        f"m=audio 9 {PROFILES[0] if offer is None else offer.protocol} {formats}",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        *(f"a={write_candidate(candidate)}" for candidate in local.candidates),
        "a=end-of-candidates",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        f"a=setup:{local.setup}",
    ]
    if mid is not None:
        lines.append(f"a=mid:{mid}")
    lines += [
        "a=sendrecv",
        "a=msid:voice voice",
        "a=rtcp-mux",
        f"a=rtpmap:{opus} opus/48000/2",
        f"a=fmtp:{opus} {OPUS_FMTP}",
    ]
    if red is not None:
        lines += [f"a=rtpmap:{red} red/48000/2", f"a=fmtp:{red} {opus}/{opus}"]
    lines += ["a=ptime:20", f"a=ssrc:{local.ssrc} cname:{local.cname}"]
    return lines


def write_candidate(candidate: IceCandidate) -> str:
    """Return `candidate:…` without `a=`; the related address is always blanked (RFC 8839 §5.1)."""
    text = (
        f"candidate:{candidate.foundation} 1 udp {candidate.priority} "
        f"{candidate.address} {candidate.port} typ {candidate.kind}"
    )
    if candidate.kind in ("srflx", "relay"):
        text += " raddr 0.0.0.0 rport 9"
    return text


def parse_candidate(text: str) -> IceCandidate | None:
    """Read `candidate:…`; None for what we cannot use (TCP, component 2, host names, unknown kinds).

    Raises:
        SdpError: when it is not a candidate at all.
    """
    if len(text) > MAX_LINE_CHARS or not text.startswith("candidate:"):
        raise SdpError("not a candidate", code="bad_candidate")
    fields = text.removeprefix("candidate:").split()
    if len(fields) < 8 or fields[6] != "typ" or not re.fullmatch(r"[A-Za-z0-9+/]{1,32}", fields[0]):
        raise SdpError("malformed candidate", code="bad_candidate")
    priority, port = _number(fields[3], MAX_PRIORITY), _number(fields[5], 65535)
    component = _number(fields[1], 256)
    if component != 1 or fields[2].lower() != "udp" or port == 0 or fields[7] not in CANDIDATE_KINDS:
        return None
    address = fields[4]
    if _NAME.fullmatch(address):
        if fields[7] != "host":
            return None
    else:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return None
        if parsed.is_multicast or parsed.is_unspecified or getattr(parsed, "scope_id", None):
            return None
        address = str(parsed)
    return IceCandidate(fields[0], priority, address, port, fields[7])


def _number(text: str, limit: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > limit:
        raise SdpError("a number out of range", code="bad_candidate")
    return int(text)


@dataclass(slots=True)
class _Section:
    """The lines of the session, or of one media line, on the way to a RemoteDescription."""

    heading: str
    attributes: list[tuple[str, str]]

    def first(self, name: str) -> str | None:
        return next((value for key, value in self.attributes if key == name), None)

    def every(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def parse(text: str) -> RemoteDescription:
    """Read an offer or an answer.

    Raises:
        SdpError: with a code that says what was refused.
    """
    session, media = _split(text)
    rejected: list[RejectedLine] = []
    audio: tuple[int, _Section, list[str]] | None = None
    for index, section in enumerate(media):
        fields = section.heading.split()
        if len(fields) < 4 or not all(_TOKEN.fullmatch(part.replace("/", ".")) for part in fields):
            raise SdpError("malformed media line", code="bad_media_line")
        if fields[1] == "0":
            rejected.append(RejectedLine(fields[0], fields[2], " ".join(fields[3:]), _mid(section)))
        elif fields[0] != "audio":
            raise SdpError("only audio is taken", code="wrong_media")
        elif audio is not None:
            raise SdpError("more than one media line", code="several_media")
        else:
            audio = (index, section, fields)
    if audio is None:
        raise SdpError("no audio line", code="no_audio")
    if len(rejected) > MAX_REJECTED_LINES:
        raise SdpError("too many media lines", code="several_media")
    return _describe(session, audio, tuple(rejected))


def _split(text: str) -> tuple[_Section, list[_Section]]:
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise SdpError("description too large", code="sdp_too_large")
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) > MAX_LINES:
        raise SdpError("too many lines", code="sdp_too_large")
    if lines[0] != "v=0":
        raise SdpError("not a session description", code="bad_sdp")
    session = _Section("", [])
    media: list[_Section] = []
    for line in lines[1:]:
        if not line:
            continue
        if len(line) > MAX_LINE_CHARS or len(line) < 2 or line[1] != "=" or not line.isprintable():
            raise SdpError("malformed line", code="bad_sdp")
        if line[0] == "m":
            media.append(_Section(line[2:], []))
        elif line[0] == "a":
            name, _, value = line[2:].partition(":")
            (media[-1] if media else session).attributes.append((name, value))
    return session, media


def _describe(
    session: _Section, audio: tuple[int, _Section, list[str]], rejected: tuple[RejectedLine, ...]
) -> RemoteDescription:
    position, section, fields = audio
    if fields[2] not in PROFILES:
        raise SdpError("the media is not encrypted", code="no_encryption")
    fingerprints = _fingerprints(section.every("fingerprint") or session.every("fingerprint"))
    if section.first("rtcp-mux") is None:
        raise SdpError("RTCP is not multiplexed", code="no_rtcp_mux")
    opus_type, red_type = _codecs(section, fields[3:])
    options = " ".join(session.every("ice-options") + section.every("ice-options")).split()
    mid = _mid(section)
    candidates = _candidates(section.every("candidate"))
    done = section.first("end-of-candidates") is not None or session.first("end-of-candidates") is not None
    direction = next(
        (
            name
            for name, _ in section.attributes + session.attributes
            if name in ("sendrecv", "sendonly", "recvonly", "inactive")
        ),
        "sendrecv",
    )
    return RemoteDescription(
        ufrag=_ice_text(section.first("ice-ufrag") or session.first("ice-ufrag"), 4),
        password=_ice_text(section.first("ice-pwd") or session.first("ice-pwd"), 22),
        ice_lite=session.first("ice-lite") is not None,
        fingerprints=fingerprints,
        setup=_setup(section.first("setup") or session.first("setup")),
        mid=mid,
        bundled=any(mid in group.split()[1:] for group in session.every("group") if group[:7] == "BUNDLE "),
        protocol=fields[2],
        opus_type=opus_type,
        red_type=red_type,
        direction=direction,
        candidates=candidates,
        # RFC 8838 §4.1: a side that trickles says so; from all others this is everything.
        candidates_end=done or "trickle" not in options,
        position=position,
        rejected=rejected,
    )


def _mid(section: _Section) -> str | None:
    mid = section.first("mid")
    if mid is not None and not _TOKEN.fullmatch(mid):
        raise SdpError("malformed mid", code="bad_sdp")
    return mid


def _ice_text(value: str | None, shortest: int) -> str:
    # RFC 8839 §5.4: 4 to 256 characters of ufrag, 22 to 256 of password.
    if value is None or not shortest <= len(value) <= 256 or not _ICE_CHARS.fullmatch(value):
        raise SdpError("no usable ICE credentials", code="no_ice")
    return value


def _setup(value: str | None) -> str:
    # RFC 5763 §5: holdconn has no meaning in WebRTC.
    if value not in ("actpass", "active", "passive"):
        raise SdpError("no usable DTLS role", code="no_setup")
    return value


def _fingerprints(values: list[str]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for value in values[:8]:
        algorithm, _, digest = value.partition(" ")
        algorithm, digest = algorithm.lower(), digest.strip().upper()
        size = FINGERPRINT_BYTES.get(algorithm)
        if size is None:
            continue
        if not re.fullmatch(rf"[0-9A-F]{{2}}(?::[0-9A-F]{{2}}){{{size - 1}}}", digest):
            raise SdpError("malformed fingerprint", code="bad_fingerprint")
        found.append((algorithm, digest))
    if not any(algorithm == "sha-256" for algorithm, _ in found):
        raise SdpError("no SHA-256 fingerprint", code="no_fingerprint")
    return tuple(found)


def _codecs(section: _Section, formats: list[str]) -> tuple[int, int | None]:
    names: dict[int, str] = {}
    for value in section.every("rtpmap"):
        number, _, name = value.partition(" ")
        # RFC 3551 §6: dynamic types; RFC 5761 §4 keeps 64 to 95 free for telling RTCP apart.
        if number in formats and number.isascii() and number.isdigit() and len(number) <= 3:
            payload_type = int(number)
            if payload_type < 64 or 96 <= payload_type < 128:
                names.setdefault(payload_type, name.strip().lower())
    order = [int(text) for text in formats if text.isascii() and text.isdigit() and len(text) <= 3]
    opus = [number for number in order if names.get(number) == "opus/48000/2"]
    if not opus:
        raise SdpError("no Opus", code="no_opus")
    red = [
        number
        for number in order
        if names.get(number) == "red/48000/2"
        and any(value.startswith(f"{number} {opus[0]}/{opus[0]}") for value in section.every("fmtp"))
    ]
    return opus[0], red[0] if red else None


def _candidates(values: list[str]) -> tuple[IceCandidate, ...]:
    if len(values) > MAX_CANDIDATES:
        raise SdpError("too many candidates", code="too_many_candidates")
    found = (parse_candidate(f"candidate:{value}") for value in values)
    return tuple(dict.fromkeys(candidate for candidate in found if candidate is not None))


def leaks(text: str, policy: IcePolicy) -> list[str]:
    """Return what a description tells that its policy forbids; empty when it keeps its promise."""
    found: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.startswith("a=candidate:"):
            fields = line.split()
            kind, address = fields[7], fields[4]
            if not policy_allows(policy, kind, is_name=address.endswith(".local")):
                found.append(line)
            related = [value for name, value in itertools.pairwise(fields) if name == "raddr"]
            if any(value not in _BLANK_ADDRESSES for value in related):
                found.append(line)
        elif not line.startswith("a=fingerprint:"):
            addresses = _ADDRESS_V4.findall(line) + _ADDRESS_V6.findall(line)
            found.extend(line for address in addresses if address not in _BLANK_ADDRESSES)
    return found
