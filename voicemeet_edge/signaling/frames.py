"""The Phoenix frame codec, protocol versions 1.0.0 and 2.0.0, for the device and for the hub.

Rule: whatever comes in is a `PhoenixFrame` or a `FrameError`, never anything else; and a frame that was
decoded encodes again, unless it sits within a few bytes of the size limit.

    1.0.0  text    {"topic": t, "event": e, "payload": p, "ref": r, "join_ref": j}
    2.0.0  text    [j, r, t, e, p]
           binary  03 |j| |r| |t| |e| |meta| encoding  j r t e meta payload     client's broadcast
                   04 |t| |e| |meta| encoding  t e meta payload                 server's broadcast

In a binary frame `event` is the broadcast's own name ("offer"); in a text frame the event is
"broadcast" and the name is inside the payload. `broadcast_of` hides the difference.
"""

from __future__ import annotations

import enum
import json
import math
from dataclasses import field

from voicemeet_edge.errors import FrameError
from voicemeet_edge.records import dataclass

MAX_FRAME_BYTES = 262_144  # bytes; a padded, sealed 16 kB offer needs 50 kB, hosted's Free plan takes 256 kB
MAX_NAME_BYTES = 255  # bytes of a topic, event or ref: what one length byte of a binary frame can say
MAX_DEPTH = 32  # nested containers; ours need 4, and recursion of the JSON parser must stay bounded
MAX_BRACKETS = 2_000  # containers, or brackets in texts; a presence state of 100 members has 300
MAX_COMMAS = 20_000  # parts of a frame; a description's text has some hundred
MAX_META_BYTES = 255  # bytes, one length byte

PUSH_KIND = 0x03
BROADCAST_KIND = 0x04
ENCODING_BYTES = 0
ENCODING_JSON = 1

BROADCAST = "broadcast"


class Version(enum.Enum):
    """The two serializers; the value is what the URL says as `vsn`."""

    V1 = "1.0.0"
    V2 = "2.0.0"


class Layout(enum.Enum):
    """How a frame is laid out on the wire."""

    TEXT = enum.auto()
    PUSH = enum.auto()
    """Binary 0x03: a broadcast on its way to the server."""
    BROADCAST = enum.auto()
    """Binary 0x04: a broadcast on its way to a member."""


@dataclass(frozen=True, slots=True)
class PhoenixFrame:
    """One Phoenix message; `payload` is bytes only in a binary frame that says so."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: dict[str, object] | bytes
    layout: Layout = Layout.TEXT
    meta: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What a broadcast says, however it was framed."""

    event: str
    payload: dict[str, object] | bytes
    meta: dict[str, object] = field(default_factory=dict)


def broadcast_of(frame: PhoenixFrame) -> Broadcast | None:
    """Return the broadcast inside a frame, or None when it is none or not in shape."""
    if frame.layout is not Layout.TEXT:
        return Broadcast(frame.event, frame.payload, frame.meta)
    if frame.event != BROADCAST or isinstance(frame.payload, bytes):
        return None
    event, payload = frame.payload.get("event"), frame.payload.get("payload", {})
    meta = frame.payload.get("meta", {})
    if not isinstance(event, str) or not isinstance(payload, dict):
        return None
    return Broadcast(event, payload, meta if isinstance(meta, dict) else {})


def broadcast_payload(broadcast: Broadcast) -> dict[str, object]:
    """Return a JSON broadcast as the payload of a text frame."""
    payload: dict[str, object] = {"type": BROADCAST, "event": broadcast.event, "payload": broadcast.payload}
    if broadcast.meta:
        payload["meta"] = broadcast.meta
    return payload


def decode(data: str | bytes, version: Version) -> PhoenixFrame:
    """Read one WebSocket message.

    Raises:
        FrameError: it is not a frame of this version, or exceeds a limit.
    """
    if isinstance(data, bytes):
        if version is Version.V1:
            raise FrameError("binary frame on a 1.0.0 socket")
        return _decode_binary(data)
    _check_size(data)
    value = _load(data)
    if version is Version.V2:
        if not isinstance(value, list) or len(value) != 5:
            raise FrameError("not an array of five")
        join_ref, ref, topic, event, payload = value
    else:
        if not isinstance(value, dict):
            raise FrameError("not an object")
        join_ref, ref = value.get("join_ref"), value.get("ref")
        topic, event, payload = value.get("topic"), value.get("event"), value.get("payload")
    if not isinstance(payload, dict):
        raise FrameError("payload is not an object")
    return PhoenixFrame(_ref(join_ref), _ref(ref), _name(topic, "topic"), _name(event, "event"), payload)


def encode(frame: PhoenixFrame, version: Version) -> str | bytes:
    """Write one WebSocket message; 1.0.0 from the server's side carries no join_ref.

    Raises:
        FrameError: it cannot be said in this version, or exceeds a limit.
    """
    if frame.layout is not Layout.TEXT:
        if version is Version.V1:
            raise FrameError("1.0.0 has no binary frames")
        return _encode_binary(frame)
    if isinstance(frame.payload, bytes):
        raise FrameError("bytes in a text frame")
    _name(frame.topic, "topic"), _name(frame.event, "event")
    if version is Version.V2:
        text = _dump([_ref(frame.join_ref), _ref(frame.ref), frame.topic, frame.event, frame.payload])
    else:
        # Every key is there even when null: the Python client drops a push that has no "ref".
        fields: dict[str, object] = {
            "topic": frame.topic,
            "event": frame.event,
            "payload": frame.payload,
            "ref": _ref(frame.ref),
        }
        if frame.join_ref is not None:
            fields["join_ref"] = _ref(frame.join_ref)
        text = _dump(fields)
    _check_size(text)
    return text


def _decode_binary(data: bytes) -> PhoenixFrame:
    if len(data) > MAX_FRAME_BYTES:
        raise FrameError("frame too large")
    if not data or data[0] not in (PUSH_KIND, BROADCAST_KIND):
        raise FrameError("unknown binary kind")
    is_push = data[0] == PUSH_KIND
    count = 5 if is_push else 3
    header = 1 + count + 1
    if len(data) < header:
        raise FrameError("binary header cut short")
    lengths, encoding = data[1 : 1 + count], data[header - 1]
    if header + sum(lengths) > len(data):
        raise FrameError("binary frame cut short")
    texts: list[str] = []
    offset = header
    for length in lengths:
        try:
            texts.append(data[offset : offset + length].decode())
        except UnicodeDecodeError:
            raise FrameError("binary header is not UTF-8") from None
        offset += length
    body = data[offset:]
    join_ref, ref = (texts[0] or None, texts[1] or None) if is_push else (None, None)
    topic, event, meta = texts[-3:]
    return PhoenixFrame(
        join_ref,
        ref,
        _name(topic, "topic"),
        _name(event, "event"),
        _body(body, encoding),
        Layout.PUSH if is_push else Layout.BROADCAST,
        parse_object(meta) if meta else {},
    )


def _body(body: bytes, encoding: int) -> dict[str, object] | bytes:
    if encoding == ENCODING_BYTES:
        return body
    if encoding != ENCODING_JSON:
        raise FrameError("unknown encoding")
    try:
        return parse_object(body.decode())
    except UnicodeDecodeError:
        raise FrameError("payload is not UTF-8") from None


def _encode_binary(frame: PhoenixFrame) -> bytes:
    names = [_name(frame.topic, "topic"), _name(frame.event, "event")]
    if frame.layout is Layout.PUSH:
        names = [_ref(frame.join_ref) or "", _ref(frame.ref) or "", *names]
    elif frame.join_ref is not None or frame.ref is not None:
        raise FrameError("a broadcast has no refs")
    names.append(_dump(frame.meta) if frame.meta else "")
    raw = [name.encode() for name in names]
    if len(raw[-1]) > MAX_META_BYTES:
        raise FrameError("metadata too long")
    if isinstance(frame.payload, bytes):
        encoding, body = ENCODING_BYTES, frame.payload
    else:
        encoding, body = ENCODING_JSON, _dump(frame.payload).encode()
    kind = PUSH_KIND if frame.layout is Layout.PUSH else BROADCAST_KIND
    data = bytes([kind, *(len(part) for part in raw), encoding]) + b"".join(raw) + body
    if len(data) > MAX_FRAME_BYTES:
        raise FrameError("frame too large")
    return data


def _name(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise FrameError(f"{what} is not a text")
    if not _is_unicode(value):
        raise FrameError(f"{what} is not Unicode text")
    if len(value.encode()) > MAX_NAME_BYTES:
        raise FrameError(f"{what} too long")
    return value


def _ref(value: object) -> str | None:
    return None if value is None else _name(value, "ref")


def parse_object(text: str) -> dict[str, object]:
    """Read a JSON object within the limits of a frame's payload; raises FrameError."""
    value = _load(text)
    if not isinstance(value, dict):
        raise FrameError("not an object")
    return value


def _load(text: str) -> object:
    # Counted before anything is read: a container costs the parser 160 times what a character of text does.
    if text.count("{") + text.count("[") > MAX_BRACKETS or text.count(",") > MAX_COMMAS:
        raise FrameError("too many parts")
    try:
        value: object = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        # ValueError also stands for integers of thousands of digits, which CPython refuses to read.
        raise FrameError("not JSON") from None
    _check_depth(value, text)
    return value


def _dump(value: object) -> str:
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        if text.isascii() or _is_unicode(text):
            return text
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise FrameError("payload is not JSON") from None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate: legal in JSON when escaped, impossible in UTF-8
        return False
    return True


def _check_size(text: str) -> None:
    # n characters are n to 4n bytes; the exact count is only needed in between.
    if len(text) * 4 > MAX_FRAME_BYTES and len(text.encode(errors="surrogatepass")) > MAX_FRAME_BYTES:
        raise FrameError("frame too large")


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # 1e999 would come out again as Infinity, which is not JSON
        raise ValueError(text)
    return value


def _check_depth(value: object, text: str) -> None:
    # Nearly every frame has fewer brackets than the limit has levels: one count, no walk.
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise FrameError("nested too deeply")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return [child for child in value.values() if isinstance(child, (dict, list))]
    if isinstance(value, list):
        return [child for child in value if isinstance(child, (dict, list))]
    return []
