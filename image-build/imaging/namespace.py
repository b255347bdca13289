"""A user namespace of our own, in which an ordinary user may own a root file system and mount in it.

Everything that needs to look like root happens in here, for root too: so a build is the same whoever starts
it, and what is mounted or registered inside (a foreign architecture's binfmt_misc) never reaches the host.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
_MS_REC_PRIVATE = 0x4000 | (1 << 18)
IDS = 65536  # as many users as Debian's base files need, `nobody` included


class NamespaceError(Exception):
    """The machine does not let us have a namespace; the text says what is missing."""


def run_inside(work: Callable[[], int]) -> int:
    """Run `work` as root of a new user, mount and PID namespace and return its exit status."""
    ready_read, ready_write = os.pipe()
    mapped_read, mapped_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready_read)
        os.close(mapped_write)
        os._exit(_child(work, ready_write, mapped_read))
    os.close(ready_write)
    os.close(mapped_read)
    try:
        if os.read(ready_read, 1) != b"1":
            raise NamespaceError("this kernel does not let us make a user namespace")
        _map_ids(child)
        os.write(mapped_write, b"1")
    finally:
        os.close(mapped_write)
        os.close(ready_read)
        status = _wait(child)
    return status


def _wait(child: int) -> int:
    """Wait for the child; Ctrl-C is for the child, which ends, and so do we."""
    while True:
        try:
            _, status = os.waitpid(child, 0)
        except KeyboardInterrupt:
            os.kill(child, signal.SIGTERM)
            continue
        return os.waitstatus_to_exitcode(status) & 0xFF


def _child(work: Callable[[], int], ready_write: int, mapped_read: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID):
        os.write(ready_write, b"0")
        return 1
    os.write(ready_write, b"1")
    if os.read(mapped_read, 1) != b"1":
        return 1
    os.setgid(0)
    os.setuid(0)
    os.setgroups([])
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # whoever is killed leaves no machine running behind
    inner = os.fork()  # the first child of a PID namespace is its init: when it ends, so does all in there
    if inner:
        return _wait(inner)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None):
        return 1
    try:
        return work()
    except KeyboardInterrupt:
        return 130
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _map_ids(child: int) -> None:
    """Give the child its numbers: root all of them as they are, others their subordinate ones."""
    if os.geteuid() == 0:
        for kind in ("uid", "gid"):
            Path(f"/proc/{child}/{kind}_map").write_text(f"0 0 {IDS}\n")
        return
    name = pwd.getpwuid(os.getuid()).pw_name
    for kind, own in (("uid", os.getuid()), ("gid", os.getgid())):
        start = _subordinate(Path(f"/etc/sub{kind}"), name)
        tool = shutil.which(f"new{kind}map")
        if tool is None:
            raise NamespaceError("newuidmap is missing: install the Debian package uidmap")
        parts = [str(child), "0", str(own), "1", "1", str(start), str(IDS - 1)]
        if subprocess.run([tool, *parts], check=False).returncode:
            raise NamespaceError(f"{tool} refused; are there {IDS} numbers for {name} in /etc/sub{kind}?")


def _subordinate(path: Path, name: str) -> int:
    if path.exists():
        for line in path.read_text().splitlines():
            owner, start, count = (*line.split(":"), "", "")[:3]
            if owner in (name, str(os.getuid())) and count.isdigit() and int(count) >= IDS - 1:
                return int(start)
    raise NamespaceError(f"{path} gives {name} no {IDS} numbers: usermod --add-subuids, --add-subgids")
