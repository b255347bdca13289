"""A whole call between two processes, measured: `python -m bench.call [--profile loss5] [--wrtc] [--echo]`.

Two devices of ours, then two stock aiortc peers (with --wrtc two of libwebrtc too, after `npm ci` in
bench/), one call after the other on the same network: CPU and memory of each end, delay from mouth to ear,
PESQ-WB and STOI per 2 s segment, what went over the wire. Profiles other than clean need root.

One rule: where the machine stood still, the figure says so.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.call_ends import HERE, PROFILES, Plan, Run, run_call
from bench.call_report import NAMES, save, table
from voicemeet_edge.audio.wav import read_wav, write_wav
from voicemeet_edge.errors import VoiceMeetError
from voicemeet_edge.testing.signals import speech_like

VOICES = (("a", "en"), ("b", "en-us+f3"))
TEXT = (
    "Press the call button and talk. Nobody in between can hear us, and nothing is kept. "
    "The quick brown fox jumps over the lazy dog, while seven wizards make toxic brew for the evil queen. "
    "Hello, this is the entrance. Could you please open the door? I have a parcel for the third floor. "
)
SPEECH_S = 20.0  # s of generated speech where espeak-ng is missing
# A disk that is busy stalls a recording, and with it the call, by up to a second.
SHARED = "/dev/shm" if Path("/dev/shm").is_dir() else None
MIN_SECONDS = 4.0  # a shorter call has no two segments


def prepare_speech(given: Path | None, scratch: Path) -> dict[str, Path]:
    """Two different voices; or the given recording, for the other end begun in its middle."""
    said = {name: scratch / f"said-by-{name}.wav" for name, _ in VOICES}
    espeak = shutil.which("espeak-ng")
    for number, (name, voice) in enumerate(VOICES):
        if given is not None:
            samples = read_wav(given)
            write_wav(said[name], np.roll(samples, -(len(samples) // 2) * number))
        elif espeak is not None:
            spoken = scratch / "espeak.wav"
            text = TEXT if number == 0 else TEXT[len(TEXT) // 2 :] + TEXT
            subprocess.run([espeak, "-v", voice, "-s", "150", "-w", spoken, text], check=True, timeout=30)
            write_wav(said[name], read_wav(spoken))
        else:
            write_wav(said[name], speech_like(SPEECH_S, seed=number, pitch_hz=120.0 + 70 * number))
    return said


async def measure(options: argparse.Namespace, say: Callable[[str], object]) -> list[Run]:
    """Make the calls one after the other."""
    kinds = ["ours", *([] if options.alone else ["stock"]), *(["wrtc"] if options.wrtc else [])]
    runs = []
    with tempfile.TemporaryDirectory(prefix="voicemeet-bench-", dir=SHARED) as scratch:
        folder = Path(scratch)
        said = await asyncio.to_thread(prepare_speech, options.speech, folder)
        echo = "auto" if options.echo else "off"
        for kind in kinds:
            say(f"{NAMES[kind]}: {options.profile}, {options.seconds:.0f} s …\n")
            # Where nothing comes back the canceller rests, and would be measured at rest.
            room = options.room or options.echo
            plan = Plan(kind, options.profile, options.seconds, said, folder, echo, options.seed, room)
            runs.append(await run_call(plan))
        if options.keep:
            await asyncio.to_thread(shutil.copytree, folder, options.keep, dirs_exist_ok=True)
    return runs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.call", description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0, help="of talking that is measured")
    parser.add_argument("--profile", choices=PROFILES, default="clean", help="what the network does")
    parser.add_argument("--speech", type=Path, metavar="WAV", help="what is said (default: espeak-ng)")
    parser.add_argument("--echo", action="store_true", help="ours with the echo canceller, and --room")
    parser.add_argument(
        "--room", action="store_true", help="ours in rooms that echo; costs about 11 ms/s of CPU by itself"
    )
    parser.add_argument("--wrtc", action="store_true", help="also libwebrtc, from npm @roamhq/wrtc")
    parser.add_argument("--alone", action="store_true", help="ours only, without stock aiortc beside it")
    parser.add_argument("--seed", type=int, default=1, help="of the network's losses")
    parser.add_argument("--out", type=Path, default=Path("out") / "call", metavar="DIR", help="JSON and PNG")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="also keep recordings and logs here")
    return parser


def main(arguments: list[str] | None = None, say: Callable[[str], object] = sys.stdout.write) -> int:
    """Parse, measure, tell."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.seconds < MIN_SECONDS:
        parser.error(f"--seconds must be at least {MIN_SECONDS:.0f}")
    if options.wrtc and not (HERE / "node_modules" / "@roamhq").is_dir():
        parser.error("--wrtc needs `npm ci` in bench/ first")
    try:
        runs = asyncio.run(measure(options, say))
    except VoiceMeetError as error:
        say(f"bench.call: {error}\n")
        return 1
    name = f"{options.profile}{'-echo' if options.echo else '-room' if options.room else ''}"
    save(runs, options.out, name)
    say(f"\n{table(runs)}\n\n{options.out / name}.json, .png\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
