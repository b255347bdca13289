"""The files systemd reads: correct, sandboxed, and agreeing with each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from imaging.debs import EDGE

from voicemeet_edge.cli import EX_CONFIG

pytestmark = pytest.mark.system

PROJECT = Path(__file__).parent.parent.parent
UNITS = PROJECT / "systemd"
DEVICE = UNITS / "voicemeet-edge.service"
HUB = UNITS / "voicemeet-hub.service"
FAULT = UNITS / "voicemeet-edge-fault.service"
TAMPERED = UNITS / "voicemeet-edge-tampered.service"

# systemd's own measure of exposure, 0 to 10; what is left is network, sound and GPIO.
SCORE_LIMITS = {DEVICE: 1.5, HUB: 1.2, FAULT: 0.5, TAMPERED: 1.2}

# Known since systemd 254; Debian 12 has 252 and ignores them.
NEW_KEYS = ("RestartSteps", "RestartMaxDelaySec", "RestartMode")
NEW_KEYS_SINCE = 254


def tool(name: str) -> str:
    """Find a program of systemd or skip, saying which Debian package has it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing: install the Debian package systemd")
    return found


def version_of_systemd() -> int:
    result = subprocess.run(
        [tool("systemd-analyze"), "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    return int(result.stdout.split()[1])


def settings(unit: Path) -> list[tuple[str, str]]:
    """Read key and value of every line; systemd allows keys more than once."""
    lines = [line for line in unit.read_text().splitlines() if line and line[0] not in "#[;"]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


def values(unit: Path, key: str) -> list[str]:
    return [value for name, value in settings(unit) if name == key]


@pytest.mark.parametrize("unit", [DEVICE, HUB, FAULT, TAMPERED], ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    # The program need not be installed where the tests run; any other stands in for it.
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/bin/voicemeet-edge", "/bin/true"))
    result = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60
    )
    complaints = (result.stdout + result.stderr).splitlines()
    if version_of_systemd() < NEW_KEYS_SINCE:
        known = re.compile(f"Unknown key(?: name)? '({'|'.join(NEW_KEYS)})' in section")
        complaints = [line for line in complaints if not known.search(line)]
    # Complaints about other units of the machine are not ours.
    assert [line for line in complaints if unit.stem in line] == []


@pytest.mark.parametrize(("unit", "limit"), SCORE_LIMITS.items(), ids=["device", "hub", "fault", "tampered"])
def test_the_sandbox_stays_tight(unit: Path, limit: float) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=true", "--no-pager"]
    result = subprocess.run(
        [*command, f"--threshold={round(limit * 10)}", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SYSTEMD_COLORS": "0", "LANG": "C.UTF-8"},
    )
    score = re.search(r"Overall exposure level .*: ([\d.]+)", result.stdout)
    assert score, result.stdout + result.stderr
    assert float(score[1]) <= limit, result.stdout


@pytest.mark.parametrize("unit", [DEVICE, HUB], ids=lambda unit: unit.stem)
def test_what_both_services_promise(unit: Path) -> None:
    promised = {
        "Type": "notify",
        "Restart": "always",
        "RestartPreventExitStatus": "78",
        "StartLimitIntervalSec": "0",
        "LimitCORE": "0",
        "DevicePolicy": "closed",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "CapabilityBoundingSet": "",
        "WatchdogSec": "20s",
    }
    assert {key: values(unit, key) for key in promised} == {key: [value] for key, value in promised.items()}


def test_the_device_reaches_sound_and_gpio_and_no_other_device() -> None:
    assert values(DEVICE, "DeviceAllow") == ["char-alsa rw", "char-gpiochip rw"]
    assert values(HUB, "DeviceAllow") == []


def test_a_wrong_setting_ends_the_service_and_is_not_tried_again() -> None:
    # systemd looks at the main process' status only, so the check must be the main process' own.
    assert not any("voicemeet-edge run" in line or "check" in line for line in values(DEVICE, "ExecStartPre"))
    (run,) = values(DEVICE, "ExecStart")
    assert "--config %d/voicemeet.toml" in run
    assert any(value.startswith("voicemeet.toml:") for value in values(DEVICE, "LoadCredential"))
    assert values(DEVICE, "RestartPreventExitStatus") == [str(EX_CONFIG)]


@pytest.mark.parametrize("unit", [DEVICE, HUB], ids=lambda unit: unit.stem)
def test_no_secret_travels_in_the_environment_or_arguments(unit: Path) -> None:
    (environment,) = values(unit, "Environment")
    assert environment == "PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1"
    for line in values(unit, "ExecStart"):
        assert not re.search("key|token|secret", line)


def test_sysusers_makes_the_users_of_the_units(tmp_path: Path) -> None:
    command = tool("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    # `audio` has a fixed number in Debian's base-passwd.
    (tmp_path / "etc" / "group").write_text("root:x:0:\naudio:x:29:\n")
    subprocess.run(
        [command, f"--root={tmp_path}", str(UNITS / "sysusers.conf")], check=True, timeout=60, env={}
    )
    users = {line.split(":")[0] for line in (tmp_path / "etc" / "passwd").read_text().splitlines()}
    members = {
        line.split(":")[0]: line.split(":")[3]
        for line in (tmp_path / "etc" / "group").read_text().splitlines()
    }
    for unit in (DEVICE, HUB):
        assert set(values(unit, "User")) <= users
        assert set(values(unit, "Group")) <= set(members)
    for group in values(DEVICE, "SupplementaryGroups")[0].split():
        assert members[group] == "voicemeet-edge"


def test_tmpfiles_makes_the_folder_of_the_hubs_settings(tmp_path: Path) -> None:
    command = tool("systemd-tmpfiles")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0:::\nvoicemeet-edge:x:990:990:::\n")
    (tmp_path / "etc" / "group").write_text("root:x:0:\nvoicemeet-edge:x:990:\n")
    if os.geteuid() != 0:
        pytest.skip("systemd-tmpfiles --root needs root")
    subprocess.run(
        [command, "--create", f"--root={tmp_path}", str(UNITS / "tmpfiles.conf")], check=True, timeout=60
    )
    assert (tmp_path / "etc" / "voicemeet").is_dir()


def test_the_journal_of_a_device_is_volatile() -> None:
    assert ("Storage", "volatile") in settings(UNITS / "journald.conf")


def test_gpio_lines_belong_to_the_group_of_the_device() -> None:
    rule = (UNITS / "udev.rules").read_text()
    (group,) = re.findall(r'GROUP="(\w+)"', rule)
    assert group in values(DEVICE, "SupplementaryGroups")[0].split()


# The same limit systemd sets, asked of the kernel directly (linux/prctl.h, Linux 6.3).
UNDER_MEMORY_DENY = """
import ctypes, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    sys.exit(77)
import aiohttp.web, jwt, sqlite3, ssl
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
ec.generate_private_key(ec.SECP256R1())
jwt.encode({"a": 1}, "k" * 32, "HS256")
import voicemeet_edge.hub
"""


def test_the_hub_can_do_without_writable_code() -> None:
    assert values(HUB, "MemoryDenyWriteExecute") == ["yes"]
    result = subprocess.run([sys.executable, "-c", UNDER_MEMORY_DENY], timeout=60)
    if result.returncode == 77:
        pytest.skip("this kernel knows no PR_SET_MDWE")
    assert result.returncode == 0


def manager(folder: Path) -> dict[str, str]:
    """What systemd makes of a folder of drop-ins: the last word counts, in the order of their names."""
    return dict(one for file in sorted(folder.glob("*.conf")) for one in settings(file) if one[1])


def test_the_boards_watchdog_is_set_by_package_and_installer() -> None:
    file = UNITS / "watchdog.conf"
    said = dict(one for one in settings(file) if one[1])
    assert said["RuntimeWatchdogSec"] == "15s"  # the Raspberry Pi's hardware counts no further
    assert said["RebootWatchdogSec"] == "2min"
    match = re.search(r"Goes to /(\S+):", file.read_text().splitlines()[0])
    assert match is not None
    place = match[1]
    assert ("systemd/watchdog.conf", place) in EDGE.extra_files
    installer = (PROJECT / "scripts" / "install").read_text()
    assert f"install -D -m 0644 systemd/watchdog.conf /{place}" in installer
    assert installer.count(place) == 2  # and it goes again


@pytest.mark.parametrize("seconds", ["15", "0", "40"])
def test_the_images_word_about_the_watchdog_is_the_last(seconds: str, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shadow").write_text("root:!:1::::::\n")
    environment = {
        "PATH": os.environ["PATH"],
        "ROOT": str(tmp_path),
        "PROJECT": str(PROJECT),
        "HARDENING_WATCHDOG_S": seconds,
    }
    finish = PROJECT / "image-build" / "layers" / "hardening" / "finish"
    subprocess.run(["sh", "-eu", str(finish)], env=environment, check=True, timeout=60)
    said = manager(tmp_path / "usr" / "lib" / "systemd" / "system.conf.d")
    assert said["RuntimeWatchdogSec"] == seconds
    assert said["RebootWatchdogSec"] == "2min"
