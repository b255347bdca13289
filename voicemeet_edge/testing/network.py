"""Networks made for a test: namespaces joined by a relay that loses, delays and reorders on command.

Not every kernel has netem, so the relay is a small child process between TUN devices: real sockets and
unmodified programs on both sides, a seeded impairment in the middle that can be changed while it runs, and
a capture of everything that entered it. Needs root and /dev/net/tun; `unavailable()` says what is missing.

    with ImpairedNetwork(("caller", "answerer"), Impairment(loss=0.1)) as network:
        child = network.popen("caller", sys.executable, "-m", "...")
        network.impair(Impairment(outage=True))
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import heapq
import itertools
import json
import os
import random
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from voicemeet_edge.records import dataclass
from voicemeet_edge.testing.line import Impairment, Way

__all__ = [
    "BridgedNetwork",
    "Captured",
    "ImpairedNetwork",
    "Impairment",
    "Network",
    "read_capture",
    "unavailable",
]

TUN_DEVICE = Path("/dev/net/tun")
NAMESPACES = Path("/run/netns")
SUBNET = "10.77.0"  # lives only inside the namespaces
PREFIX = "vmt"  # of namespaces and devices; device names are limited to 15 characters
MTU = 1400  # bytes: as on a tunnelled path
MAX_PACKET = 2048
MAX_QUEUE = 10000  # packets on their way: far more than any test has in flight
MAX_CAPTURED = 400_000  # packets: an hour of a call both ways
SNAP_BYTES = 160  # bytes of each packet kept in the capture
COMMAND_LIMIT_S = 20.0  # s for one `ip` command or one answer of the relay

IFF_TUN_NO_PI = 0x1001  # linux/if_tun.h: IFF_TUN | IFF_NO_PI
TUNSETIFF = 0x400454CA  # linux/if_tun.h
CLONE_NEWNET = 0x40000000  # linux/sched.h
PCAP_HEADER = struct.pack("!IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAP_BYTES, 101)  # raw IP
PCAP_RECORD = struct.Struct("!IIII")


@dataclass(frozen=True, slots=True)
class Captured:
    """One IPv4 packet as it entered the relay, before any loss."""

    time: float
    """Seconds since the epoch."""
    length: int
    """Of the whole IP packet."""
    protocol: int
    """17 is UDP, 6 is TCP."""
    source: tuple[str, int]
    target: tuple[str, int]
    payload: bytes
    """The beginning of what UDP or TCP carries."""
    payload_length: int


def unavailable() -> str | None:
    """Say why no network can be made here, or None when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the program `ip` is missing (Debian package iproute2)"
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        return f"{TUN_DEVICE} is missing (kernel module tun)"
    probe = subprocess.run(
        ["ip", "netns", "exec", "no-such-namespace", "true"], capture_output=True, timeout=COMMAND_LIMIT_S
    )
    if b"not permitted" in probe.stderr:
        return "network namespaces are not permitted here"
    return None


def _ip(*arguments: str) -> None:
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
    )
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def sweep() -> None:
    """Remove what earlier test processes left behind when they were killed."""
    for path in NAMESPACES.glob(f"{PREFIX}*") if NAMESPACES.is_dir() else ():
        match = re.fullmatch(rf"{PREFIX}([0-9a-f]+)x[0-9a-z]+", path.name)
        if match and not Path(f"/proc/{int(match[1], 16)}").exists():
            with contextlib.suppress(OSError):
                _ip("netns", "del", path.name)


_numbers = itertools.count()


class Network:
    """Namespaces with one address each; how they are joined is the subclass's business."""

    def __init__(self, nodes: Sequence[str] = ("a", "b")) -> None:
        if reason := unavailable():
            raise OSError(reason)
        number = next(_numbers)
        self.nodes = tuple(nodes)
        self._name = f"{PREFIX}{os.getpid():x}x{number}"
        self._cleanup = contextlib.ExitStack()

    def address(self, node: str) -> str:
        """Return the node's address."""
        return f"{SUBNET}.{self.nodes.index(node) + 1}"

    def namespace(self, node: str) -> str:
        """Return the name of the node's namespace."""
        return f"{self._name}n{self.nodes.index(node)}"

    def command(self, node: str, *argv: str) -> list[str]:
        """Return the command that runs `argv` on a node."""
        return ["ip", "netns", "exec", self.namespace(node), *argv]

    def popen(self, node: str, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a node; it is killed with the network if it still runs."""
        process: subprocess.Popen[Any] = subprocess.Popen(self.command(node, *argv), **options)
        self._cleanup.callback(_end, process)
        return process

    @contextlib.contextmanager
    def inside(self, node: str) -> Iterator[None]:
        """Let this thread open its sockets on a node; they stay there when the block ends."""
        with open("/proc/thread-self/ns/net") as home, open(NAMESPACES / self.namespace(node)) as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def _make_namespace(self, node: str) -> str:
        name = self.namespace(node)
        _ip("netns", "add", name)
        self._cleanup.callback(_forget, name)
        _ip("-n", name, "link", "set", "lo", "up")
        return name

    def _configure(self, node: str, device: str) -> None:
        name = self.namespace(node)
        _ip("-n", name, "address", "add", f"{self.address(node)}/24", "dev", device)
        _ip("-n", name, "link", "set", device, "mtu", str(MTU), "multicast", "on", "up")
        # Names of the local network (mDNS) need a way out too.
        _ip("-n", name, "route", "add", "default", "dev", device)

    def _build(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        sweep()
        try:
            self._build()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _forget(namespace: str) -> None:
    with contextlib.suppress(OSError):
        _ip("netns", "del", namespace)


def _enter(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class BridgedNetwork(Network):
    """Nodes on one switch at full speed: nothing is impaired."""

    def _build(self) -> None:
        switch = f"{self._name}s"
        _ip("netns", "add", switch)
        self._cleanup.callback(_forget, switch)
        _ip("-n", switch, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge0", "up")
        for index, node in enumerate(self.nodes):
            name = self._make_namespace(node)
            _ip("-n", switch, "link", "add", f"port{index}", "type", "veth", "peer", "eth0", "netns", name)
            _ip("-n", switch, "link", "set", f"port{index}", "master", "bridge0", "up")
            self._configure(node, "eth0")


class ImpairedNetwork(Network):
    """Nodes joined by the relay."""

    def __init__(
        self, nodes: Sequence[str] = ("a", "b"), impairment: Impairment | None = None, *, seed: int = 1
    ) -> None:
        super().__init__(nodes)
        self._first = impairment or Impairment()
        self._seed = seed
        self._capture = Path()

    def _build(self) -> None:
        shared = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk can stall the relay
        folder = tempfile.TemporaryDirectory(prefix=self._name, dir=shared)
        self._cleanup.enter_context(folder)
        self._capture = Path(folder.name) / "relay.pcap"
        devices = [
            f"{PREFIX}{os.getpid():x}x{self._name.rpartition('x')[2]}d{i}" for i in range(len(self.nodes))
        ]
        self._relay = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._seed), str(self._capture), *devices],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._cleanup.callback(_end, self._relay)
        self._answer()
        for node, device in zip(self.nodes, devices, strict=True):
            _ip("link", "set", device, "netns", self._make_namespace(node))
            self._configure(node, device)
        self.impair(self._first)

    def _answer(self) -> dict[str, Any]:
        assert self._relay.stdout is not None
        ready, _, _ = select.select([self._relay.stdout], [], [], COMMAND_LIMIT_S)
        line = self._relay.stdout.readline() if ready else ""
        if not line:
            raise OSError("the relay does not answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, **question: object) -> dict[str, Any]:
        assert self._relay.stdin is not None
        self._relay.stdin.write(json.dumps(question) + "\n")
        self._relay.stdin.flush()
        return self._answer()

    def impair(self, impairment: Impairment, *, source: str | None = None, target: str | None = None) -> None:
        """Set what happens from now on, on all ways or those from and to the given nodes."""
        self._ask(
            impair=dataclasses.asdict(impairment),
            source=None if source is None else self.nodes.index(source),
            target=None if target is None else self.nodes.index(target),
        )

    def counters(self) -> dict[str, int]:
        """Return how many packets were taken, passed and lost."""
        return {key: int(value) for key, value in self._ask(counters=True).items()}

    def captured(self) -> list[Captured]:
        """Return every packet that entered the relay so far."""
        self._ask(flush=True)
        return read_capture(self._capture)

    def save_capture(self, path: Path) -> None:
        """Copy the capture as a pcap file."""
        self._ask(flush=True)
        shutil.copyfile(self._capture, path)


def read_capture(path: Path) -> list[Captured]:
    """Read a pcap file of raw IPv4 packets."""
    data = path.read_bytes()
    packets: list[Captured] = []
    position = len(PCAP_HEADER)
    while position + PCAP_RECORD.size <= len(data):
        seconds, micros, kept, length = PCAP_RECORD.unpack_from(data, position)
        position += PCAP_RECORD.size
        packet = _dissect(seconds + micros / 1e6, length, data[position : position + kept])
        position += kept
        if packet is not None:
            packets.append(packet)
    return packets


def _dissect(moment: float, length: int, packet: bytes) -> Captured | None:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    header = 4 * (packet[0] & 15)
    source, target = (".".join(map(str, packet[start : start + 4])) for start in (12, 16))
    protocol = packet[9]
    ports = (0, 0)
    inner = header
    if protocol in (6, 17) and len(packet) >= header + 8:
        ports = struct.unpack_from("!HH", packet, header)
        inner += 8 if protocol == 17 else 4 * (packet[header + 12] >> 4)
    return Captured(
        moment, length, protocol, (source, ports[0]), (target, ports[1]), packet[inner:], length - inner
    )


# The relay: runs as a child, `python -m voicemeet_edge.testing.network SEED CAPTURE DEVICE…`


class Relay:
    """Moves packets between devices; one thread, no library, little CPU."""

    def __init__(self, seed: int, capture: IO[bytes], devices: Sequence[str]) -> None:
        self._dice = random.Random(seed)
        self._capture = capture
        self._files = [_open_tun(device) for device in devices]
        count = range(len(devices))
        self._ways = {(i, j): Way() for i in count for j in count if i != j}
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._order = itertools.count()
        self._captured = 0
        self._counters = {"taken": 0, "passed": 0, "lost": 0}
        capture.write(PCAP_HEADER)

    def run(self, commands: IO[str], answers: IO[str]) -> None:
        """Work until the commands end, which they do when the parent is gone."""
        watched = (*self._files, commands.fileno())
        while True:
            timeout = None
            if self._queue:
                timeout = max(0.0, self._queue[0][0] - time.monotonic())
            # select() and not poll(), which counts in whole milliseconds.
            for descriptor in select.select(watched, (), (), timeout)[0]:
                if descriptor == commands.fileno():
                    line = commands.readline()
                    if not line:
                        return
                    answers.write(json.dumps(self._command(json.loads(line))) + "\n")
                    answers.flush()
                else:
                    self._take(descriptor)
            now = time.monotonic()
            while self._queue and self._queue[0][0] <= now:
                _, _, target, packet = heapq.heappop(self._queue)
                with contextlib.suppress(OSError):  # the device is down, or not configured yet
                    os.write(self._files[target], packet)
                self._counters["passed"] += 1

    def _command(self, command: dict[str, Any]) -> dict[str, int]:
        if "impair" in command:
            impairment = Impairment(**command["impair"])
            for (source, target), way in self._ways.items():
                if command["source"] in (None, source) and command["target"] in (None, target):
                    way.change(impairment)
        if "flush" in command:
            self._capture.flush()
        return self._counters

    def _take(self, descriptor: int) -> None:
        try:
            packet = os.read(descriptor, MAX_PACKET)
        except OSError:
            return
        if len(packet) < 20 or packet[0] >> 4 != 4:
            return  # IPv6 of the namespaces' own making
        source = self._files.index(descriptor)
        self._record(packet)
        multicast = 224 <= packet[16] < 240
        last = packet[19] - 1
        known = packet[16:19] == bytes(map(int, SUBNET.split("."))) and last < len(self._files)
        for target in range(len(self._files)):
            if target != source and (multicast or (known and target == last)):
                self._pass(source, target, packet)

    def _pass(self, source: int, target: int, packet: bytes) -> None:
        way = self._ways[source, target]
        self._counters["taken"] += 1
        copies = 2 if way.impairment.duplicate and self._dice.random() < way.impairment.duplicate else 1
        for _ in range(copies):
            due = way.due(time.monotonic(), len(packet), self._dice)
            if due is None or len(self._queue) >= MAX_QUEUE:
                self._counters["lost"] += 1
            else:
                heapq.heappush(self._queue, (due, next(self._order), target, packet))

    def _record(self, packet: bytes) -> None:
        if self._captured < MAX_CAPTURED:
            self._captured += 1
            seconds, rest = divmod(time.time_ns(), 1_000_000_000)
            kept = packet[:SNAP_BYTES]
            self._capture.write(PCAP_RECORD.pack(seconds, rest // 1000, len(kept), len(packet)) + kept)


def _open_tun(name: str) -> int:
    descriptor = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    return descriptor


def main() -> None:
    """Run the relay."""
    seed, capture, *devices = sys.argv[1:]
    with open(capture, "wb") as file:
        relay = Relay(int(seed), file, devices)
        sys.stdout.write("{}\n")
        sys.stdout.flush()
        relay.run(sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
