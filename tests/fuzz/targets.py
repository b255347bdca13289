"""All fuzz targets by name."""

from __future__ import annotations

import json

from tests.fuzz import (
    fuzz_candidates,
    fuzz_feedback,
    fuzz_fleet,
    fuzz_frames,
    fuzz_messages,
    fuzz_opus,
    fuzz_playout,
    fuzz_rtp,
    fuzz_sdp,
    fuzz_sealed,
    fuzz_settings,
    fuzz_updates,
    fuzz_wav,
)
from tests.fuzz.engine import Target
from tests.hub import fuzz_verbs
from voicemeet_edge.signaling.frames import Layout, PhoenixFrame, Version, encode
from voicemeet_edge.signaling.messages import Answer, Bye, Candidate, Hello, Offer, Restart, Reveal, serialize

_PAYLOAD: dict[str, object] = {
    "type": "broadcast",
    "event": "offer",
    "payload": {"v": 1, "slot": "a", "seq": 1},
}


def _frame_seeds() -> tuple[bytes, ...]:
    frames = (
        (PhoenixFrame("1", "2", "realtime:call:x", "phx_join", {"config": {"private": True}}), Version.V2),
        (PhoenixFrame(None, None, "realtime:call:x", "broadcast", _PAYLOAD), Version.V2),
        (PhoenixFrame("1", "2", "realtime:call:x", "broadcast", _PAYLOAD), Version.V1),
        (PhoenixFrame("1", "2", "t", "offer", {"a": 1}, Layout.PUSH, {"m": 1}), Version.V2),
        (PhoenixFrame(None, None, "t", "offer", b"bytes", Layout.BROADCAST), Version.V2),
    )
    written = (encode(frame, version) for frame, version in frames)
    return tuple(one if isinstance(one, bytes) else one.encode() for one in written)


def _message_seeds() -> tuple[bytes, ...]:
    messages = (
        Hello("a", 1, True, "ab" * 32, "cd" * 32),
        Offer("a", 2, "v=0\r\n", 1),
        Answer("b", 3, "v=0\r\n", 1),
        Candidate("b", 4, "candidate:1 1 udp 1 192.0.2.1 5000 typ host", "0"),
        Restart("a", 5, 2),
        Reveal("a", 6, "ab" * 32),
        Bye("a", 7, "hung_up"),
    )
    return tuple(json.dumps(serialize(message)[1]).encode() for message in messages)


def _sealed_seeds() -> tuple[bytes, ...]:
    good = fuzz_sealed.GOOD
    spoiled = good | {"seq": 2}, good | {"slot": "b"}, good | {"v": 2}
    return (*(json.dumps(one).encode() for one in spoiled), str(good["sealed"])[:-1].encode(), b'{"v":1}')


TARGETS = {
    target.name: target
    for target in (
        Target(
            "frames", fuzz_frames.fuzz_one, _frame_seeds(), (b"phx_reply", b"heartbeat", b"\x03", b"\x04")
        ),
        Target("messages", fuzz_messages.fuzz_one, _message_seeds(), (b'"seq":', b'"v":2', b'"reply":1')),
        Target("sealed", fuzz_sealed.fuzz_one, _sealed_seeds(), (b'"sealed":', b'"k":', b"====", b"-_")),
        Target("sdp", fuzz_sdp.fuzz_one, fuzz_sdp.SEEDS, fuzz_sdp.TOKENS),
        Target("candidates", fuzz_candidates.fuzz_one, fuzz_candidates.SEEDS, fuzz_candidates.TOKENS),
        Target("settings", fuzz_settings.fuzz_one, fuzz_settings.SEEDS, fuzz_settings.TOKENS),
        Target("verbs", fuzz_verbs.fuzz_one, fuzz_verbs.SEEDS),
        Target("rtp", fuzz_rtp.fuzz_one, fuzz_rtp.SEEDS, fuzz_rtp.TOKENS),
        Target("feedback", fuzz_feedback.fuzz_one, fuzz_feedback.SEEDS),
        Target("fleet", fuzz_fleet.fuzz_one, fuzz_fleet.SEEDS, fuzz_fleet.TOKENS),
        Target("opus", fuzz_opus.fuzz_one, fuzz_opus.SEEDS, fuzz_opus.TOKENS),
        Target("playout", fuzz_playout.fuzz_one, fuzz_playout.SEEDS, fuzz_playout.TOKENS),
        Target("updates", fuzz_updates.fuzz_one, fuzz_updates.SEEDS),
        Target("wav", fuzz_wav.fuzz_one, fuzz_wav.SEEDS, fuzz_wav.TOKENS),
    )
}
