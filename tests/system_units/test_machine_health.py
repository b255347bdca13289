"""Readings of boards that have sensors, and of those that have none."""

from __future__ import annotations

from pathlib import Path

from voicemeet_edge.system.machine_health import MachineHealth, machine_health


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_raspberry_pi(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "51234\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "48000\n")
    write(tmp_path, "sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    write(tmp_path, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    write(tmp_path, "proc/self/status", "Name:\tvoicemeet\nVmRSS:\t   67584 kB\nThreads:\t5\n")
    write(tmp_path, "proc/uptime", "86400.10 1000.00\n")
    write(tmp_path, "proc/self/fd/0", "")
    health = machine_health(tmp_path, disk=tmp_path)
    assert (health.temperature_c, health.undervoltage) == (51.234, True)
    assert (health.memory_mb, health.threads, health.descriptors, health.uptime_s) == (66.0, 5, 1, 86400.1)
    assert any("power supply" in fault for fault in health.faults())


def test_a_board_without_sensors(tmp_path: Path) -> None:
    health = machine_health(tmp_path, disk=tmp_path / "none")
    assert health == MachineHealth(None, None, None, None, None, None, None)
    assert health.faults() == []


def test_garbage_is_no_reading(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "warm\n")
    write(tmp_path, "proc/self/status", "VmRSS:\nThreads: many\n")
    assert machine_health(tmp_path, disk=tmp_path).memory_mb is None


def test_what_a_person_should_mend() -> None:
    health = MachineHealth(85.0, False, 50, 60.0, 5, 20, 1000.0)
    assert [fault.split(" (")[0] for fault in health.faults()] == ["it is too hot", "the disk is nearly full"]


def test_this_machine_has_memory_and_threads() -> None:
    health = machine_health()
    assert health.memory_mb is not None
    assert health.memory_mb > 1
    assert health.threads
    assert health.descriptors
