"""What the demo's devices say: a synthesiser's sentences where there is one, else speech-like sound."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from voicemeet_edge.audio.wav import read_wav, write_wav
from voicemeet_edge.errors import LocalError
from voicemeet_edge.testing.signals import speech_like

SPEECH_S = 20.0  # s before made-up speech repeats; longer than a delay could be mistaken by
TEXTS = (
    "Hello, this is the entrance. Could you please open the door? I have a parcel for the third floor. "
    "Press the call button and talk. Nobody in between can hear us, and nothing is kept. "
    "The quick brown fox jumps over the lazy dog, while seven wizards make toxic brew.",
    "Good morning, front desk speaking. The lift is on your left, and the stairs are behind you. "
    "Please wait a moment, I am looking for the right key. There it is: come in and mind the step. "
    "A large parcel for the third floor was expected at noon.",
)
VOICES = ("en", "en-us+f3")  # two that cannot be mistaken for each other
PITCHES_HZ = (120.0, 190.0)


def write_speech(path: Path, which: int, given: Path | None = None) -> None:
    """Write what device 0 or 1 says as a WAV file; `given` is the person's own.

    Raises:
        LocalError: the person's file cannot be used.
    """
    if given is not None:
        try:
            write_wav(path, read_wav(given))
        except (OSError, ValueError) as error:
            raise LocalError(f"{given} cannot be used as speech: {error}") from None
        return
    espeak = shutil.which("espeak-ng")
    if espeak is None:
        write_wav(path, speech_like(SPEECH_S, seed=which, pitch_hz=PITCHES_HZ[which]))
        return
    with tempfile.TemporaryDirectory(prefix="voicemeet-demo-") as scratch:
        spoken = Path(scratch) / "spoken.wav"
        command = [espeak, "-v", VOICES[which], "-s", "150", "-w", str(spoken), TEXTS[which]]
        subprocess.run(command, check=True, timeout=30)
        write_wav(path, read_wav(spoken))
