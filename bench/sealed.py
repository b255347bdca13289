"""What sealing costs: `python -m bench.sealed` prints milliseconds per message and the sizes on the wire."""

from __future__ import annotations

import json
import time

from voicemeet_edge.signaling.sealed import Sealer

ROUNDS = 2_000  # messages per row; a second or two in all
BUDGET_MS = 1.0  # ms; sealing and opening together


def main() -> None:
    """Print one row per kind of message."""
    print(f"{'message':>22} {'plain':>8} {'sealed':>8} {'ms':>8}   budget {BUDGET_MS} ms")
    for name, fields in (
        ("bye", {"reason": "hung_up"}),
        ("hello", {"nonce": "00" * 32, "commitment": "00" * 32}),
        ("offer, 1.5 kB of SDP", {"sdp": "x" * 1500}),
        ("offer, 16 kB of SDP", {"sdp": "x" * 16384}),
    ):
        a, b = Sealer([bytes(32)], "call", "a"), Sealer([bytes(32)], "call", "b")
        # They introduce themselves, as each call's ends do.
        b.open("hello", a.seal("hello", {"v": 1, "slot": "a", "seq": 1}))
        a.open("hello", b.seal("hello", {"v": 1, "slot": "b", "seq": 1}))
        messages = [{"v": 1, "slot": "a", "seq": seq, **fields} for seq in range(2, ROUNDS + 2)]
        began = time.perf_counter()
        for message in messages:
            wire = a.seal("offer", message)
            b.open("offer", wire)
        ms = (time.perf_counter() - began) * 1000 / ROUNDS
        sizes = len(json.dumps(messages[-1])), len(json.dumps(wire))
        print(f"{name:>22} {sizes[0]:>8} {sizes[1]:>8} {ms:>8.3f}   {'ok' if ms <= BUDGET_MS else 'over'}")
    began = time.perf_counter()
    for at in range(200):
        Sealer([bytes(32)], str(at), "a")
    print(f"{'keys of a new call':>22} {'':>8} {'':>8} {(time.perf_counter() - began) * 5:>8.3f}")


if __name__ == "__main__":
    main()
