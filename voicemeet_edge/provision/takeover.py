"""Carry out the plan: the device's partition first, the card after, so that a power cut loses nothing.

Runs as root, only when something on the card is new (the image's preinit looks), before the network and the
product start.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from voicemeet_edge import __version__
from voicemeet_edge.provision.plan import NAMES, SETTINGS, Plan, make_plan

MAX_FILE_BYTES = 65_536
STATUS = "voicemeet-status.txt"


def take_over(
    card: Path, data: Path, *, check_hub: Callable[[str], None] | None = None, slot: str = ""
) -> Plan:
    """Take over what is on the card; returns what was decided. Idempotent.

    `check_hub` raises SettingsError for a wrong hub.toml; None where there is no hub.
    """
    files = {name: content for name in NAMES if (content := _read(card / name)) is not None}
    kept = _read(data / "settings" / SETTINGS)
    plan = make_plan(
        files,
        kept_settings=kept.decode("utf-8", "replace") if kept is not None else None,
        check_hub=check_hub,
    )
    for name, text in plan.writes.items():
        _write(data / name, text.encode())
    if "etc/timezone" in plan.writes:
        _link_timezone(data, plan)
    _sync(data)
    _tidy_card(card, data, plan, _status(plan, slot))
    return plan


def _read(path: Path) -> bytes | None:
    """Read a small ordinary file; None when it is not there, or is no such thing."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb") as file:
            # Nothing but zeros: the power went between overwriting and writing anew.
            return file.read(MAX_FILE_BYTES).strip(b"\0") or None
    except OSError:
        return None


def _write(path: Path, content: bytes) -> None:
    """Write beside and rename: there is the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".new")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.parent.name in ("etc", "hub", "network"):
        part.chmod(0o644)  # systemd's own services read these, and the hub its settings
    if path.name == "wpa_supplicant.conf":
        part.chmod(0o600)
    part.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link_timezone(data: Path, plan: Plan) -> None:
    zone = plan.writes["etc/timezone"].strip()
    target = Path("/usr/share/zoneinfo") / zone
    if not target.is_file():
        plan.notes.append(f"time zone {zone}: not known here")
        return
    link, new = data / "etc/localtime", data / "etc/localtime.new"
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def _tidy_card(card: Path, data: Path, plan: Plan, status: str) -> None:
    """Take the secrets off the card, say how it went, and remember what is there now as seen."""
    with _writable(card):
        for name, text in plan.rewrites.items():
            _overwrite(card / name)
            (card / name).write_text(text)
        for name in plan.removes:
            _overwrite(card / name)
            (card / name).unlink(missing_ok=True)
        (card / STATUS).write_text(status)
        os.sync()
    for name in NAMES:
        content = _read(card / name)
        seen = data / "card" / name
        if content is None or (name not in plan.taken and plan.problems):
            seen.unlink(missing_ok=True)
        else:
            _write(seen, content)


def _overwrite(path: Path) -> None:
    """Zero a file's own blocks before they become free: what a card's wear levelling keeps is beyond us."""
    if path.exists():
        with path.open("r+b") as file:
            file.write(b"\0" * path.stat().st_size)
            file.flush()
            os.fsync(file.fileno())


class _writable:  # noqa: N801 - used as a word: with _writable(card)
    """The card is mounted read-only but for these moments; a folder that is no mount point is left alone."""

    def __init__(self, card: Path) -> None:
        self._card = card

    def __enter__(self) -> None:
        self._remount("rw")

    def __exit__(self, *_: object) -> None:
        self._remount("ro")

    def _remount(self, how: str) -> None:
        if os.path.ismount(self._card):
            subprocess.run(["mount", "-o", f"remount,{how}", str(self._card)], check=False)


def _status(plan: Plan, slot: str) -> str:
    lines = [f"VoiceMeet Edge {__version__}" + (f", slot {slot}" if slot else ""), ""]
    if plan.problems:
        lines += ["NOT TAKEN OVER:", *(f"  {problem}" for problem in plan.problems), ""]
    if plan.taken:
        lines += ["Taken over:", *(f"  {name}" for name in plan.taken), ""]
    if plan.notes:
        lines += ["Notes:", *(f"  {note}" for note in plan.notes), ""]
    if not plan.taken and not plan.problems:
        lines += [f"Nothing new. Put {SETTINGS} here (see voicemeet.example.toml) and start again.", ""]
    return "\r\n".join(lines)
