"""Real ALSA without a sound card: PulseAudio with two null sinks, and ALSA's pulse plugin on top.

Two boxes are crossed: what `boxA` plays `boxB` hears and the other way round, in real time, through the
whole of pyalsaaudio and ALSA. One rule: the server is our own, in a directory of its own, and no sound
server of this machine is touched.

A test hears what a box plays by recording the other's microphone (`hear("boxB")` records what boxA
plays), and lets a box hear a WAV by playing it into the sink that box listens to (`say("boxA", wav)`).
Processes (and this one, before it first opens ALSA) need `environment`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

START_LIMIT_S = 15.0  # s; a loaded machine needs a few for the server to come up
STOP_LIMIT_S = 5.0  # s
SYSTEM_CONFIGURATION = "/usr/share/alsa/alsa.conf"

SERVER = (
    "pulseaudio",
    "-n",
    "--daemonize=no",
    "--exit-idle-time=-1",
    "--use-pid-file=no",
    "--disallow-exit",
    "--log-level=error",
)
RECORDER = (
    "parec",
    "--file-format=wav",
    "--rate=48000",
    "--channels=1",
    "--format=s16le",
    "--latency-msec=20",
)

# norewinds: a null sink that is not rewound gives every sample once and in time.
SCRIPT = """\
load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=airA rate=48000 channels=1 format=s16le norewinds=1
load-module module-null-sink sink_name=airB rate=48000 channels=1 format=s16le norewinds=1
"""

# The rate of both is fixed, so that what a test asks of ALSA is what ALSA gives.
BOX = """\
pcm.{box} {{
    type asym
    playback.pcm {{ type pulse server "unix:{socket}" device "{plays}" }}
    capture.pcm {{ type pulse server "unix:{socket}" device "{hears}.monitor" }}
}}
"""


def missing() -> str | None:
    """Say what is missing on this machine for a PulseServer, or None."""
    if shutil.which("pulseaudio") is None:
        return "pulseaudio is not installed"
    if not any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        return "libasound2-plugins is not installed"
    return None


class PulseServer:
    """A headless PulseAudio with two crossed boxes; a context manager."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pulse-"))
        self._socket = self._folder / "native"
        self._log = (self._folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        self._helpers: list[subprocess.Popen[bytes]] = []
        configuration = [f"<{SYSTEM_CONFIGURATION}>"]
        for box, plays, hears in (("boxA", "airA", "airB"), ("boxB", "airB", "airA")):
            configuration.append(BOX.format(box=box, socket=self._socket, plays=plays, hears=hears))
        (self._folder / "asound.conf").write_text("\n".join(configuration))
        (self._folder / "script.pa").write_text(SCRIPT.format(socket=self._socket))

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs in its environment to find the boxes."""
        return {
            "ALSA_CONFIG_PATH": str(self._folder / "asound.conf"),
            "PULSE_SERVER": f"unix:{self._socket}",
            "HOME": str(self._folder),
            "XDG_RUNTIME_DIR": str(self._folder),
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = subprocess.Popen(
            [*SERVER, f"--file={self._folder / 'script.pa'}"],
            env={**os.environ, **self.environment},
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self._answers():
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        log = (self._folder / "log").read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"PulseAudio did not start: {log[-500:]}")

    def _answers(self) -> bool:
        if not self._socket.exists():
            return False
        listed = subprocess.run(
            ["pactl", "list", "short", "sinks"],
            env={**os.environ, **self.environment},
            capture_output=True,
            timeout=START_LIMIT_S,
            check=False,
        )
        return b"airA" in listed.stdout and b"airB" in listed.stdout

    def kill(self) -> None:
        """End the server without a word: for its clients the card is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_LIMIT_S)
            self._process = None
            self._socket.unlink(missing_ok=True)

    def say(self, box: str, wav: Path) -> None:
        """Let a box hear a WAV file, mixed with what the other box plays, from now on and once."""
        air = "airB" if box == "boxA" else "airA"
        self._help(["paplay", f"--device={air}", str(wav)])

    def record(self, box: str, wav: Path) -> None:
        """Record what a box plays into a WAV file until `stop`."""
        air = "airA" if box == "boxA" else "airB"
        self._help(
            [*RECORDER, f"--device={air}.monitor", str(wav)],
        )

    def _help(self, command: list[str]) -> None:
        self._helpers.append(
            subprocess.Popen(
                command,
                env={**os.environ, **self.environment},
                stdout=self._log,
                stderr=self._log,
                stdin=subprocess.DEVNULL,
            )
        )

    def finish_recordings(self) -> None:
        """End players and recorders, so that their files are whole."""
        for helper in self._helpers:
            helper.terminate()
        for helper in self._helpers:
            try:
                helper.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait(STOP_LIMIT_S)
        self._helpers.clear()

    def stop(self) -> None:
        """End everything and remove the directory."""
        self.finish_recordings()
        self.kill()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
