"""The coturn beside the hub: its configuration and its life; the one rule: it relays to nobody's inside.

`coturn_config` writes a hardened configuration (nobody but itself may be relayed to, unless the settings
say otherwise; IPv4 only, quotas, no log of identities); `Coturn` runs it as a child that ends with the hub,
comes back when it dies, and follows this machine's address when that changes or comes late.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import secrets as random_secrets
import shutil
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

from voicemeet_edge.errors import EnvironmentFault, SettingsError
from voicemeet_edge.hub.address import usable
from voicemeet_edge.hub.secrets import write_private
from voicemeet_edge.hub.settings import TurnSettings
from voicemeet_edge.hub.turn import coturn_cli
from voicemeet_edge.hub.turn.provider import TurnAddress
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

REALM = "voicemeet"  # part of the key every client derives (RFC 8489 section 9.2.2); any word does
READY_TIMEOUT_S = 10.0  # s until coturn answers; it takes 0.1 s, or seconds on a busy Pi
PROBE_INTERVAL_S = 0.1  # s between questions whether it answers already
PORT_TRIES = 3  # starts with a port of our own choice; that another program takes one in between is rare
STOP_TIMEOUT_S = 3.0  # s after SIGTERM before SIGKILL; coturn has nothing to save
FIRST_BACKOFF_S = 0.5  # s before the first restart, doubled each time
MAX_BACKOFF_S = 30.0  # s between restarts at most: an address may come back at any time
STABLE_S = 60.0  # s of life after which the back-off starts anew
NO_PASSWORD = Secret("")
CLI_PASSWORD_BYTES = 16  # random bytes, new at each start
LOOK_AGAIN_S = 30.0  # s between looks for an address that is missing; its coming is announced by the kernel
NOT_READY = "TURN is not ready: this machine has not the address it is to use (yet)"
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


# A relay of a building leads nowhere but to itself: two relayed ends meet there.
ALL_PEERS = ("0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")


class CoturnError(EnvironmentFault):
    """coturn did not start or does not answer."""

    code = "turn_down"


class PortLostError(CoturnError):
    """coturn has not got its port; it waits for it, and says nothing meanwhile."""


@dataclass(frozen=True, slots=True)
class CoturnFiles:
    """Where coturn's own files are, and how its command line is asked."""

    config: Path
    pid: Path
    users: Path
    cli_port: int = 0
    cli_password: Secret = NO_PASSWORD


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
        *_cli_lines(files),
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
    denied = DENIED_PEERS if settings.public_peers else ALL_PEERS
    lines += [f"denied-peer-ip={span}" for span in denied]
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


def _cli_lines(files: CoturnFiles) -> list[str]:
    if not files.cli_port:
        return ["no-cli"]
    # Without a password coturn would not start it; with one, no other user of this machine can ask it.
    return [
        f"cli-ip={coturn_cli.HOST}",
        f"cli-port={files.cli_port}",
        f"cli-password={files.cli_password.reveal()}",
        f"cli-max-output-sessions={coturn_cli.MAX_SESSIONS}",
    ]


class Coturn:
    """One coturn child process, kept alive."""

    def __init__(
        self,
        settings: TurnSettings,
        secret: Secret,
        state_dir: Path,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        """Choose the port (when 0); blocking, call it off the loop."""
        program = shutil.which("turnserver", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
        if program is None:
            raise SettingsError("hub.toml", "turn.provider", "coturn", "the Debian package coturn installed")
        self._chooses_port = settings.port == 0
        if self._chooses_port:
            settings = replace(settings, port=_free_port())
        self._settings = settings
        self._secret = secret
        self._certificate = certificate
        # All three are made anew at each start. Under systemd they lie in memory: a full disk would else keep
        # the relay from coming back, or leave it with a user database that refuses everybody.
        folder = Path(os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or state_dir)
        self._files = CoturnFiles(
            folder / "turnserver.conf",
            folder / "turnserver.pid",
            folder / "turnserver.db",
            cli_password=Secret(random_secrets.token_hex(CLI_PASSWORD_BYTES)),
        )
        self.cli = coturn_cli.CoturnCli(self._files.cli_password)
        # setpriv ends coturn with the hub even when the hub is killed and can end nothing itself. Under
        # systemd the control group does that, and the unit's filter forbids what setpriv does besides.
        self._command = [program, "-c", str(self._files.config)]
        setpriv = shutil.which("setpriv")
        if setpriv is not None and "NOTIFY_SOCKET" not in os.environ:
            self._command = [setpriv, "--pdeathsig", "KILL", *self._command]
        self._process: asyncio.subprocess.Process | None = None
        self._here = self._resolve()  # the settings with this machine's addresses; None: they are missing
        self._serving: TurnSettings | None = None  # what the running process was started with
        self._moved = asyncio.Event()
        self.restarts = 0

    @property
    def address(self) -> TurnAddress | None:
        """Where clients reach it; None while this machine has not the address it is to use."""
        settings = self._here
        if settings is None:
            return None
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
        """Start it and wait until it answers, or do nothing while its address is missing.

        Raises:
            CoturnError: it does not answer, or its port is taken.
        """
        if self._here is None:
            logger.warning(NOT_READY)
            return
        await self._begin(self._here)

    def certificate_renewed(self) -> None:
        """Let coturn read its certificate anew; calls go on."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR2)

    def network_changed(self) -> None:
        """Take the hint that addresses changed: follow them."""
        self._moved.set()

    async def supervise(self) -> None:
        """Restart it whenever it ends, and follow the addresses; runs until cancelled, then stops it."""
        backoff_s = FIRST_BACKOFF_S
        try:
            while True:
                since = time.monotonic()
                if await self._ends_or_moves():
                    status = self._process.returncode if self._process is not None else None
                    logger.warning("coturn ended with status %s, restarting", status)
                    backoff_s = FIRST_BACKOFF_S if time.monotonic() - since > STABLE_S else backoff_s
                    with contextlib.suppress(TimeoutError):
                        async with timeout(backoff_s):
                            await self._moved.wait()
                    backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
                    self.restarts += 1
                    self._serving = None
                try:
                    await self._follow()
                except CoturnError as error:
                    # Out of processes or memory for a while: direct calls go on, so must the hub.
                    logger.warning("%s, trying again", error)
        finally:
            await self.stop()

    async def _ends_or_moves(self) -> bool:
        """Wait until the process has ended (True), or addresses changed or may have (False)."""
        process = self._process
        moved = asyncio.create_task(self._moved.wait())
        ended = asyncio.create_task(process.wait()) if process is not None else None
        waiting = {moved} if ended is None else {moved, ended}
        try:
            # Without a process it is time that heals; the change may have been missed.
            limit = LOOK_AGAIN_S if ended is None else None
            await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        return ended is not None and ended.done() and not self._moved.is_set()

    async def _follow(self) -> None:
        """Serve at the addresses of this moment. Raises: CoturnError."""
        self._moved.clear()
        before, here = self._here, await asyncio.to_thread(self._resolve)
        self._here = here
        if here is None:
            # The process is left alone: the same address often comes back within a moment.
            logger.warning(NOT_READY) if before is not None else None
        elif here != self._serving:
            await self.stop()
            await self._begin(here)
            logger.info("TURN is ready")

    def _resolve(self) -> TurnSettings | None:
        """Return the settings with this machine's addresses; None while one of them is missing."""
        listen = [usable(address) for address in self._settings.listen]
        relay = usable(self._settings.relay_address)
        if relay is None or None in listen:
            return None
        return replace(self._settings, listen=tuple(filter(None, listen)), relay_address=relay)

    async def _begin(self, here: TurnSettings) -> None:
        """Start a process that serves here, and wait until it answers; at another port, if need be and may.

        Raises:
            CoturnError: it does not answer, or its port is taken.
        """
        tries = PORT_TRIES if self._chooses_port else 1
        while True:
            tries -= 1
            try:
                await self._begin_at_port(here)
                return
            except PortLostError as error:
                if not tries:
                    raise
                port = _free_port()
                logger.warning("%s. This port was chosen as any free one is: trying %d", error, port)
                self._settings = replace(self._settings, port=port)
                self._here = here = replace(here, port=port)

    async def _begin_at_port(self, here: TurnSettings) -> None:
        # Two servers can share a port unnoticed, since coturn asks the kernel to allow that.
        for address in here.listen:
            _check_free(address, here.port)
        try:
            files = replace(self._files, cli_port=self.cli.take_port())
        except OSError as error:
            raise CoturnError(f"no free port for coturn's command line ({error.strerror})") from None
        text = coturn_config(here, self._secret, files, self._certificate)
        try:
            await self._write(text)
            await self._spawn()
            await self._until_ready(here)
        except BaseException:
            await self.stop()
            raise
        self._serving = here

    async def _write(self, text: str) -> None:
        try:
            await asyncio.to_thread(write_private, self._files.config, text.encode())
        except OSError as error:
            raise CoturnError(f"coturn's settings cannot be written ({error.strerror})") from None

    async def stop(self) -> None:
        """End the child; idempotent."""
        process, self._process = self._process, None
        self._serving = None
        self.cli.close()
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
        # Debian 12 has one that tells systemd each 5 s how it is, which systemd refuses, in the journal.
        others = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=devnull, stdout=devnull, stderr=devnull, env=others
            )
        except OSError as error:
            self._process = None
            raise CoturnError(f"coturn cannot be started ({error.strerror})") from None

    async def _until_ready(self, here: TurnSettings) -> None:
        host = here.listen[0]
        if ipaddress.ip_address(host).is_unspecified:
            host = "127.0.0.1"
        try:
            async with timeout(READY_TIMEOUT_S):
                while not await _answers(host, here.port):
                    self._check_alive()
                    await asyncio.sleep(PROBE_INTERVAL_S)
            self._check_alive()
        except TimeoutError:
            raise PortLostError(
                f"coturn does not answer on port {here.port}: does a firewall on this machine stop it, or is "
                "turn.listen another machine's address? turn.port takes another port"
            ) from None

    def _check_alive(self) -> None:
        status = self._process.returncode if self._process is not None else None
        if self._process is None or status is not None:
            raise CoturnError(f"coturn ended at once with status {status}: is its address this machine's?")


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


def _check_free(address: str, port: int) -> None:
    """Raise PortLostError when another program has this port, for UDP or TCP; CoturnError when nobody has."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as one:
            if kind == socket.SOCK_STREAM:  # connections of the last coturn may still be closing
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((address, port))
            except OSError as error:
                what = f"the TURN port {port} cannot be had ({error.strerror})"
                if error.errno != errno.EADDRINUSE:
                    raise CoturnError(what) from None
                what += "; is another TURN server running, such as Debian's coturn.service?"
                raise PortLostError(what) from None


def _free_port() -> int:
    """Return a port that is free for UDP and TCP right now."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("0.0.0.0", 0))
            port = int(udp.getsockname()[1])
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
                try:
                    tcp.bind(("0.0.0.0", port))
                except OSError:
                    continue
            return port
    raise CoturnError("no free port for coturn")
