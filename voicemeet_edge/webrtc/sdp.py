"""Session descriptions: what we write and what we accept. Nothing we did not choose reaches the wire.

One audio line, Opus only, bundled, multiplexed, encrypted. Reading is bounded and strict where safety
hangs on it (fingerprint, encryption) and lenient where programs differ: order and level of lines, profile
names, attributes we do not know, more candidates than we can check. docs/contract.md lists what is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from voicemeet_edge.errors import SdpError
from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.ladder import Limits
from voicemeet_edge.webrtc.candidates import IceCandidate, best, parse_candidate, write_candidate

MAX_BYTES = 16384  # a browser's audio offer with 100 candidates; the wire contract carries no more
MAX_LINE_CHARS = 1024  # of a line that is used; the longest real one is a fingerprint or an fmtp, under 300
MAX_REJECTED_LINES = 4  # media lines an offer may carry beside ours (they must be answered)
MAX_FINGERPRINTS = 8  # of hash functions we know; real descriptions have one or two

ARRIVAL_FEEDBACK = "ack ccfb"  # RFC 8888 §6
PACKET_MS = 20  # ms of sound in a packet, where the line carries it
MAX_PACKET_MS = 120  # ms; the longest that Opus knows (RFC 7587 §6.1)
OPUS_TYPE = 111  # the number every browser uses; only a convention
RED_TYPE = 63  # the same
OPUS_FMTP = "minptime=10;useinbandfec=1;stereo=0;sprop-stereo=0;cbr=1"  # RFC 7587 §6.1
# RFC 8829 §5.1.3: each of these is taken to mean the first, and mirrored. Whatever it is called, our media is
# encrypted with keys from DTLS: without fingerprint and role (RFC 5763 §5) a description is refused.
PROFILES = (
    "UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "TCP/DTLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVP",
    "RTP/SAVPF", "RTP/SAVP", "RTP/AVPF", "RTP/AVP",
)  # fmt: skip
FINGERPRINT_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}  # what the DTLS side can check
DIRECTIONS = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
"""What an offer says, and what its answer says (RFC 3264 §6.1)."""
ATTRIBUTES = frozenset(
    {
        *DIRECTIONS, "bundle-only", "candidate", "end-of-candidates", "fingerprint", "fmtp", "group",
        "ice-lite", "ice-pwd", "ice-ufrag", "maxptime", "mid", "ptime", "rtcp-fb", "rtcp-mux",
        "rtcp-mux-only", "rtcp-rsize", "rtpmap", "setup",
    }
)  # fmt: skip
"""The ones that are read; lines of any other are passed over unseen."""
BANDWIDTHS = {"AS": 1.0, "TIAS": 0.001}
"""Of `b=` lines (RFC 8866 §5.8, RFC 3890 §6.2.2), and kb/s for one of theirs."""

NO_LIMITS = Limits()
_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A media line that is not our call, which our answer must mirror with port 0 (RFC 9429 §5.3.1)."""

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
    """(algorithm, value), lower case and upper case; several of one algorithm are several certificates."""
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
    """No more will come: it was said so. Old programs trickle without having announced it."""
    position: int
    """Index of the audio line among all media lines."""
    rejected: tuple[RejectedLine, ...]
    limits: Limits = NO_LIMITS
    """What it may be sent."""
    arrival_feedback: bool = False
    """It reports what arrived, packet by packet (RFC 8888), in reduced-size RTCP."""

    def fingerprint_sha256(self) -> bytes | None:
        """Return the SHA-256 fingerprint as 32 bytes; None when there is none, or one of several."""
        values = {value for algorithm, value in self.fingerprints if algorithm == "sha-256"}
        return bytes.fromhex(values.pop().replace(":", "")) if len(values) == 1 else None


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
    packet_ms: int = PACKET_MS
    """Sound in a packet that we would like to get (`ptime`)."""
    max_bitrate: int | None = None
    """bit/s of Opus that we would like at most (`maxaveragebitrate`)."""


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
        f"a={DIRECTIONS[offer.direction] if offer is not None else 'sendrecv'}",
        "a=msid:voice voice",
        "a=rtcp-mux",
        f"a=rtpmap:{opus} opus/48000/2",
        f"a=fmtp:{opus} {OPUS_FMTP}"
        + (f";maxaveragebitrate={local.max_bitrate}" if local.max_bitrate is not None else ""),
    ]
    if red is not None:
        lines += [f"a=rtpmap:{red} red/48000/2", f"a=fmtp:{red} {opus}/{opus}"]
    lines += [f"a=ptime:{local.packet_ms}", f"a=maxptime:{MAX_PACKET_MS}"]
    if offer is None or offer.arrival_feedback:
        lines += [f"a=rtcp-fb:* {ARRIVAL_FEEDBACK}", "a=rtcp-rsize"]
    lines.append(f"a=ssrc:{local.ssrc} cname:{local.cname}")
    return lines


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
        # RFC 9143 §6: a line that will share the transport of another has port 0 and is not rejected.
        refused = fields[1] == "0" and section.first("bundle-only") is None
        if audio is None and fields[0] == "audio" and not refused:
            audio = (index, section, fields)
        else:
            # RFC 3264 §6: what we do not want is not an error; the answer gives it port 0.
            rejected.append(RejectedLine(fields[0], fields[2], " ".join(fields[3:]), _mid(section)))
    if audio is None:
        raise SdpError("no audio line", code="no_audio")
    if len(rejected) > MAX_REJECTED_LINES:
        raise SdpError("too many media lines", code="several_media")
    return _describe(session, audio, tuple(rejected))


def _split(text: str) -> tuple[_Section, list[_Section]]:
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise SdpError("description too large", code="sdp_too_large")
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != "v=0":
        raise SdpError("not a session description", code="bad_sdp")
    session = _Section("", [])
    media: list[_Section] = []
    for line in lines[1:]:
        if not line:
            continue
        if len(line) < 2 or line[1] != "=":
            raise SdpError("malformed line", code="bad_sdp")
        name, _, value = line[2:].rstrip().partition(":")
        if line[0] == "b":
            name = name.upper()
        if line[0] == "m":
            _check_line(line)
            media.append(_Section(line[2:], []))
        elif line[0] == "a" and name in ATTRIBUTES:
            _check_line(line)
            (media[-1] if media else session).attributes.append((name, value))
        elif line[0] == "b" and name in BANDWIDTHS:
            _check_line(line)
            kind, _, value = line[2:].rstrip().partition(":")
            (media[-1] if media else session).attributes.append((f"b={kind.upper()}", value))
    return session, media


def _check_line(line: str) -> None:
    if len(line) > MAX_LINE_CHARS or not line.isprintable():
        raise SdpError("malformed line", code="bad_sdp")


def _describe(
    session: _Section, audio: tuple[int, _Section, list[str]], rejected: tuple[RejectedLine, ...]
) -> RemoteDescription:
    position, section, fields = audio
    if fields[2] not in PROFILES:
        raise SdpError("not a profile of encrypted voice", code="no_encryption")
    fingerprints = _fingerprints(section.every("fingerprint") or session.every("fingerprint"))
    # RFC 8858 §3: who says `rtcp-mux-only` says `rtcp-mux` too, or should.
    if not any(
        at.first(name) is not None for at in (section, session) for name in ("rtcp-mux", "rtcp-mux-only")
    ):
        raise SdpError("RTCP is not multiplexed", code="no_rtcp_mux")
    opus_type, red_type = _codecs(section, fields[3:])
    mid = _mid(section)
    candidates = _candidates(section.every("candidate") + session.every("candidate"))
    done = section.first("end-of-candidates") is not None or session.first("end-of-candidates") is not None
    direction = next(
        (name for name, _ in section.attributes + session.attributes if name in DIRECTIONS),
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
        candidates_end=done,
        position=position,
        rejected=rejected,
        limits=_limits(section, opus_type),
        arrival_feedback=_has_feedback(section, opus_type),
    )


def _limits(section: _Section, opus_type: int) -> Limits:
    """Read what we may send (RFC 7587 §6.1, RFC 8866 §5.8 and §6.4); what makes no sense says nothing."""
    parameters: dict[str, str] = {}
    for value in section.every("fmtp"):
        number, _, rest = value.partition(" ")
        if number == str(opus_type):
            for part in rest.split(";"):
                name, _, text = part.strip().partition("=")
                parameters.setdefault(name.lower(), text.strip())
    return Limits(
        max_average_bitrate=_within(parameters.get("maxaveragebitrate"), 6_000, 510_000),
        max_packet_ms=_within(section.first("maxptime"), 3, 1_000),
        packet_ms=_within(section.first("ptime"), 3, 1_000),
        bandwidth_kbit_s=_bandwidth(section),
    )


def _bandwidth(section: _Section) -> float | None:
    found = [
        amount * unit
        for kind, unit in BANDWIDTHS.items()
        for amount in (_within(section.first(f"b={kind}"), 1, 999_999_999),)
        if amount is not None
    ]
    return min(found, default=None)


def _within(text: str | None, least: int, most: int) -> int | None:
    text = (text or "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return int(text) if least <= int(text) <= most else None


def _has_feedback(section: _Section, opus_type: int) -> bool:
    wanted = {f"{name} {ARRIVAL_FEEDBACK}" for name in ("*", str(opus_type))}
    return section.first("rtcp-rsize") is not None and any(
        " ".join(value.lower().split()) in wanted for value in section.every("rtcp-fb")
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
    for value in values:
        algorithm, _, digest = value.partition(" ")
        algorithm, digest = algorithm.lower(), digest.strip().upper()
        size = FINGERPRINT_BYTES.get(algorithm)
        if size is None:
            continue
        if not re.fullmatch(rf"[0-9A-F]{{2}}(?::[0-9A-F]{{2}}){{{size - 1}}}", digest):
            raise SdpError("malformed fingerprint", code="bad_fingerprint")
        found.append((algorithm, digest))
    if not found:
        raise SdpError("no fingerprint of SHA-256, SHA-384 or SHA-512", code="no_fingerprint")
    if len(found) > MAX_FINGERPRINTS:
        raise SdpError("too many fingerprints", code="bad_fingerprint")
    return tuple(dict.fromkeys(found))


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
    found: list[IceCandidate] = []
    for value in values:
        try:
            candidate = parse_candidate(f"candidate:{value}")
        except SdpError:
            continue  # RFC 8839 §5.1: one that is not understood is ignored; the others may do
        if candidate is not None:
            found.append(candidate)
    return best(found)
