"""The coturn beside the hub: its configuration and its life; the one rule: it relays to nobody's inside.

`coturn_config` writes a hardened configuration (private and special ranges denied, IPv4 only, quotas,
no log of identities); `Coturn` runs it as a child that ends with the hub and comes back when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets as random_secrets
import shutil
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import SettingsError, WorldError
from ..secret import Secret
from ..timeouts import timeout
from .address import resolve_auto
from .secrets import write_private
from .settings import TurnSettings
from .turn import TurnAddress

logger = logging.getLogger(__name__)

REALM = "voicemeet"  # part of the key every client derives (RFC 8489 section 9.2.2); any word does
READY_TIMEOUT_S = 10.0  # s until coturn answers; it takes 0.1 s, or seconds on a busy Pi
PROBE_INTERVAL_S = 0.1  # s between questions whether it answers already
STOP_TIMEOUT_S = 3.0  # s after SIGTERM before SIGKILL; coturn has nothing to save
FIRST_BACKOFF_S = 0.5  # s before the first restart, doubled each time
MAX_BACKOFF_S = 30.0  # s between restarts at most: an address may come back at any time
STABLE_S = 60.0  # s of life after which the back-off starts anew
STUN_HEADER_BYTES = 20  # RFC 8489 section 5

# What must never be reached through the relay: everything that is not the public internet
# (RFC 6890 registries; the IPv4-mapped range is CVE-2026-27624, unfixed in Debian's version).
DENIED_PEERS = (
    "0.0.0.0-0.255.255.255",
    "10.0.0.0-10.255.255.255",
    "100.64.0.0-100.127.255.255",
    "127.0.0.0-127.255.255.255",
    "169.254.0.0-169.254.255.255",
    "172.16.0.0-172.31.255.255",
    "192.0.0.0-192.0.0.255",
    "192.0.2.0-192.0.2.255",
    "192.88.99.0-192.88.99.255",
    "192.168.0.0-192.168.255.255",
    "198.18.0.0-198.19.255.255",
    "198.51.100.0-198.51.100.255",
    "203.0.113.0-203.0.113.255",
    "240.0.0.0-255.255.255.255",
    "::1",
    "64:ff9b::-64:ff9b::ffff:ffff",
    "::ffff:0.0.0.0-::ffff:255.255.255.255",
    "2001::-2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2002::-2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
)


class CoturnError(WorldError):
    """coturn did not start or does not answer."""

    code = "turn_down"


@dataclass(frozen=True, slots=True)
class CoturnFiles:
    """Where coturn's own files are; all in the hub's state directory."""

    config: Path
    pid: Path
    users: Path


def coturn_config(
    settings: TurnSettings, secret: Secret, files: CoturnFiles, certificate: tuple[Path, Path] | None = None
) -> str:
    """Return the text of a turnserver.conf."""
    relay = settings.relay_address
    lines = [f"listening-ip={address}" for address in settings.listen]
    lines += [
        f"listening-port={settings.port}",
        f"relay-ip={relay}",
        f"min-port={settings.min_port}",
        f"max-port={settings.max_port}",
        f"realm={REALM}",
        "use-auth-secret",
        f"static-auth-secret={secret.reveal()}",
        f"pidfile={files.pid}",
        f"userdb={files.users}",
        # coturn logs user names and addresses of every session and has no switch against it.
        "log-file=/dev/null",
        "simple-log",
        "no-stdout-log",
        "fingerprint",
        "no-cli",
        "no-multicast-peers",
        "no-tcp-relay",
        "no-rfc5780",
        "no-stun-backward-compatibility",
        "no-software-attribute",
        "no-dynamic-ip-list",
        "no-dynamic-realms",
        "stale-nonce=600",
        f"user-quota={settings.user_quota}",
        f"total-quota={settings.total_quota}",
        f"max-bps={settings.max_bps}",
        "no-dtls",
    ]
    if settings.external_address:
        lines.append(f"external-ip={settings.external_address}/{relay}")
    if settings.tls_port and certificate is not None:
        chain, key = certificate
        lines += [f"tls-listening-port={settings.tls_port}", f"cert={chain}", f"pkey={key}", "no-tlsv1"]
        lines.append("no-tlsv1_1")
    else:
        lines.append("no-tls")
    lines += [f"denied-peer-ip={span}" for span in DENIED_PEERS]
    # Two ends relayed by this same server meet at its own relay address.
    lines += [
        f"allowed-peer-ip={address}"
        for address in dict.fromkeys((relay, settings.external_address))
        if address
    ]
    if ipaddress.ip_address(relay).is_loopback:
        lines.append("allow-loopback-peers")
    for network in settings.allowed_peers:
        span = ipaddress.IPv4Network(network)
        lines.append(f"allowed-peer-ip={span.network_address}-{span.broadcast_address}")
    return "\n".join(lines) + "\n"


class Coturn:
    """One coturn child process, kept alive."""

    def __init__(
        self,
        settings: TurnSettings,
        secret: Secret,
        state_dir: Path,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        """Choose the port (when 0) and write the configuration; blocking, call it off the loop."""
        program = shutil.which("turnserver", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
        if program is None:
            raise SettingsError("hub.toml", "turn.provider", "coturn", "the Debian package coturn installed")
        settings = replace(
            settings,
            listen=tuple(resolve_auto(address) for address in settings.listen),
            relay_address=resolve_auto(settings.relay_address),
        )
        if settings.port == 0:
            settings = replace(settings, port=_free_port(settings.listen[0]))
        self._settings = settings
        files = CoturnFiles(
            state_dir / "turnserver.conf", state_dir / "turnserver.pid", state_dir / "turnserver.db"
        )
        write_private(files.config, coturn_config(settings, secret, files, certificate).encode())
        # setpriv ends coturn with the hub even when the hub is killed and can end nothing itself.
        self._command = [program, "-c", str(files.config)]
        setpriv = shutil.which("setpriv")
        if setpriv is not None:
            self._command = [setpriv, "--pdeathsig", "KILL", *self._command]
        self._process: asyncio.subprocess.Process | None = None
        self.restarts = 0

    @property
    def address(self) -> TurnAddress:
        """Where clients reach it."""
        settings = self._settings
        host = settings.host or settings.external_address
        if not host:
            first = settings.listen[0]
            host = settings.relay_address if ipaddress.ip_address(first).is_unspecified else first
        return TurnAddress(host, settings.port, settings.tls_port)

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it and wait until it answers; CoturnError when it does not."""
        await self._spawn()
        try:
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def supervise(self) -> None:
        """Restart it whenever it ends; runs until cancelled, then stops it."""
        backoff_s = FIRST_BACKOFF_S
        try:
            while True:
                process = self._process
                if process is not None:
                    since = time.monotonic()
                    status = await process.wait()
                    logger.warning("coturn ended with status %s, restarting", status)
                    backoff_s = FIRST_BACKOFF_S if time.monotonic() - since > STABLE_S else backoff_s
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
                self.restarts += 1
                try:
                    await self._spawn()
                except CoturnError as error:
                    # Out of processes or memory for a while: direct calls go on, so must the hub.
                    logger.warning("%s, trying again", error)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End the child; idempotent."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        devnull = asyncio.subprocess.DEVNULL
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=devnull, stdout=devnull, stderr=devnull
            )
        except OSError as error:
            self._process = None
            raise CoturnError(f"coturn cannot be started ({error.strerror})") from None

    async def _until_ready(self) -> None:
        host = self._settings.listen[0]
        if ipaddress.ip_address(host).is_unspecified:
            host = "127.0.0.1"
        try:
            async with timeout(READY_TIMEOUT_S):
                while not await _answers(host, self._settings.port):
                    if self._process is None or self._process.returncode is not None:
                        raise CoturnError("coturn ended at once: is its port taken, its address ours?")
                    await asyncio.sleep(PROBE_INTERVAL_S)
        except TimeoutError:
            raise CoturnError("coturn does not answer") from None


async def _answers(host: str, port: int) -> bool:
    """Say whether a STUN server answers a Binding request (RFC 8489 section 6.2.2) over TCP."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    transaction = random_secrets.token_bytes(12)
    try:
        writer.write(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + transaction)
        async with timeout(1.0):
            header = await reader.readexactly(STUN_HEADER_BYTES)
        return header[:2] == b"\x01\x01" and header[8:] == transaction
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()


def _free_port(address: str) -> int:
    """Return a port that is free for UDP and TCP right now."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((address, 0))
            port = int(udp.getsockname()[1])
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
                try:
                    tcp.bind((address, port))
                except OSError:
                    continue
            return port
    raise CoturnError("no free port for coturn")
