"""One moment of the device as plain values, for `status`, metrics and the fleet page; pure.

One rule: numbers, words of fixed lists and the sentence; no identifier of anybody or any call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.system.board import Board

Snapshot = dict[str, Any]
"""JSON: see `take`."""


def take(
    board: Board,
    *,
    version: str,
    name: str,
    up_s: float,
    volume: float,
    sound: Mapping[str, object],
    line: Mapping[str, object] | None,
    health: Mapping[str, object],
    self_test: Mapping[str, object] | None,
    image: Mapping[str, object] | None = None,
) -> Snapshot:
    """Put a moment together.

    Args:
        board: what the device is doing.
        version: the program's.
        name: what the device calls itself; "" for nothing.
        up_s: seconds since the device started.
        volume: loudness in force, per cent.
        sound: counters of the sound engine.
        line: figures of the call's connection; None outside a call.
        health: the machine's readings.
        self_test: outcome of the last one; None before the first.
        image: what the image says of itself; None on a system of one's own.
    """
    times = sorted(board.set_up_s)
    return {
        "version": version,
        "name": name,
        "sentence": board.sentence,
        "state": board.state,
        "lamp": board.lamp,
        "backend": {None: "not tried", True: "connected", False: "waiting"}[board.backend_up],
        "not_connected": None if board.not_connected is None else board.not_connected.value,
        "microphone": "open" if board.microphone_open else "closed",
        "faults": dict(board.faults),
        "report": board.report,
        "calls": dict(board.calls),
        "presses": dict(board.presses),
        "reconnects": board.reconnects,
        "path_losses": board.path_losses,
        "set_up_s": {"p50": _quantile(times, 0.5), "p95": _quantile(times, 0.95), "count": len(times)},
        "up_s": up_s,
        "volume": volume,
        "sound": dict(sound),
        "line": None if line is None else dict(line),
        "health": dict(health),
        "self_test": None if self_test is None else dict(self_test),
        "image": None if image is None else dict(image),
    }


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


ROWS = (
    ("doing", "sentence"),
    ("hub", "backend"),
    ("microphone", "microphone"),
    ("lamp", "lamp"),
    ("report", "report"),
)


def table(snapshot: Snapshot) -> str:
    """Write a snapshot for a person."""
    lines = [(label, str(snapshot[key])) for label, key in ROWS if snapshot.get(key)]
    if (reason := NotConnected.of(snapshot.get("not_connected") or "")) is not None:
        lines += [("why", reason.said), ("→", reason.cure)]
    lines += [("fault", f"{part}: {code}") for part, code in snapshot["faults"].items()]
    calls = snapshot["calls"]
    ended = ", ".join(f"{reason} {count}" for reason, count in sorted(calls.items(), key=lambda one: -one[1]))
    lines.append(("calls", f"{sum(calls.values())}" + (f" ({ended})" if ended else "")))
    set_up = snapshot["set_up_s"]
    if set_up["count"]:
        lines.append(("set-up", f"{set_up['p50']:.2f} s half of them, {set_up['p95']:.2f} s nearly all"))
    lines.append(("volume", f"{snapshot['volume']:.0f} %"))
    if snapshot["sound"].get("ambient_db") is not None:
        boost = snapshot["sound"]["noise_boost_db"]
        louder = f", {boost:.0f} dB louder for it" if boost else ""
        lines.append(("noise", f"{snapshot['sound']['ambient_db']:.0f} dB of full scale{louder}"))
    if snapshot["sound"].get("echo_db") is not None:
        lines.append(
            ("echo", f"{snapshot['sound']['echo_db']:.0f} dB of what the loudspeaker plays, at most")
        )
    lost = f"hub {snapshot['reconnects']} times, line of a call {snapshot['path_losses']} times"
    lines.append(("lost", lost))
    if snapshot["line"]:
        lines.append(("line", _line(snapshot["line"])))
    test = snapshot["self_test"]
    if test:
        lines.append(("self-test", f"{test['outcome']}, {_ago(float(test['age_s']))} ago"))
    lines += _image(snapshot.get("image") or {})
    lines.append(("machine", _machine(snapshot["health"])))
    lines.append(("running", f"{_ago(float(snapshot['up_s']))}, version {snapshot['version']}"))
    width = max(len(label) for label, _ in lines)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in lines)


def _line(line: Mapping[str, Any]) -> str:
    round_trip = line.get("round_trip_s")
    parts = [
        f"{100 * float(line.get('local_loss') or 0):.1f} % lost here",
        f"{100 * float(line.get('remote_loss') or 0):.1f} % there",
        f"jitter {1000 * float(line.get('jitter_s') or 0):.0f} ms",
    ]
    if round_trip is not None:
        parts.append(f"round trip {1000 * float(round_trip):.0f} ms")
    return ", ".join(parts)


def _image(image: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of a system that is an image of ours."""
    if not image:
        return []
    trial = ", has yet to prove itself" if image.get("on_trial") else ""
    support = f", security updates until {image['support_until']}" if image.get("support_until") else ""
    rows = [("system", f"{image.get('board') or 'image'}, slot {image['slot']}{trial}{support}")]
    offered = f"{image['offered']} is offered. " if image.get("offered") else ""
    if offered or image.get("last_update"):
        rows.append(("update", f"{offered}{image.get('last_update') or ''}".strip()))
    if image.get("integrity_lost"):
        rows.append(
            ("DAMAGED", "what this system reads does not fit its hashes: update it, or write the card anew")
        )
    if image.get("data_remade"):
        rows.append(("data", f"the data partition was made anew at this start ({image['data_remade']})"))
    return rows


def _machine(health: Mapping[str, Any]) -> str:
    parts = []
    if health.get("temperature_c") is not None:
        parts.append(f"{health['temperature_c']:.0f} °C")
    if health.get("undervoltage"):
        parts.append("POWER SUPPLY TOO WEAK")
    if health.get("memory_mb") is not None:
        parts.append(f"{health['memory_mb']:.0f} MB")
    if health.get("disk_free_mb") is not None:
        parts.append(f"{health['disk_free_mb']} MB of disk free")
    return ", ".join(parts) or "not known"


def _ago(seconds: float) -> str:
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {word}"
    return f"{seconds:.0f} s"


def as_values(record: object) -> dict[str, object]:
    """Flatten a dataclass of counters; what it holds of other dataclasses goes in one level up, by name."""
    flat: dict[str, object] = {}
    for key, value in asdict(record).items():  # type: ignore[call-overload]
        if isinstance(value, dict):
            flat.update({f"{key}_{inner}": number for inner, number in value.items()})
        else:
            flat[key] = value
    return flat
