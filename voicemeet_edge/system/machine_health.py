"""How the machine under the device is: temperature, power, disk, memory; read from the kernel's files.

One rule: what a board does not have is None, and nothing here raises.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from voicemeet_edge.records import dataclass

ROOT = Path("/")
HOT_C = 80.0  # °C; the Raspberry Pi throttles itself from here on
LOW_DISK_MB = 100  # MB; below it reports and updates begin to fail
MAX_FILE = 4096  # bytes read of one file of the kernel
MAX_ZONES = 32


@dataclass(frozen=True, slots=True)
class MachineHealth:
    """Readings of one moment."""

    temperature_c: float | None
    """The hottest sensor, °C."""
    undervoltage: bool | None
    """The supply is too weak now (Raspberry Pi's own detector); None where there is none."""
    disk_free_mb: int | None
    memory_mb: float | None
    """Resident memory of this process."""
    threads: int | None
    descriptors: int | None
    uptime_s: float | None

    def faults(self) -> list[str]:
        """Return what a person should mend, as sentences."""
        found = []
        if self.temperature_c is not None and self.temperature_c >= HOT_C:
            found.append(f"it is too hot ({self.temperature_c:.0f} °C): give the board air or a heat sink")
        if self.undervoltage:
            found.append("its power supply is too weak: use the one made for this board, and a short cable")
        if self.disk_free_mb is not None and self.disk_free_mb < LOW_DISK_MB:
            found.append(f"the disk is nearly full ({self.disk_free_mb} MB free)")
        return found


def machine_health(root: Path = ROOT, *, disk: Path = Path("/var/lib")) -> MachineHealth:
    """Read how the machine is.

    Args:
        root: where /proc and /sys are; another folder in tests.
        disk: a path on the disk whose room counts.
    """
    own = root / "proc/self"
    status = dict(line.split(":", 1) for line in _read(own / "status").splitlines() if ":" in line)
    memory = _number(status.get("VmRSS", "").split()[:1])
    return MachineHealth(
        temperature_c=_temperature(root),
        undervoltage=_undervoltage(root),
        disk_free_mb=_disk_free(disk),
        memory_mb=None if memory is None else memory / 1024.0,
        threads=_whole(_number(status.get("Threads", "").split()[:1])),
        descriptors=_count(own / "fd"),
        uptime_s=_number(_read(root / "proc/uptime").split()[:1]),
    )


def _temperature(root: Path) -> float | None:
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))[:MAX_ZONES]
    readings = [_number([_read(zone)]) for zone in zones]
    return max((reading / 1000.0 for reading in readings if reading is not None), default=None)


def _undervoltage(root: Path) -> bool | None:
    """The driver raspberrypi-hwmon latches an alarm until it is read."""
    for sensor in sorted((root / "sys/class/hwmon").glob("hwmon*"))[:MAX_ZONES]:
        if _read(sensor / "name").strip() == "rpi_volt":
            alarm = _number([_read(sensor / "in0_lcrit_alarm")])
            return None if alarm is None else alarm != 0
    return None


def _disk_free(disk: Path) -> int | None:
    try:
        return shutil.disk_usage(disk).free // 1_000_000
    except OSError:
        return None


def _count(folder: Path) -> int | None:
    try:
        return len(os.listdir(folder))
    except OSError:
        return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE).decode(errors="replace")
    except OSError:
        return ""


def _number(words: list[str]) -> float | None:
    try:
        return float(words[0])
    except (IndexError, ValueError):
        return None


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
