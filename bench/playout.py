"""Play speech over a recorded trace through our sender and playout, and through stock aiortc's.

`python -m bench.playout --speech WAV --trace CSV --out DIR` leaves a table, the heard WAVs and a plot. The
one rule: both receivers get the same trace, the same card clock and the same scoring.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench import quality, traces
from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.format import FRAME_SAMPLES, PERIOD_SAMPLES
from voicemeet_edge.voice.opus import OpusEncoder
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.playout import Playout, PlayoutStats
from voicemeet_edge.voice.sender import VoiceSender

CARD_MS = 20.0  # ms; capture and playback buffer of the simulated card, together
FRAMING_MS = 20.0  # ms; a frame leaves when its last sample has been captured
REPORT_MS = 1000.0  # ms; RTCP's usual distance of reports
RED_TYPE = 111  # Opus' payload type inside RED; any number, both ends are here
PULL_PHASE_MS = 3.7  # ms; the card's clock has no phase in common with the packets

Pcm = npt.NDArray[np.int16]


@dataclass(slots=True)
class Run:
    """What one receiver made of a trace."""

    name: str
    heard: Pcm
    events: list[tuple[float, str]] = field(default_factory=list)
    stats: PlayoutStats | None = None
    payload_sizes: list[int] = field(default_factory=list)
    silent_share: float = 0.0
    cpu_ms_per_s: float = 0.0
    encode_ms_per_s: float = 0.0


def speech_for(rows: list[traces.Row], speech: Pcm) -> Pcm:
    """Repeat or cut the speech to one frame per packet."""
    return np.resize(speech, len(rows) * FRAME_SAMPLES)


def on_time_axis(rows: list[traces.Row], speech: Pcm) -> Pcm:
    """Lay the speech on the receiver's time axis: the sender's clock may drift."""
    span = rows[-1].sent_ms - rows[0].sent_ms
    ideal = (len(rows) - 1) * FRAMING_MS
    if abs(span - ideal) < 1.0:
        return speech
    count = int(len(speech) * span / ideal)
    places = np.linspace(0, len(speech) - 1, count)
    return np.interp(places, np.arange(len(speech)), speech).astype(np.int16)


def encode(rows: list[traces.Row], speech: Pcm, bitrate: int | None, red: bool) -> tuple[list[bytes], float]:
    """Encode every frame as the sender would, told each second what was lost; also its CPU in ms/s."""
    control = SendControl(0.0, red=red)
    sender = VoiceSender(control, red_payload_type=RED_TYPE if red else None)
    fixed = None if bitrate is None else OpusEncoder(bitrate)
    payloads = []
    next_report, reported = REPORT_MS, 0
    began = time.process_time()
    for index, row in enumerate(rows):
        sent = row.sent_ms - rows[0].sent_ms
        if sent >= next_report:
            # What was sent 150 ms ago is known there, and the report takes a while to come back.
            known = max(reported + 1, index - 8)
            lost = sum(r.arrival_ms is None for r in rows[reported:known])
            control.loss(lost / (known - reported), sent / 1000)
            reported = known
            next_report += REPORT_MS
        pcm = speech[index * FRAME_SAMPLES : (index + 1) * FRAME_SAMPLES].tobytes()
        if fixed is not None:
            fixed.set_fec(control.plan.fec_percent > 0)
            fixed.set_loss(control.plan.fec_percent)
            payloads.append(fixed.encode(pcm))
        else:
            packet = sender.encode(pcm, index * FRAME_SAMPLES)
            assert packet is not None  # the plans of a good line have 20 ms in each packet
            payloads.append(packet[0])
    return payloads, (time.process_time() - began) * 1000 / (len(rows) * FRAMING_MS / 1000)


def _timeline(rows: list[traces.Row]) -> tuple[list[tuple[float, int]], int]:
    """Return the arrivals in order as (ms since the first sample was captured, row), and the pulls."""
    start = rows[0].sent_ms - FRAMING_MS
    arrivals = [
        (row.arrival_ms - start, index) for index, row in enumerate(rows) if row.arrival_ms is not None
    ]
    arrivals.sort()
    span = rows[-1].sent_ms - start + 1000.0
    return arrivals, int(span / 10)


def play_ours(rows: list[traces.Row], payloads: list[bytes], red: bool) -> Run:
    """Run our playout over the trace."""
    arrivals, pulls = _timeline(rows)
    playout = Playout()
    run = Run("ours", np.zeros(0, dtype=np.int16), payload_sizes=[len(p) for p in payloads])
    heard = np.zeros(
        pulls * PERIOD_SAMPLES + int((PULL_PHASE_MS + CARD_MS) * 48) + PERIOD_SAMPLES, dtype=np.int16
    )
    position = 0
    before = asdict(playout.stats)
    began = time.process_time()
    for pull in range(pulls):
        now = pull * 10 + PULL_PHASE_MS
        while position < len(arrivals) and arrivals[position][0] <= now:
            at, index = arrivals[position]
            position += 1
            packet = RtpAudio(
                rows[index].seq & 0xFFFF,
                index * FRAME_SAMPLES & 0xFFFFFFFF,
                1,
                payloads[index],
                at / 1000,
                red,
            )
            playout.push(packet, at / 1000)
        place = int((now + CARD_MS) * 48)
        heard[place : place + PERIOD_SAMPLES] = playout.pull(now / 1000)
        if now <= rows[-1].sent_ms - rows[0].sent_ms + FRAMING_MS:
            run.stats = replace(playout.stats)  # what follows the last packet is no loss
        if pull % 10 == 0:
            after = asdict(playout.stats)
            run.events.extend((now / 1000, key) for key in _EVENTS if after[key] > before[key])
            before = after
    run.cpu_ms_per_s = (time.process_time() - began) * 1000 / (pulls / 100)
    run.heard = heard
    return run


_EVENTS = ("concealed_frames", "from_fec", "from_copy", "accelerated", "expanded", "skipped_samples", "late")


def play_stock(rows: list[traces.Row], speech: Pcm) -> Run:
    """Run stock aiortc's encoder, jitter buffer and decoder over the trace, its frames played in order."""
    from aiortc.codecs.opus import OpusDecoder as StockDecoder
    from aiortc.codecs.opus import OpusEncoder as StockEncoder
    from aiortc.jitterbuffer import JitterBuffer, JitterFrame
    from aiortc.rtp import RtpPacket
    from av import AudioFrame

    encoder = StockEncoder()
    payloads = []
    for index in range(len(rows)):
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME_SAMPLES)
        frame.planes[0].update(speech[index * FRAME_SAMPLES : (index + 1) * FRAME_SAMPLES].tobytes())
        frame.sample_rate, frame.pts = 48_000, index * FRAME_SAMPLES
        frame.time_base = Fraction(1, 48_000)
        encoded, _ = encoder.encode(frame)
        payloads.append(encoded[0] if encoded else b"")
    decoder, buffer = StockDecoder(), JitterBuffer(capacity=16, prefetch=4)
    arrivals, pulls = _timeline(rows)
    heard = np.zeros(
        pulls * PERIOD_SAMPLES + int((PULL_PHASE_MS + CARD_MS) * 48) + PERIOD_SAMPLES, dtype=np.int16
    )
    queue: deque[Pcm] = deque()
    position = dry = 0
    for pull in range(pulls):
        now = pull * 10 + PULL_PHASE_MS
        while position < len(arrivals) and arrivals[position][0] <= now:
            index = arrivals[position][1]
            position += 1
            packet = RtpPacket(payload_type=111, sequence_number=rows[index].seq & 0xFFFF)
            packet.timestamp = index * FRAME_SAMPLES & 0xFFFFFFFF
            packet._data = payloads[index]  # type: ignore[attr-defined]
            _, ready = buffer.add(packet)
            if isinstance(ready, JitterFrame):
                for decoded in decoder.decode(ready):
                    if not isinstance(decoded, AudioFrame):
                        continue
                    stereo = decoded.to_ndarray().reshape(-1, 2)
                    queue.extend(np.array_split(stereo.mean(axis=1).astype(np.int16), 2))
        place = int((now + CARD_MS) * 48)
        if queue:
            heard[place : place + PERIOD_SAMPLES] = queue.popleft()
        else:
            dry += 1
    return Run("stock aiortc", heard, silent_share=dry / pulls)


def table(results: list[tuple[Run, quality.Quality]], seconds: float) -> str:
    """Format the comparison."""
    lines = ["receiver        PESQ-WB  STOI   delay p50  p95    concealed", "-" * 60]
    for run, scored in results:
        concealed = run.silent_share
        if run.stats is not None:
            concealed = run.stats.concealed_samples / max(run.stats.pulled_samples, 1)
        lines.append(
            f"{run.name:<15} {scored.pesq:7.2f}  {scored.stoi:.3f}  {scored.delay(50):6.0f} ms"
            f" {scored.delay(95):5.0f} ms {concealed * 100:7.2f} %"
        )
    for run, _ in results:
        if run.stats is None:
            continue
        lines.append("")
        lines.append(
            f"{run.name}: playout {run.cpu_ms_per_s:.1f} ms/s, encode {run.encode_ms_per_s:.1f} ms/s"
        )
        rate = sum(run.payload_sizes) * 8 / seconds / 1000
        sizes = sorted(set(run.payload_sizes))
        lines.append(f"payload {rate:.1f} kb/s, on the wire {rate + 25.6:.1f} kb/s, sizes {sizes} bytes")
        lines.append(", ".join(f"{key} {value}" for key, value in asdict(run.stats).items() if value))
    return "\n".join(lines) + "\n"


def plot(path: Path, spoken: Pcm, results: list[tuple[Run, quality.Quality]]) -> None:
    """Draw delay over time, the decisions, and the waveforms."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(12, 9), sharex=True, constrained_layout=True)
    for run, scored in results:
        if scored.delays_ms:
            axes[0].plot(*zip(*scored.delays_ms, strict=True), ".-", label=run.name)
        axes[1].step(
            [s.start_s for s in scored.segments],
            [s.pesq for s in scored.segments],
            where="post",
            label=run.name,
        )
    axes[0].set_ylabel("mouth to ear, ms")
    axes[1].set_ylabel("PESQ-WB per 2 s")
    axes[1].set_ylim(0, 4.7)
    for row, key in enumerate(_EVENTS):
        at = [when for when, event in results[0][0].events if event == key]
        axes[1].plot(at, [0.1 + 0.12 * row] * len(at), "|", label=key)
    for row, (name, sound) in enumerate([("spoken", spoken), *((r.name, r.heard) for r, _ in results)]):
        thin = sound[::48].astype(np.float64) / 32768 - row
        axes[2].plot(np.arange(len(thin)) / 1000, thin, linewidth=0.4, label=name)
    axes[2].set_xlabel("s")
    for axis in axes:
        axis.legend(loc="upper right", fontsize=7, ncols=4)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def compare(
    rows: list[traces.Row], speech: Pcm, bitrate: int | None = None, *, red: bool = True, stock: bool = True
) -> tuple[Pcm, list[tuple[Run, quality.Quality]]]:
    """Run the trace through our receiver and, if asked, stock aiortc's; returns what was spoken too."""
    spoken = speech_for(rows, speech)
    red = red and bitrate is None
    payloads, encode_cpu = encode(rows, spoken, bitrate, red)
    runs = [play_ours(rows, payloads, red)]
    runs[0].encode_ms_per_s = encode_cpu
    if stock:
        runs.append(play_stock(rows, spoken))
    axis = on_time_axis(rows, spoken)
    return axis, [(run, quality.score(axis, run.heard)) for run in runs]


def main(arguments: list[str] | None = None, say: Callable[[str], object] = sys.stdout.write) -> int:
    """Parse the command line, run, and leave the results in a folder."""
    parser = argparse.ArgumentParser(prog="python -m bench.playout", description=__doc__)
    parser.add_argument("--speech", type=Path, required=True, help="16-bit WAV, any rate")
    parser.add_argument("--trace", type=Path, required=True, help="CSV: seq,sent_ms,arrival_ms")
    parser.add_argument("--out", type=Path, required=True, help="folder for table, WAVs and plot")
    parser.add_argument("--bitrate", type=int, help="fixed bit/s; only in-band FEC follows the loss")
    parser.add_argument("--no-red", action="store_true", help="as if the peer did not offer audio/red")
    parser.add_argument("--no-stock", action="store_true", help="leave stock aiortc out")
    options = parser.parse_args(arguments)
    rows = traces.read(options.trace)
    if not rows:
        parser.error(f"{options.trace}: no packets")
    spoken, results = compare(
        rows,
        quality.load(options.speech),
        options.bitrate,
        red=not options.no_red,
        stock=not options.no_stock,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    text = table(results, len(rows) * FRAMING_MS / 1000)
    (options.out / "table.txt").write_text(text)
    quality.save(options.out / "spoken.wav", spoken)
    for run, _ in results:
        quality.save(options.out / f"{run.name.replace(' ', '-')}.wav", run.heard)
    plot(options.out / "plot.png", spoken, results)
    say(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
