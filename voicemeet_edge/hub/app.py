"""Builds and runs one hub from its settings; the one rule: what it started ends with it.

`run_hub` is all there is to call: the command line, the demo and the tests use the same door.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import resource
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from ..errors import SettingsError, WorldError
from ..secret import Secret
from .address import primary_address
from .cloudflare import CloudflareTurn
from .coturn import Coturn
from .realtime import Realtime
from .realtime_options import RealtimeOptions
from .secrets import HubSecrets, load_or_make_secrets
from .server import DiscreetFilter, client_address, make_app, read_desk
from .service import Verbs
from .settings import HubSettings
from .store import Store
from .tls import HubTls, hub_tls
from .tokens import HubAuthorizer, Tokens
from .turn import HmacTurn, NoTurn, TurnAddress, TurnProvider

logger = logging.getLogger(__name__)
http_logger = logging.getLogger("voicemeet_edge.hub.http")

SHUTDOWN_TIMEOUT_S = 2.0  # s for open requests at the end; verbs take milliseconds
BACKLOG = 1_024  # connections the kernel may hold before we accept them: a building after a power cut
MAX_SECRET_FILE_BYTES = 4_096  # bytes of a file that holds one secret
DATABASE_FILE = "hub.db"
MAX_FILES = 65_536  # open files asked for: a socket is one, and many systems start with 1,024


class HubError(WorldError):
    """The hub cannot listen."""

    code = "hub"


@dataclass(frozen=True, slots=True)
class HubInfo:
    """What devices and people need to know of a running hub."""

    url: str
    """Base URL for devices."""
    apikey: Secret
    pin: str
    """SHA-256 of the certificate in hex; "" without TLS or with one that an authority signed."""
    port: int
    """TCP port of HTTP and WebSocket."""
    turn: TurnAddress | None
    """Where coturn is reached, None when the hub runs none."""
    coturn_pid: int | None = None

    @property
    def desk_url(self) -> str:
        """The desk page's address."""
        return f"{self.url}/desk/"


def device_settings(info: HubInfo, *, pool: str = "frontdesk", role: str = "caller") -> str:
    """Return the lines of `voicemeet.toml` that bring a device to this hub; they hold the apikey."""
    lines = ["[backend]", f'url = "{info.url}"', f'apikey = "{info.apikey.reveal()}"']
    if info.pin:
        lines.append(f'tls_pin = "{info.pin}"')
    return "\n".join([*lines, "", "[call]", f'pool = "{pool}"', f'role = "{role}"']) + "\n"


async def run_hub(
    settings: HubSettings, *, ready: Callable[[HubInfo], None], handle_signals: bool = True
) -> None:
    """Run a hub until SIGTERM, SIGINT or cancellation; `ready` is called once it answers.

    SettingsError when a setting cannot work here, HubError or CoturnError when the machine does not
    let it listen. In the main thread it takes the two signals over while it runs, unless told not to.
    """
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        parts = await _prepare(settings, stack)
        runner = web.AppRunner(
            parts.app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            logger=http_logger,
        )
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        port = await _listen(runner, settings, parts.tls.context if parts.tls is not None else None)
        if handle_signals:
            stack.enter_context(_signals(stop))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(parts.verbs.run())]
            if parts.coturn is not None:
                tasks.append(group.create_task(parts.coturn.supervise()))
            logger.info("the hub is ready")
            try:
                ready(_info(settings, parts, port))
                await stop.wait()
            finally:
                for task in tasks:
                    task.cancel()
    logger.info("the hub has stopped")


@dataclass(frozen=True, slots=True)
class _Parts:
    app: web.Application
    verbs: Verbs
    tokens: Tokens
    tls: HubTls | None
    coturn: Coturn | None
    host: str


@dataclass(frozen=True, slots=True)
class _Files:
    """What is read from disk and machine at the start, in one go and off the loop."""

    secrets: HubSecrets
    tls: HubTls | None
    desk: dict[str, bytes]
    turn_secret: Secret
    host: str


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _read_files(settings: HubSettings) -> _Files:
    _raise_file_limit()
    secrets = load_or_make_secrets(settings.state_dir)
    names = _names(settings)
    tls = hub_tls(settings.http, settings.state_dir, names)
    desk = read_desk(Path(__file__).parent / "desk")
    turn = settings.turn
    turn_secret = secrets.turn
    if turn.provider == "hmac":
        turn_secret = _secret_file("turn.secret_file", turn.secret_file)
    elif turn.provider == "cloudflare":
        turn_secret = _secret_file("turn.cloudflare_token_file", turn.cloudflare_token_file)
    return _Files(secrets, tls, desk, turn_secret, names[0])


async def _prepare(settings: HubSettings, stack: contextlib.AsyncExitStack) -> _Parts:
    if not any(isinstance(entry, DiscreetFilter) for entry in http_logger.filters):
        http_logger.addFilter(DiscreetFilter())
    files = await asyncio.to_thread(_read_files, settings)
    tokens = Tokens(
        files.secrets, call_ttl_s=settings.call.token_ttl_s, device_ttl_s=settings.call.device_token_ttl_s
    )
    store = Store(settings.state_dir / DATABASE_FILE)
    stack.push_async_callback(store.close)
    await store.open()
    turn, coturn = await _turn(settings, files, stack)
    stack.push_async_callback(turn.close)
    realtime = Realtime(
        HubAuthorizer(tokens, allow_public=settings.http.allow_public_channels),
        RealtimeOptions(
            allow_public=settings.http.allow_public_channels,
            max_connections=settings.limits.max_sockets,
            max_connections_per_address=settings.limits.max_sockets_per_address,
        ),
        address_of=client_address(settings),
    )
    verbs = Verbs(settings, tokens, store, turn, realtime.broadcast, scores=await store.load_scores())
    app = make_app(verbs, settings, tokens.apikey.reveal(), files.desk, realtime.attach)
    return _Parts(app, verbs, tokens, files.tls, coturn, files.host)


async def _turn(
    settings: HubSettings, files: _Files, stack: contextlib.AsyncExitStack
) -> tuple[TurnProvider, Coturn | None]:
    turn = settings.turn
    if turn.provider == "coturn":
        certificate = (files.tls.certificate, files.tls.key) if files.tls is not None else None
        coturn = await asyncio.to_thread(
            Coturn, turn, files.turn_secret, settings.state_dir.absolute(), certificate
        )
        stack.push_async_callback(coturn.stop)
        await coturn.start()
        return HmacTurn(files.turn_secret, coturn.address), coturn
    if turn.provider == "hmac":
        return HmacTurn(files.turn_secret, TurnAddress("", 0), turn.urls), None
    if turn.provider == "cloudflare":
        return CloudflareTurn(turn.cloudflare_api, turn.cloudflare_key_id, files.turn_secret), None
    return NoTurn(), None


async def _listen(runner: web.AppRunner, settings: HubSettings, tls: ssl.SSLContext | None) -> int:
    """Listen on all addresses with one port; return it (the kernel's choice when the setting is 0)."""
    port = settings.http.port
    for address in settings.http.listen:
        site = web.TCPSite(runner, address, port, ssl_context=tls, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise HubError(f"cannot listen on port {port} ({error.strerror})") from None
        if port == 0:
            port = int(runner.addresses[0][1])
    return port


def _info(settings: HubSettings, parts: _Parts, port: int) -> HubInfo:
    host = parts.host
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if parts.tls is not None else "http"
    url = settings.http.public_url.rstrip("/") or f"{scheme}://{shown}:{port}"
    pin = parts.tls.pin if parts.tls is not None and settings.http.tls == "self-signed" else ""
    coturn = parts.coturn
    return HubInfo(
        url=url,
        apikey=parts.tokens.apikey,
        pin=pin,
        port=port,
        turn=coturn.address if coturn is not None else None,
        coturn_pid=coturn.pid if coturn is not None else None,
    )


def _names(settings: HubSettings) -> list[str]:
    """Return the names and addresses this hub is called by, the most useful first."""
    names = list(settings.http.names)
    for address in settings.http.listen:
        if ipaddress.ip_address(address).is_unspecified:
            names += [primary_address(), socket.gethostname()]
        else:
            names.append(address)
    return list(dict.fromkeys(names))


def _secret_file(key: str, name: str) -> Secret:
    try:
        with open(name, "rb") as file:
            text = file.read(MAX_SECRET_FILE_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError("hub.toml", key, name, "a readable file") from None
    if not text:
        raise SettingsError("hub.toml", key, name, "a file with a secret in it")
    return Secret(text)


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the hub while it runs in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def running_hub(settings: HubSettings) -> AsyncIterator[HubInfo]:
    """Run a hub inside the caller's own loop, for the demo and the tests."""
    started: asyncio.Future[HubInfo] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run_hub(settings, ready=started.set_result, handle_signals=False))
    try:
        await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            started.cancel()
            task.result()
            raise HubError("the hub ended before it was ready")
        yield started.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
