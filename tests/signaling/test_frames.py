"""The Phoenix codec: golden frames of the official clients, round trips, limits, arbitrary bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.fuzz_frames import fuzz_one
from voicemeet_edge.errors import FrameError
from voicemeet_edge.signaling.frames import (
    MAX_DEPTH,
    MAX_FRAME_BYTES,
    MAX_NAME_BYTES,
    Broadcast,
    Layout,
    PhoenixFrame,
    Version,
    broadcast_of,
    broadcast_payload,
    decode,
    encode,
)

V1, V2 = Version.V1, Version.V2

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
refs = st.none() | names
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
payloads = st.dictionaries(st.text(), json_values, max_size=4)
metas = st.dictionaries(st.sampled_from(["id", "replayed"]), st.booleans())

text_frames = st.builds(PhoenixFrame, refs, refs, names, names, payloads)
push_frames = st.builds(
    PhoenixFrame, refs, refs, names, names, payloads | st.binary(max_size=200), st.just(Layout.PUSH), metas
)
broadcast_frames = st.builds(
    PhoenixFrame,
    st.none(),
    st.none(),
    names,
    names,
    payloads | st.binary(max_size=200),
    st.just(Layout.BROADCAST),
    metas,
)


@given(text_frames | push_frames | broadcast_frames)
def test_what_2_0_0_writes_it_reads(frame: PhoenixFrame) -> None:
    assert decode(encode(frame, V2), V2) == frame


@given(text_frames)
def test_what_1_0_0_writes_it_reads(frame: PhoenixFrame) -> None:
    assert decode(encode(frame, V1), V1) == frame


@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_any_bytes_are_a_frame_or_the_documented_error(data: bytes) -> None:
    fuzz_one(data)


@given(json_values)
def test_any_json_is_a_frame_or_the_documented_error(value: object) -> None:
    fuzz_one(json.dumps(value).encode())


@given(st.data())
def test_a_damaged_binary_frame_is_a_frame_or_the_documented_error(data: st.DataObject) -> None:
    raw = bytearray(encode(data.draw(push_frames), V2))  # type: ignore[arg-type]  # binary kinds give bytes
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] = data.draw(st.integers(0, 255))
    fuzz_one(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


def test_golden_binary_push_of_the_javascript_client() -> None:
    raw = b"\x03\x01\x01\x11\x05\x00\x01" + b'67realtime:call:abcoffer{"sdp":"v=0"}'
    frame = decode(raw, V2)
    assert frame == PhoenixFrame("6", "7", "realtime:call:abc", "offer", {"sdp": "v=0"}, Layout.PUSH)
    assert encode(frame, V2) == raw
    assert broadcast_of(frame) == Broadcast("offer", {"sdp": "v=0"})


def test_golden_join_of_the_javascript_client() -> None:
    text = '["6","6","realtime:call:abc","phx_join",{"config":{"private":true}}]'
    assert decode(text, V2) == PhoenixFrame(
        "6", "6", "realtime:call:abc", "phx_join", {"config": {"private": True}}
    )


def test_golden_heartbeat_of_the_python_client() -> None:
    text = '{"event":"heartbeat","payload":{},"topic":"phoenix","ref":null,"join_ref":null}'
    assert decode(text, V1) == PhoenixFrame(None, None, "phoenix", "heartbeat", {})


def test_1_0_0_writes_an_explicit_null_ref() -> None:
    text = encode(PhoenixFrame(None, None, "realtime:x", "broadcast", {}), V1)
    assert json.loads(text) == {"topic": "realtime:x", "event": "broadcast", "payload": {}, "ref": None}


def test_broadcasts_look_alike_however_framed() -> None:
    broadcast = Broadcast("offer", {"sdp": "v=0"}, {"id": "1"})
    text = PhoenixFrame(None, None, "t", "broadcast", broadcast_payload(broadcast))
    binary = PhoenixFrame(None, None, "t", "offer", {"sdp": "v=0"}, Layout.BROADCAST, {"id": "1"})
    assert broadcast_of(text) == broadcast_of(binary) == broadcast


@pytest.mark.parametrize(
    "payload", [{}, {"event": 1}, {"event": "x", "payload": "text"}, {"event": "x", "payload": [1]}]
)
def test_a_broadcast_out_of_shape_is_none(payload: dict[str, object]) -> None:
    assert broadcast_of(PhoenixFrame(None, None, "t", "broadcast", payload)) is None


def deep(levels: int) -> str:
    return '["1","2","t","e",' + '{"a":' * levels + "1" + "}" * levels + "]"


def test_depth_is_limited() -> None:
    decode(deep(MAX_DEPTH - 1), V2)
    for levels in (MAX_DEPTH + 1, 100_000 // 6):
        with pytest.raises(FrameError):
            decode(deep(levels), V2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{}",
        "[]",
        '["1","2","t","e"]',
        '["1","2","t","e",{},1]',
        '["1","2","t","e",[]]',
        '["1","2","t","e",null]',
        '["1","2",null,"e",{}]',
        '["1","2","","e",{}]',
        '["1","2","t",7,{}]',
        '[1,"2","t","e",{}]',
        '["1","2","\\ud800","e",{}]',
        '["1","2","t","e",{"a":NaN}]',
        '["1","2","t","e",{"a":1e999}]',
        '["1","2","t","e",{"a":' + "9" * 5000 + "}]",
        '["1","2","' + "t" * (MAX_NAME_BYTES + 1) + '","e",{}]',
        '["1","2","t","e",{"a":"' + "x" * MAX_FRAME_BYTES + '"}]',
        '["1","2","t","e",{"a":"' + "€" * (MAX_FRAME_BYTES // 3) + '"}]',
    ],
)
def test_what_is_no_frame_is_refused(text: str) -> None:
    with pytest.raises(FrameError):
        decode(text, V2)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"\x03",
        b"\x03\x01\x01\x01\x01\x00",
        b"\x04\xff\x01\x00\x00t",
        b"\x04\x01\x05\x00\x00te",
        b"\x04\x01\x01\x00\x02te{}",
        b"\x04\x01\x01\x00\x01te[]",
        b"\x04\x01\x01\x00\x01te\xff",
        b"\x04\x01\x01\x01\x00\xffe{",
        b"\x04\x01\x01\x01\x00te7",
        b"\x04\x00\x01\x00\x00e",
        b"\x04\x01\x01\x00\x00te" + b"x" * MAX_FRAME_BYTES,
    ],
)
def test_what_is_no_binary_frame_is_refused(raw: bytes) -> None:
    with pytest.raises(FrameError):
        decode(raw, V2)


def test_1_0_0_has_no_binary_frames() -> None:
    with pytest.raises(FrameError):
        decode(b"\x04\x01\x01\x00\x01te{}", V1)
    with pytest.raises(FrameError):
        encode(PhoenixFrame(None, None, "t", "e", {}, Layout.BROADCAST), V1)


@pytest.mark.parametrize(
    "frame",
    [
        PhoenixFrame(None, None, "t", "e", b"bytes"),
        PhoenixFrame(None, None, "", "e", {}),
        PhoenixFrame(None, None, "t", "e", {"a": float("nan")}),
        PhoenixFrame(None, None, "t", "e", {"a": object()}),
        PhoenixFrame(None, "1", "t", "e", {}, Layout.BROADCAST),
        PhoenixFrame(None, None, "t", "e", {}, Layout.BROADCAST, {"a": "x" * 300}),
        PhoenixFrame(None, None, "t", "e", b"x" * MAX_FRAME_BYTES, Layout.BROADCAST),
    ],
)
def test_what_cannot_be_written_is_refused(frame: PhoenixFrame) -> None:
    with pytest.raises(FrameError):
        encode(frame, V2)
    loop: dict[str, object] = {}
    loop["a"] = loop
    with pytest.raises(FrameError):
        encode(PhoenixFrame(None, None, "t", "e", loop), V2)


def test_a_lone_surrogate_in_a_payload_survives_escaped() -> None:
    frame = decode('["1","2","t","e",{"a":"\\ud800"}]', V2)
    assert encode(frame, V2) == '["1","2","t","e",{"a":"\\ud800"}]'
