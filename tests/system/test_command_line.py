"""The command line as a person types it, in processes and terminals of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
import urllib.request
from pathlib import Path

import pytest

from voicemeet_edge import __version__
from voicemeet_edge.demo.remote import BETWEEN_PRESSES_S
from voicemeet_edge.settings import render_template

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

LIMIT_S = 60.0  # s for a command that does not stay
VERBS = ("run", "check", "hub", "demo", "devices", "keygen")


def voicemeet(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "voicemeet_edge", *arguments],
        capture_output=True, text=True, timeout=LIMIT_S, cwd=cwd, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_help_names_every_verb() -> None:
    done = voicemeet("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert re.search(rf"^\s+{verb}\s", done.stdout, re.MULTILINE)
    assert voicemeet("--version").stdout.strip() == f"voicemeet-edge {__version__}"


def test_no_words_and_wrong_words_are_refused() -> None:
    for words in ((), ("dance",), ("run", "--loud")):
        done = voicemeet(*words)
        assert done.returncode == 2
        assert "usage:" in done.stderr
        assert "Traceback" not in done.stderr


WRONG = {
    "a value": (
        '[audio]\nvolume = 300\n[backend]\napikey = "k"',
        r"audio\.volume = 300 \(line 2\): expected .*100",
    ),
    "a key": (
        '[call]\nrng_timeout_s = 3\n[backend]\napikey = "k"',
        r"call\.rng_timeout_s = .*ring_timeout_s",
    ),
    "a section": ("[sound]\nvolume = 3", r"\[sound\]"),
    "not TOML": ("volume = = 3", r"valid TOML"),
    "no key": ("[call]\n", r"backend\.apikey = \(empty\)"),
    "a secret": (
        '[security]\nintercom_keys = ["my password"]',
        r"security\.intercom_keys = •••• \(line 2\): expected",
    ),
}


@pytest.mark.parametrize("verb", ["run", "check"])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_is_one_line_and_78(tmp_path: Path, verb: str, case: str) -> None:
    text, said = WRONG[case]
    config = tmp_path / "voicemeet.toml"
    config.write_text(text)
    done = voicemeet(verb, "--config", str(config), cwd=tmp_path)
    assert done.returncode == 78
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(str(config))
    assert re.search(said, line)
    assert "password" not in line
    assert os.listdir(tmp_path) == ["voicemeet.toml"]


def test_a_file_that_is_missing_is_78_too(tmp_path: Path) -> None:
    for verb in ("run", "check", "hub"):
        done = voicemeet(verb, "--config", str(tmp_path / "nowhere.toml"))
        assert done.returncode == 78
        assert len(done.stderr.splitlines()) == 1


def test_the_template_is_all_right(tmp_path: Path) -> None:
    config = tmp_path / "voicemeet.toml"
    config.write_text(render_template().replace('apikey = ""', 'apikey = "some-key"'))
    done = voicemeet("check", "--config", str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{config}: all right\n"


def test_keygen_gives_a_new_key_each_time() -> None:
    keys = [voicemeet("keygen", "--text").stdout.strip() for _ in range(2)]
    assert keys[0] != keys[1]
    for key in keys:
        assert re.fullmatch(r"[\w-]{43}", key)
    done = voicemeet("keygen")
    assert done.returncode == 0
    assert "intercom_keys" in done.stdout


def test_devices_says_what_there_is() -> None:
    done = voicemeet("devices")
    assert done.returncode in (0, 1)
    assert re.search(r"plughw:CARD=|No sound card", done.stdout)


def test_a_hub_whose_directory_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    config = tmp_path / "hub.toml"
    config.write_text(f'state_dir = "{tmp_path / "file" / "state"}"\n[http]\nport = 0\n')
    done = voicemeet("hub", "--config", str(config))
    assert done.returncode == 78
    assert "state_dir" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_headless_demo_judges_a_call(tmp_path: Path) -> None:
    if shutil.which("turnserver") is None:
        pytest.skip("coturn is not installed (Debian package coturn)")
    out = tmp_path / "out"
    for _ in range(3):  # a machine that stalls costs segments
        done = voicemeet("demo", "--headless", "--out", str(out), "--seconds", "6")
        if done.returncode == 0:
            break
        assert "DID NOT ARRIVE" in done.stdout, done.stderr
    assert done.returncode == 0
    for word in ("press to audio", "delay p50", "lost", "kb/s", "path: relay", "check words"):
        assert word in done.stdout
    assert (out / "call.png").read_bytes().startswith(b"\x89PNG")
    for name in ("a", "b"):
        assert (out / f"heard-by-{name}.wav").read_bytes().startswith(b"RIFF")
        assert json.loads((out / f"heard-by-{name}.marks.json").read_text())["rate"] == 48_000


def test_speech_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"not a WAV")
    done = voicemeet("demo", "--headless", "--speech", str(tmp_path / "noise.wav"), "--out", str(tmp_path))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "noise.wav" in done.stderr


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        self._theirs = theirs
        self.before = termios.tcgetattr(theirs)
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "voicemeet_edge", *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd=cwd,
        )  # fmt: skip

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until this is shown."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := re.search(pattern, self.shown)):
            readable, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"no {pattern!r} in: {self.shown}"
            self.shown += os.read(self._ours, 65_536).decode(errors="replace")
        return found

    def type(self, keys: str) -> None:
        """Press keys."""
        self.shown = ""
        os.write(self._ours, keys.encode())

    @property
    def manners(self) -> list[object]:
        """How the terminal behaves now."""
        return list(termios.tcgetattr(self._theirs))

    def close(self) -> None:
        """End the program if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


def test_the_demo_in_a_terminal(tmp_path: Path) -> None:
    if shutil.which("turnserver") is None:
        pytest.skip("coturn is not installed (Debian package coturn)")
    terminal = Terminal("demo", "--port", "0", "--out", str(tmp_path), cwd=tmp_path)
    try:
        url = terminal.wait_for(r"(http://\S+/desk/)")[1]
        terminal.wait_for("(?i)ready")
        assert terminal.manners != terminal.before
        with urllib.request.urlopen(url, timeout=LIMIT_S) as page:
            assert b"<title>" in page.read()
        terminal.type("c")
        terminal.wait_for("(?i)looking")
        time.sleep(BETWEEN_PRESSES_S)
        terminal.type("c")
        terminal.wait_for("(?i)ready")
        terminal.type("q")
        terminal.wait_for("goodbye")
        assert terminal.process.wait(LIMIT_S) == 0
        assert terminal.manners == terminal.before
        assert "Traceback" not in terminal.shown
    finally:
        terminal.close()
