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
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, field
from functools import partial
from pathlib import Path

from aiohttp import web

from voicemeet_edge.backend.admission import as_typed
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.address import base_url, names_of, on_link_prefixes
from voicemeet_edge.hub.calls import CallSight
from voicemeet_edge.hub.certificate_watch import CertificateWatch
from voicemeet_edge.hub.clock import SteadyClock
from voicemeet_edge.hub.figures import HubFigures
from voicemeet_edge.hub.fleet_page import FleetPage
from voicemeet_edge.hub.front import Front
from voicemeet_edge.hub.listener import Listener, places_for
from voicemeet_edge.hub.listening import HubError, take_port
from voicemeet_edge.hub.operator_page import OperatorPage, Place
from voicemeet_edge.hub.pass_desk import DATABASE_FILE, make_first_operator_pass, make_first_passes
from voicemeet_edge.hub.public_files import PublicFiles
from voicemeet_edge.hub.pulse import Pulse
from voicemeet_edge.hub.realtime.options import RealtimeOptions
from voicemeet_edge.hub.realtime.server import Realtime
from voicemeet_edge.hub.secrets import HubSecrets, load_or_make_secrets, load_secrets
from voicemeet_edge.hub.server import DiscreetFilter, client_key, make_app, read_desk, read_page
from voicemeet_edge.hub.settings import HubSettings
from voicemeet_edge.hub.store import Store
from voicemeet_edge.hub.tls import HubTls, hub_tls
from voicemeet_edge.hub.tokens import HubAuthorizer, Tokens
from voicemeet_edge.hub.turn.cloudflare import CloudflareTurn
from voicemeet_edge.hub.turn.coturn import Coturn
from voicemeet_edge.hub.turn.provider import HmacTurn, NoTurn, TurnAddress, TurnProvider
from voicemeet_edge.hub.updates import FOLDER as UPDATES
from voicemeet_edge.hub.updates import Updates
from voicemeet_edge.hub.verbs import Verbs
from voicemeet_edge.net.watch import Change, Watch
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import PUBLIC_POOL

logger = logging.getLogger(__name__)
http_logger = logging.getLogger("voicemeet_edge.hub.http")

SHUTDOWN_TIMEOUT_S = 2.0  # s for open requests at the end; verbs take milliseconds
KEEPALIVE_S = 600.0  # s; the listener's own times are shorter, this is what is told to aiohttp's timer
MAX_SECRET_FILE_BYTES = 4_096  # bytes of a file that holds one secret
MAX_FILES = 65_536  # open files asked for: a socket is one, and many systems start with 1,024


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
    first_passes: Mapping[Role, Secret] = field(default_factory=dict)
    """Passes made at this start because the first pool had none; nobody can read them again."""
    operator_pass: Secret | None = None
    """The operator's, made at this start because there was none."""
    waiting: Callable[[], int] = lambda: 0
    """How many tickets wait now, while the hub runs in this process."""
    is_alive: Callable[[], bool] = lambda: True
    """Whether the running hub lately did work: its loop turned and its database answered."""
    figures: Callable[[], HubFigures] = HubFigures
    """What the running hub counts; on its loop only."""

    @property
    def desk_url(self) -> str:
        """The desk page's address."""
        return f"{self.url}/desk/"


def device_settings(
    info: HubInfo, *, pool: str = "frontdesk", role: str = "caller", shown_pass: Secret | None = None
) -> str:
    """Return the lines of `voicemeet.toml` that bring a device to this hub; they hold apikey and pass."""
    lines = ["[backend]", f'url = "{info.url}"', f'apikey = "{info.apikey.reveal()}"']
    if info.pin:
        lines.append(f'tls_pin = "{info.pin}"')
    if shown_pass:
        lines.append(f'pass = "{as_typed(shown_pass)}"')
    return "\n".join([*lines, "", "[call]", f'pool = "{pool}"', f'role = "{role}"']) + "\n"


def no_relay_warning(settings: HubSettings) -> str | None:
    """Say which pool cannot work because the hub gives no relay; None where none needs one."""
    pools = settings.match.pools
    if settings.turn.provider != "off" or (pools and PUBLIC_POOL not in pools):
        return None
    return (
        f"no relay: [turn] provider is off. In the pool {PUBLIC_POOL}, where strangers meet, each call needs "
        'one and ends as out of order. Set [turn] provider = "coturn", or name the pools there are in '
        "[match] pools"
    )


async def run_hub(
    settings: HubSettings,
    *,
    ready: Callable[[HubInfo], None],
    handle_signals: bool = True,
    first_pool: str = "",
) -> None:
    """Run a hub until SIGTERM, SIGINT or cancellation; `ready` is called once it answers.

    For `first_pool`, when it has no pass yet, one for a device and one for a desk are made.

    SettingsError when a setting cannot work here, HubError or CoturnError when the machine does not
    let it listen. In the main thread it takes the two signals over while it runs, unless told not to.
    """
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        sockets, port = take_port(settings.http)
        for one in sockets:
            stack.callback(one.close)
        parts = await _prepare(settings, stack, first_pool, port)
        listener = await _listener(settings, parts, stack)
        if handle_signals:
            stack.enter_context(_signals(stop, parts.certificates))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(parts.verbs.run()), group.create_task(listener.run(sockets))]
            tasks.append(group.create_task(parts.pulse.run()))
            if parts.certificates is not None:
                tasks.append(group.create_task(parts.certificates.run()))
            if parts.coturn is not None:
                tasks.append(group.create_task(parts.coturn.supervise()))
                watch = Watch(partial(_ground_moved, parts.coturn))
                tasks.append(group.create_task(watch.run()))
            logger.info("the hub is ready")
            if (warning := no_relay_warning(settings)) is not None:
                logger.warning("%s", warning)
            try:
                ready(_info(settings, parts, port, listener))
                await stop.wait()
            finally:
                for task in tasks:
                    task.cancel()
    logger.info("the hub has stopped")


async def _listener(settings: HubSettings, parts: _Parts, stack: contextlib.AsyncExitStack) -> Listener:
    """Make aiohttp's server ready, and what counts connections before it sees them."""
    runner = web.AppRunner(
        parts.app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        keepalive_timeout=KEEPALIVE_S,
        logger=http_logger,
    )
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    server = runner.server
    assert server is not None
    limits = settings.limits
    places = places_for(limits.max_connections, limits.address_connections)
    tls = parts.tls.context if parts.tls is not None else None
    return Listener(server, places, tls, settings.http.trusted_proxies, parts.on_link)


@dataclass(frozen=True, slots=True)
class _Parts:
    app: web.Application
    verbs: Verbs
    realtime: Realtime
    tokens: Tokens
    tls: HubTls | None
    coturn: Coturn | None
    host: str
    first_passes: Mapping[Role, Secret]
    operator_pass: Secret | None
    pulse: Pulse
    certificates: CertificateWatch | None
    on_link: Sequence[ipaddress.IPv6Network]


@dataclass(frozen=True, slots=True)
class _Files:
    """What is read from disk and machine at the start, in one go and off the loop."""

    secrets: HubSecrets
    tls: HubTls | None
    desk: dict[str, bytes]
    operator: dict[str, bytes]
    turn_secret: Secret
    host: str
    on_link: Sequence[ipaddress.IPv6Network]


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _read_files(settings: HubSettings) -> _Files:
    _raise_file_limit()
    secrets = load_or_make_secrets(settings.state_dir)  # and the directory, which nobody else may read
    (settings.state_dir / UPDATES).mkdir(exist_ok=True)
    names = names_of(settings.http.listen, settings.http.names)
    tls = hub_tls(settings.http, settings.state_dir, names)
    desk, operator = read_page(), read_desk(Path(__file__).parent / "operator")
    turn = settings.turn
    turn_secret = secrets.turn
    if turn.provider == "hmac":
        turn_secret = _secret_file("turn.secret_file", turn.secret_file)
    elif turn.provider == "cloudflare":
        turn_secret = _secret_file("turn.cloudflare_token_file", turn.cloudflare_token_file)
    return _Files(secrets, tls, desk, operator, turn_secret, names[0], on_link_prefixes())


async def _prepare(
    settings: HubSettings, stack: contextlib.AsyncExitStack, first_pool: str, port: int
) -> _Parts:
    _make_log_discreet()
    files = await asyncio.to_thread(_read_files, settings)
    tokens = Tokens(
        files.secrets, call_ttl_s=settings.call.token_ttl_s, device_ttl_s=settings.call.device_token_ttl_s
    )
    store = Store(settings.state_dir / DATABASE_FILE)
    stack.push_async_callback(store.close)
    await store.open()
    first_passes = await make_first_passes(store, first_pool) if first_pool else {}
    operator_pass = await make_first_operator_pass(store) if first_pool else None
    turn, coturn = await _turn(settings, files, stack)
    stack.push_async_callback(turn.close)
    clock = SteadyClock(await store.remembered_time())
    key_of = client_key(settings, files.on_link)
    realtime = _realtime(settings, tokens, clock, key_of)
    verbs = Verbs(
        settings,
        tokens,
        store,
        turn,
        realtime.broadcast,
        scores=await store.load_scores(),
        book=await store.pass_book(),
        unix=clock,
    )
    realtime.watch(CallSight(verbs.calls, clock))
    url = _url(settings, files.host, port)
    place = Place(url, tokens.apikey, _pin(settings, files.tls), settings.match.pools)
    operator = OperatorPage(
        place, files.operator, store, verbs.admission, verbs.pass_reading, verbs.shares, key_of
    )
    updates = Updates(settings.state_dir / UPDATES, lambda: verbs.admission.book)
    public = PublicFiles(updates, verbs, key_of, settings.http.security_contact)
    fleet = FleetPage(tokens, verbs.admission, verbs.shares, clock)

    def attach(app: web.Application) -> None:
        Front(files.tls).attach(app)
        fleet.attach(app, operator)
        operator.attach(app)
        public.attach(app)
        realtime.attach(app)

    app = make_app(verbs, settings, tokens.apikey.reveal(), files.desk, attach, key_of)
    return _Parts(
        app=app,
        verbs=verbs,
        realtime=realtime,
        tokens=tokens,
        tls=files.tls,
        coturn=coturn,
        host=files.host,
        first_passes=first_passes,
        operator_pass=operator_pass,
        pulse=Pulse(store.ping),
        certificates=_certificates(settings, files.tls, coturn),
        on_link=files.on_link,
    )


def _make_log_discreet() -> None:
    if not any(isinstance(entry, DiscreetFilter) for entry in http_logger.filters):
        http_logger.addFilter(DiscreetFilter())


def _realtime(
    settings: HubSettings, tokens: Tokens, clock: SteadyClock, key_of: Callable[[web.BaseRequest], str]
) -> Realtime:
    allow_public = settings.http.allow_public_channels
    options = RealtimeOptions(
        allow_public=allow_public,
        # Counted where they are accepted (hub/listener.py), so not once more here.
        max_connections=MAX_FILES,
        max_connections_per_address=MAX_FILES,
    )
    authorizer = HubAuthorizer(tokens, allow_public=allow_public, unix=clock)
    return Realtime(authorizer, options, address_of=key_of, unix=clock)


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
        end = coturn.cli.end_allocations
        return HmacTurn(files.turn_secret, lambda: coturn.address, end=end), coturn
    if turn.provider == "hmac":
        return HmacTurn(files.turn_secret, TurnAddress("", 0), turn.urls), None
    if turn.provider == "cloudflare":
        return CloudflareTurn(turn.cloudflare_api, turn.cloudflare_key_id, files.turn_secret), None
    return NoTurn(), None


def _certificates(
    settings: HubSettings, tls: HubTls | None, coturn: Coturn | None
) -> CertificateWatch | None:
    """Watch a certificate that somebody else renews; our own is never renewed: devices know its pin."""
    if tls is None or settings.http.tls != "files":
        return None
    return CertificateWatch(tls, coturn.certificate_renewed if coturn is not None else lambda: None)


def _ground_moved(coturn: Coturn, change: Change) -> None:
    if change is not Change.CLOCK:
        coturn.network_changed()


def _figures(parts: _Parts, listener: Listener, started_at: float) -> HubFigures:
    realtime, coturn, connections = parts.realtime.stats(), parts.coturn, listener.connections
    return HubFigures(
        up_s=time.monotonic() - started_at,
        is_alive=parts.pulse.is_alive(),
        connections=len(connections),
        in_line=connections.waiting,
        sockets=realtime.connections,
        channels=realtime.channels,
        parties_waiting=parts.verbs.matcher.waiting,
        coturn_running=None if coturn is None else coturn.pid is not None,
        coturn_restarts=0 if coturn is None else coturn.restarts,
        answers=dict(parts.verbs.answers),
        connection_events=asdict(connections.counters),
        match_events=asdict(parts.verbs.matcher.counters),
        realtime_events=realtime.counters,
    )


def _info(settings: HubSettings, parts: _Parts, port: int, listener: Listener) -> HubInfo:
    coturn = parts.coturn
    return HubInfo(
        url=_url(settings, parts.host, port),
        apikey=parts.tokens.apikey,
        pin=_pin(settings, parts.tls),
        port=port,
        turn=coturn.address if coturn is not None else None,
        coturn_pid=coturn.pid if coturn is not None else None,
        first_passes=parts.first_passes,
        operator_pass=parts.operator_pass,
        waiting=lambda: parts.verbs.matcher.waiting,
        is_alive=parts.pulse.is_alive,
        figures=partial(_figures, parts, listener, time.monotonic()),
    )


def _url(settings: HubSettings, host: str, port: int) -> str:
    return base_url(settings.http.public_url, host, port, is_tls=settings.http.tls != "off")


def _pin(settings: HubSettings, tls: HubTls | None) -> str:
    return tls.pin if tls is not None and settings.http.tls == "self-signed" else ""


def read_info(settings: HubSettings) -> HubInfo:
    """Say how a hub with these settings is reached, from its files alone; nothing is made or changed.

    Raises:
        SettingsError: the hub has not run yet, or its files are not ours to read.
    """
    secrets = load_secrets(settings.state_dir)
    if secrets is None:
        raise SettingsError("hub.toml", "state_dir", str(settings.state_dir), "a hub that has run before")
    names = names_of(settings.http.listen, settings.http.names)
    tls = hub_tls(settings.http, settings.state_dir, names)
    tokens = Tokens(
        secrets, call_ttl_s=settings.call.token_ttl_s, device_ttl_s=settings.call.device_token_ttl_s
    )
    port = settings.http.port
    return HubInfo(_url(settings, names[0], port), tokens.apikey, _pin(settings, tls), port, None)


def _secret_file(key: str, name: str) -> Secret:
    try:
        with open(name, "rb") as file:
            text = file.read(MAX_SECRET_FILE_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError("hub.toml", key, name, "a readable file") from None
    if not text:
        raise SettingsError("hub.toml", key, name, "a file with a secret in it")
    return Secret(text)


def _reload(certificates: CertificateWatch | None) -> None:
    logger.info("looking for a renewed certificate; all other settings are read at start: restart the hub")
    if certificates is not None:
        certificates.look_now()


@contextlib.contextmanager
def _signals(stop: asyncio.Event, certificates: CertificateWatch | None) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the hub in the main thread; SIGHUP looks for a new certificate."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, certificates)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def running_hub(settings: HubSettings, *, first_pool: str = "") -> AsyncIterator[HubInfo]:
    """Run a hub inside the caller's own loop, for the demo and the tests."""
    started: asyncio.Future[HubInfo] = asyncio.get_running_loop().create_future()
    hub = run_hub(settings, ready=started.set_result, handle_signals=False, first_pool=first_pool)
    task = asyncio.create_task(hub)
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
