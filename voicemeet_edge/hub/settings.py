"""The hub's settings; the one rule: an unknown key or an unusable value stops the hub before it starts.

One frozen dataclass per section of `hub.toml`, built from the file by `load_hub_settings` or in code
(`HubSettings(state_dir=...)`: every other field has a default good for loopback).
"""

from __future__ import annotations

import dataclasses
import ipaddress
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path

from ..backend.verbs import POOL_PATTERN
from ..errors import SettingsError
from .address import AUTO

MAX_FILE_BYTES = 64 * 1024  # bytes of hub.toml; the commented template has about 5 kB


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where the hub is reached."""

    listen: tuple[str, ...] = ("127.0.0.1",)
    """Addresses to listen on; "0.0.0.0" and "::" for all."""
    port: int = 8443
    """TCP port; 0 takes a free one (tests)."""
    public_url: str = ""
    """What devices type: https://host:port. Empty: made from the first name or address."""
    tls: str = "self-signed"
    """"self-signed", "files" or "off" (only on loopback, behind a proxy, or with allow_plaintext)."""
    certificate: str = ""
    """PEM file with the chain, for tls = "files"."""
    private_key: str = ""
    """PEM file with the key, for tls = "files"."""
    names: tuple[str, ...] = ()
    """Host names and addresses the self-signed certificate is made for."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of proxies whose X-Forwarded-For is believed."""
    allow_plaintext: bool = False
    """Serve without TLS on addresses other than loopback: for closed test networks only."""
    allow_public_channels: bool = False
    """Let anybody with the apikey use public Realtime channels; our own devices never do."""


@dataclass(frozen=True, slots=True)
class MatchSettings:
    """How parties are brought together."""

    pools: tuple[str, ...] = ()
    """Names of the pools that exist; empty: any name."""
    max_waiting: int = 2_000
    """Waiting parties per pool before a pool is full."""
    poll_after_s: float = 3.0
    """Seconds after which a waiting party asks again (it adds jitter)."""
    waiter_timeout_s: float = 20.0
    """Seconds without asking after which a waiting party is forgotten."""
    avoid_repeat_s: float = 600.0
    """Seconds for which two strangers who met are kept apart if others are there; 0: never."""
    repeat_after_s: float = 6.0
    """Seconds of waiting after which two who met before may meet again."""


@dataclass(frozen=True, slots=True)
class CallSettings:
    """How long things last."""

    max_call_s: float = 3_600.0
    """Longest call in seconds."""
    token_ttl_s: float = 600.0
    """Life of a call JWT in seconds (60 to 600); renewed while the call lasts."""
    device_token_ttl_s: float = 86_400.0
    """Life of a device token in seconds."""
    report_grace_s: float = 3_600.0
    """Seconds after the end of the call's JWT in which a report is still taken."""
    report_days: float = 30.0
    """Days until a report that is not held is purged."""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """The TURN server beside the hub."""

    provider: str = "off"
    """"coturn" (the hub runs it), "hmac" (a coturn elsewhere), "cloudflare" or "off"."""
    listen: tuple[str, ...] = ("127.0.0.1",)
    """IPv4 addresses coturn listens on; "auto" is the one of the default route."""
    relay_address: str = "127.0.0.1"
    """IPv4 address relayed packets leave from; "auto" as above."""
    external_address: str = ""
    """Public IPv4 address when coturn stands behind a 1:1 NAT."""
    host: str = ""
    """Name or address told to devices; empty: the external, else the first listening address."""
    port: int = 3478
    """UDP and TCP port; 0 takes a free one (tests)."""
    tls_port: int = 0
    """TLS port (443 or 5349); 0: off. Needs tls = "files": browsers refuse self-signed TURN."""
    min_port: int = 49_152
    """Lowest relay port."""
    max_port: int = 65_535
    """Highest relay port."""
    user_quota: int = 8
    """Allocations per call and slot at once: four rungs of a ladder on two interfaces."""
    total_quota: int = 2_000
    """Allocations at once in all."""
    max_bps: int = 64_000
    """Bytes per second and direction of one allocation; Opus with its overhead takes 12,000."""
    allowed_peers: tuple[str, ...] = ()
    """Private networks that may be relayed to (an intercom in a building), as a.b.c.d/n."""
    secret_file: str = ""
    """File with the shared secret, for provider = "hmac"."""
    urls: tuple[str, ...] = ()
    """URLs told to devices, for provider = "hmac"."""
    cloudflare_key_id: str = ""
    """The TURN key's id, for provider = "cloudflare"."""
    cloudflare_token_file: str = ""
    """File with the TURN key's API token, for provider = "cloudflare"."""
    cloudflare_api: str = "https://rtc.live.cloudflare.com"
    """Base URL of the API; another one only in tests."""


@dataclass(frozen=True, slots=True)
class RiskSettings:
    """What reports lead to."""

    report_weight: float = 1.0
    """How much one report raises a score."""
    half_life_s: float = 259_200.0
    """Seconds in which a score halves."""
    separate_at: float = 1.8
    """From this score on a party only meets others of its kind: two reports within half a day."""
    refuse_at: float = 4.5
    """From this score on a party is refused: five reports within half a day."""


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """How often somebody may ask."""

    address_per_s: float = 20.0
    """Requests per second from one address."""
    address_burst: float = 100.0
    """Requests at once from one address."""
    session_per_s: float = 0.2
    """New device tokens per second for one address."""
    session_burst: float = 20.0
    """New device tokens at once for one address."""
    device_per_s: float = 2.0
    """Requests per second with one device token."""
    device_burst: float = 20.0
    """Requests at once with one device token."""
    report_per_s: float = 0.05
    """Reports per second from one device."""
    report_burst: float = 5.0
    """Reports at once from one device."""
    max_sockets: int = 10_000
    """Realtime sockets in all."""
    max_sockets_per_address: int = 200
    """Realtime sockets from one address."""


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Everything the hub is told."""

    state_dir: Path
    """Directory of secrets, certificate and database; made with mode 0700."""
    http: HttpSettings = field(default_factory=HttpSettings)
    match: MatchSettings = field(default_factory=MatchSettings)
    call: CallSettings = field(default_factory=CallSettings)
    turn: TurnSettings = field(default_factory=TurnSettings)
    risk: RiskSettings = field(default_factory=RiskSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot work; SettingsError names the key."""
        check_hub_settings(self, "hub settings")


_Section = typing.TypeVar("_Section")


def load_hub_settings(path: Path) -> HubSettings:
    """Read `hub.toml`; SettingsError for anything wrong with it."""
    name = path.name
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SettingsError(name, "file", "?", f"a readable file ({error.strerror})") from None
    if len(raw) > MAX_FILE_BYTES:
        raise SettingsError(name, "file", f"{len(raw)} bytes", f"at most {MAX_FILE_BYTES} bytes")
    try:
        document = tomllib.loads(raw.decode())
    except ValueError as error:
        raise SettingsError(name, "file", "?", f"TOML ({error})") from None
    return hub_settings_from(document, name)


def hub_settings_from(document: dict[str, typing.Any], file: str = "hub.toml") -> HubSettings:
    """Build the settings from a parsed document; `file` is for the error's sentence."""
    sections: dict[str, type] = {
        "http": HttpSettings,
        "match": MatchSettings,
        "call": CallSettings,
        "turn": TurnSettings,
        "risk": RiskSettings,
        "limits": LimitSettings,
    }
    built: dict[str, typing.Any] = {}
    for key, value in document.items():
        if key == "state_dir":
            if not isinstance(value, str) or not value:
                raise SettingsError(file, key, repr(value), "a directory")
            built[key] = Path(value)
        elif key in sections:
            built[key] = _section(sections[key], value, file, key)
        else:
            raise SettingsError(file, key, "…", f"one of state_dir, {', '.join(sections)}")
    if "state_dir" not in built:
        raise SettingsError(file, "state_dir", "missing", "a directory")
    try:
        return HubSettings(**built)
    except SettingsError as error:
        raise SettingsError(file, error.key, error.value, error.expected) from None


def _section(kind: type[_Section], table: object, file: str, section: str) -> _Section:
    if not isinstance(table, dict):
        raise SettingsError(file, section, repr(table), "a section")
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = {}
    for key, value in table.items():
        if key not in hints:
            raise SettingsError(file, f"{section}.{key}", "…", f"one of {', '.join(hints)}")
        values[key] = _value(value, hints[key], file, f"{section}.{key}")
    return kind(**values)


def _value(value: object, kind: object, file: str, key: str) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (bool, int, float, str):
        # type() and not isinstance: True would pass for the number 1.
        if type(value) is kind:
            return value
        expected = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        raise SettingsError(file, key, repr(value), expected[typing.cast("type", kind)])
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise SettingsError(file, key, repr(value), "a list of texts")


def check_hub_settings(settings: HubSettings, file: str) -> None:
    """Raise SettingsError for the first value that cannot work."""

    def need(good: bool, key: str, value: object, expected: str) -> None:
        if not good:
            raise SettingsError(file, key, repr(value), expected)

    http, turn, call = settings.http, settings.turn, settings.call
    _check_numbers(settings, file)
    for key, addresses in (("http.listen", http.listen), ("http.trusted_proxies", http.trusted_proxies)):
        for address in addresses:
            need(_is_address(address), key, address, "an IP address")
    need(bool(http.listen), "http.listen", http.listen, "at least one address")
    need(http.tls in ("off", "self-signed", "files"), "http.tls", http.tls, "off, self-signed or files")
    if http.tls == "files":
        need(bool(http.certificate), "http.certificate", "", "a PEM file")
        need(bool(http.private_key), "http.private_key", "", "a PEM file")
    plain = http.allow_plaintext or bool(http.trusted_proxies)
    loopback = all(ipaddress.ip_address(address).is_loopback for address in http.listen)
    need(http.tls != "off" or loopback or plain, "http.tls", "off", "TLS on addresses other than loopback")
    for pool in settings.match.pools:
        need(bool(POOL_PATTERN.match(pool)), "match.pools", pool, "lower-case letters, digits and -")
    need(60 <= call.token_ttl_s <= 600, "call.token_ttl_s", call.token_ttl_s, "60 to 600 seconds")
    need(10 <= call.max_call_s <= 86_400, "call.max_call_s", call.max_call_s, "10 to 86400 seconds")
    _check_turn(turn, http, need)
    risk = settings.risk
    need(risk.half_life_s > 0, "risk.half_life_s", risk.half_life_s, "more than 0 seconds")
    need(risk.separate_at <= risk.refuse_at, "risk.refuse_at", risk.refuse_at, "at least risk.separate_at")


class _Need(typing.Protocol):
    def __call__(self, good: bool, key: str, value: object, expected: str) -> None: ...


def _check_turn(turn: TurnSettings, http: HttpSettings, need: _Need) -> None:
    providers = ("off", "coturn", "hmac", "cloudflare")
    need(turn.provider in providers, "turn.provider", turn.provider, "off, coturn, hmac or cloudflare")
    if turn.provider == "coturn":
        # Debian's coturn has a hole in its deny list for IPv6 relays (CVE-2026-27624).
        named = [("turn.listen", address) for address in turn.listen]
        for key, address in (*named, ("turn.relay_address", turn.relay_address)):
            need(
                address == AUTO or _is_address(address, 4),
                key,
                address,
                "an IPv4 address",
            )
        need(bool(turn.listen), "turn.listen", turn.listen, "at least one address")
        external = turn.external_address
        need(not external or _is_address(external, 4), "turn.external_address", external, "an IPv4 address")
        need(
            not turn.tls_port or http.tls == "files",
            "turn.tls_port",
            turn.tls_port,
            '0 without tls = "files"',
        )
        need(1024 <= turn.min_port < turn.max_port, "turn.min_port", turn.min_port, "1024 to turn.max_port")
    if turn.provider == "hmac":
        need(bool(turn.secret_file), "turn.secret_file", "", "a file with the shared secret")
        need(bool(turn.urls), "turn.urls", turn.urls, "at least one turn: URL")
    if turn.provider == "cloudflare":
        need(bool(turn.cloudflare_key_id), "turn.cloudflare_key_id", "", "the id of a TURN key")
        need(bool(turn.cloudflare_token_file), "turn.cloudflare_token_file", "", "a file with its API token")
    for network in turn.allowed_peers:
        need(_is_network(network), "turn.allowed_peers", network, "an IPv4 network like 192.168.1.0/24")


def _check_numbers(settings: HubSettings, file: str) -> None:
    for section in dataclasses.fields(settings):
        table = getattr(settings, section.name)
        if not dataclasses.is_dataclass(table):
            continue
        for entry in dataclasses.fields(table):
            value = getattr(table, entry.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            key = f"{section.name}.{entry.name}"
            if not 0 <= value < 1e12:
                raise SettingsError(file, key, repr(value), "a number that is not negative")
            if entry.name.endswith("port") and value > 65_535:
                raise SettingsError(file, key, repr(value), "a port from 0 to 65535")
            if entry.name.endswith(("per_s", "burst", "max_waiting")) and value <= 0:
                raise SettingsError(file, key, repr(value), "more than 0")


def _is_address(text: str, version: int | None = None) -> bool:
    try:
        return version in (None, ipaddress.ip_address(text).version)
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text)
    except ValueError:
        return False
    return True
