"""How long a call takes to connect over a path that loses packets: `python -m bench.setup_time [--runs N]`.

Two real peers in two network namespaces, a seeded relay between them; signaling is instant, so the time is
ICE and DTLS alone, from the first look for addresses to both ends encrypted. In the relayed paths a real
coturn stands in a third namespace, and each hop to it is impaired as said. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from tests.webrtc.coturn import coturn
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.errors import MediaError
from voicemeet_edge.testing.network import ImpairedNetwork, Impairment, unavailable
from voicemeet_edge.webrtc.events import Connected, PeerEvent
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.peer import Peer

PATHS = {
    "clean": Impairment(),
    "20 ms": Impairment(delay_s=0.02),
    "20 ms, 10 % loss": Impairment(delay_s=0.02, loss=0.10),
    "20 ms, 20 % loss": Impairment(delay_s=0.02, loss=0.20),
    "20 ms, bursts of 4, 5 %": Impairment(delay_s=0.02, loss=0.05, burst=4),
    "100 ms, 10 % loss": Impairment(delay_s=0.1, loss=0.10),
}
RELAYED = {
    "relayed, 20 ms a hop": PATHS["20 ms"],
    "relayed, 20 ms, 10 % loss a hop": PATHS["20 ms, 10 % loss"],
    "relayed, 20 ms, 20 % loss a hop": PATHS["20 ms, 20 % loss"],
}
TURNS = 20  # of the loop until a gathering has opened its sockets
LIMIT_S = 30.0  # s for one set-up


async def once(network: ImpairedNetwork, options: PeerOptions) -> float:
    """Connect once and return the seconds it took, infinity when it did not."""
    events: asyncio.Queue[PeerEvent] = asyncio.Queue()
    peers = [Peer(options, on_rtp=lambda _: None, on_event=events.put_nowait) for _ in range(2)]
    began = time.monotonic()
    try:
        with network.inside("b"):
            peers[1].prepare()
            for _ in range(TURNS):
                await asyncio.sleep(0)  # its sockets are opened in here
        with network.inside("a"):
            offer = await peers[0].create_offer()
        with network.inside("b"):
            answer = await peers[1].create_answer(offer)
        await peers[0].accept_answer(answer)
        async with asyncio.timeout(LIMIT_S):
            both = [await events.get() for _ in peers]
        took = time.monotonic() - began
        return took if all(isinstance(event, Connected) for event in both) else float("inf")
    except (TimeoutError, MediaError):
        return float("inf")
    finally:
        for peer in peers:
            await peer.close()


async def _direct(impairment: Impairment, runs: int, seed: int) -> list[float]:
    with ImpairedNetwork(("a", "b"), impairment, seed=seed) as network:
        return [await once(network, PeerOptions()) for _ in range(runs)]


async def _relayed(impairment: Impairment, runs: int, seed: int) -> list[float]:
    with (
        tempfile.TemporaryDirectory() as folder,
        ImpairedNetwork(("a", "b", "turn"), seed=seed) as network,
    ):
        async with coturn(Path(folder), network=network, node="turn") as server:
            network.impair(impairment)
            options = PeerOptions(ice_servers=(server.server(),), policy=IcePolicy.RELAY)
            return [await once(network, options) for _ in range(runs)]


async def measure(runs: int, seed: int, wanted: str) -> None:
    """Print one line per path."""
    print(f"{'path, one way':32} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8} {'failed':>7}")
    for paths, work in ((PATHS, _direct), (RELAYED, _relayed)):
        for name, impairment in paths.items():
            if wanted not in name:
                continue
            times = sorted(await work(impairment, runs, seed))
            p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
            failed = times.count(float("inf"))
            figures = " ".join(
                f"{figure * 1000:8.0f}" for figure in (statistics.median(times), p95, times[-1])
            )
            print(f"{name:32} {figures} {failed:7}", flush=True)


def main() -> None:
    """Parse, check, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="set-ups per path")
    parser.add_argument("--seed", type=int, default=1, help="of the relay's losses")
    parser.add_argument("--path", default="", help="only paths with this in their name")
    options = parser.parse_args()
    if reason := unavailable():
        parser.exit(69, f"{reason}\n")  # EX_UNAVAILABLE
    asyncio.run(measure(options.runs, options.seed, options.path))


if __name__ == "__main__":
    main()
