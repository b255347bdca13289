"""The hub's settings; the one rule: an unknown key or an unusable value stops the hub before it starts.

One frozen dataclass per section of `hub.toml`, built from the file by `load_hub_settings` or in code
(`HubSettings(state_dir=...)`: every other field has a default good for loopback).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, get_args

from voicemeet_edge import validators
from voicemeet_edge.backend.verbs import POOL_PATTERN
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.address import AUTO
from voicemeet_edge.hub.admission import EVERY_POOL
from voicemeet_edge.records import dataclass
from voicemeet_edge.settings_file import check_section, option, parse_sections, parse_toml, read_text, render
from voicemeet_edge.settings_slips import with_line
from voicemeet_edge.validators import Refused

MOST = 10**12  # of anything that is counted or timed; more is a slip of the keyboard
LEAST = 1e-6  # of what must not be zero

Tls = Literal["self-signed", "files", "off"]
Provider = Literal["off", "coturn", "hmac", "cloudflare"]

_text = validators.text(r"[^\x00-\x1f]*", "a text of one line")
_port = validators.integer(0, 65_535)
_rate = validators.number(LEAST, MOST)


def _pool(value: object) -> str:
    if not isinstance(value, str) or not POOL_PATTERN.match(value):
        raise Refused("a name of lower-case letters, digits and -")
    return value


def _host(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}", value):
        raise Refused('a host name or an address, such as "hub.example.org"')
    return value


def _open_pool(value: object) -> str:
    return EVERY_POOL if value == EVERY_POOL else _pool(value)


def _coturn_address(value: object) -> str:
    # Debian's coturn has a hole in its deny list for IPv6 relays (CVE-2026-27624).
    if value == AUTO:
        return AUTO
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise Refused('an IPv4 address, or "auto"') from None


def _external_address(value: object) -> str:
    if value == "":
        return ""
    if value == AUTO:
        raise Refused("an IPv4 address")
    return _coturn_address(value)


def _network(value: object) -> str:
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError:
        raise Refused("an IPv4 network like 192.168.1.0/24") from None


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where the hub is reached: requests, signaling and desk page share one port."""

    listen: tuple[str, ...] = option(
        ("127.0.0.1",),
        validators.many(validators.address, 16, least=1),
        'Addresses to listen on; "0.0.0.0" and "::" for all.',
        template=("0.0.0.0",),
    )
    port: int = option(8443, _port, "TCP port; 0 takes a free one (tests).")
    public_url: str = option(
        "", _text, "The address devices use: https://host:port. Empty: made from the first name or address."
    )
    tls: Tls = option(
        "self-signed",
        validators.one_of(*get_args(Tls)),
        '"self-signed", "files" or "off" (only on loopback, behind a proxy, or with allow_plaintext).',
    )
    certificate: str = option("", _text, 'PEM file with the chain, for tls = "files".')
    private_key: str = option("", _text, 'PEM file with the key, for tls = "files".')
    names: tuple[str, ...] = option(
        (), validators.many(_host, 64), "Host names and addresses the self-signed certificate is made for."
    )
    trusted_proxies: tuple[str, ...] = option(
        (), validators.many(validators.address, 16), "Addresses of proxies whose X-Forwarded-For is believed."
    )
    allow_plaintext: bool = option(
        False,
        validators.boolean,
        "Serve without TLS on addresses other than loopback: for closed test networks only.",
    )
    security_contact: str = option(
        "",
        _text,
        "Whom to tell of a hole, for /.well-known/security.txt: https://… or mailto:…",
    )
    allow_public_channels: bool = option(
        False,
        validators.boolean,
        "Let anybody with the apikey use public Realtime channels; our own devices never do.",
    )


@dataclass(frozen=True, slots=True)
class MatchSettings:
    """How parties are brought together."""

    pools: tuple[str, ...] = option(
        (), validators.many(_pool, 256), "Names of the pools that exist; empty: any name."
    )
    open_pools: tuple[str, ...] = option(
        ("public",),
        validators.many(_open_pool, 256),
        'Pools for strangers, without passes; all others are closed. "*" opens every pool: for labs.',
    )
    max_waiting: int = option(
        5_000, validators.integer(1, MOST), "Waiting parties per pool before a pool is full."
    )
    poll_after_s: float = option(
        3.0, validators.number(0, MOST), "Seconds after which a waiting party asks again (it adds jitter)."
    )
    waiter_timeout_s: float = option(
        20.0, validators.number(0, MOST), "Seconds without asking after which a waiting party is forgotten."
    )
    avoid_repeat_s: float = option(
        600.0,
        validators.number(0, MOST),
        "Seconds for which two strangers who met are kept apart if others are there; 0: never.",
    )
    repeat_after_s: float = option(
        6.0, validators.number(0, MOST), "Seconds of waiting after which two who met before may meet again."
    )


@dataclass(frozen=True, slots=True)
class LifetimeSettings:
    """How long things last. All times are in seconds unless the name says otherwise."""

    max_call_s: float = option(3_600.0, validators.number(10, 86_400), "Longest call in seconds.")
    token_ttl_s: float = option(
        600.0,
        validators.number(60, 600),
        "Life of a call JWT in seconds (60 to 600); renewed while the call lasts.",
    )
    device_token_ttl_s: float = option(
        86_400.0, validators.number(0, MOST), "Life of a device token in seconds."
    )
    report_grace_s: float = option(
        3_600.0,
        validators.number(0, MOST),
        "Seconds after the end of the call's JWT in which a report is still taken.",
    )
    report_days: float = option(
        30.0, validators.number(0, MOST), "Days until a report that is not held is purged."
    )


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """The TURN server, for calls that find no direct path or must not take it."""

    provider: Provider = option(
        "off",
        validators.one_of(*get_args(Provider)),
        '"coturn" (the hub runs it), "hmac" (a coturn elsewhere), "cloudflare" or "off".',
        template="coturn",
    )
    listen: tuple[str, ...] = option(
        ("127.0.0.1",),
        validators.many(_coturn_address, 16, least=1),
        'IPv4 addresses coturn listens on; "auto" is the one others in the building reach it by.',
        template=("auto",),
    )
    relay_address: str = option(
        "127.0.0.1",
        _coturn_address,
        'IPv4 address relayed packets leave from; "auto" as above.',
        template="auto",
    )
    external_address: str = option(
        "", _external_address, "Public IPv4 address when coturn stands behind a 1:1 NAT."
    )
    host: str = option(
        "", _text, "Name or address told to devices; empty: the external, else the first listening address."
    )
    port: int = option(3478, _port, "UDP and TCP port; 0 takes a free one (tests).")
    tls_port: int = option(
        0, _port, 'TLS port (443 or 5349); 0: off. Needs tls = "files": browsers refuse self-signed TURN.'
    )
    min_port: int = option(49_152, _port, "Lowest relay port.")
    max_port: int = option(65_535, _port, "Highest relay port.")
    user_quota: int = option(
        4,
        validators.integer(0, MOST),
        "Allocations per call and slot at once: UDP and TCP on two interfaces.",
    )
    total_quota: int = option(
        4_000,
        validators.integer(0, MOST),
        "Allocations at once in all; half of them are kept for closed pools.",
    )
    max_bps: int = option(
        64_000,
        validators.integer(0, MOST),
        "Bytes per second and direction of one allocation; Opus with its overhead takes 12,000.",
    )
    allowed_peers: tuple[str, ...] = option(
        (),
        validators.many(_network, 64),
        "Private networks that may be relayed to (an intercom in a building), as a.b.c.d/n.",
    )
    public_peers: bool = option(
        False,
        validators.boolean,
        "Relay to any public address: for a hub on the internet. Otherwise the relay is no way out.",
    )
    secret_file: str = option("", _text, 'File with the shared secret, for provider = "hmac".')
    urls: tuple[str, ...] = option(
        (), validators.many(_text, 64), 'URLs told to devices, for provider = "hmac".'
    )
    cloudflare_key_id: str = option("", _text, 'The TURN key\'s id, for provider = "cloudflare".')
    cloudflare_token_file: str = option(
        "", _text, 'File with the TURN key\'s API token, for provider = "cloudflare".'
    )
    cloudflare_api: str = option(
        "https://rtc.live.cloudflare.com", _text, "Base URL of the API; another one only in tests."
    )


@dataclass(frozen=True, slots=True)
class RiskSettings:
    """What reports lead to. A score belongs to a short-lived device token, never to a device."""

    report_weight: float = option(1.0, validators.number(0, MOST), "How much one report raises a score.")
    half_life_s: float = option(259_200.0, validators.number(LEAST, MOST), "Seconds in which a score halves.")
    separate_at: float = option(
        1.8,
        validators.number(0, MOST),
        "From this score on a party only meets others of its kind: two reports within half a day.",
    )
    refuse_at: float = option(
        4.5,
        validators.number(0, MOST),
        "From this score on a party is refused: five reports within half a day.",
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """How often may ask: an IPv4 address, an IPv6 /64 (a /48: as eight of them), or a device token."""

    address_per_s: float = option(20.0, _rate, "Requests without a good token per second from one address.")
    address_burst: float = option(100.0, _rate, "Requests without a good token at once from one address.")
    address_calls: int = option(
        16, validators.integer(0, MOST), "Searches, and live calls, at once from one address in open pools."
    )
    session_per_s: float = option(1.0, _rate, "New device tokens without a pass per second for one address.")
    session_burst: float = option(60.0, _rate, "New device tokens without a pass at once for one address.")
    pass_per_s: float = option(100.0, _rate, "New device tokens per second for one pass.")
    pass_burst: float = option(
        4_000.0,
        _rate,
        "New device tokens at once for one pass: a building whose devices share one, after a power cut.",
    )
    known_per_s: float = option(
        100.0, _rate, "Requests per second from one address with device tokens that have no pass."
    )
    known_burst: float = option(
        1_000.0, _rate, "Requests at once from one address with device tokens that have no pass."
    )
    device_per_s: float = option(2.0, _rate, "Requests per second with one device token.")
    device_burst: float = option(20.0, _rate, "Requests at once with one device token.")
    report_per_s: float = option(0.05, _rate, "Reports per second from one device.")
    report_burst: float = option(5.0, _rate, "Reports at once from one device.")
    max_connections: int = option(
        0,
        validators.integer(0, MOST),
        "Connections in all; 0: as many as there is memory for. A quarter is kept for who has a pass.",
    )
    address_connections: int = option(
        64,
        validators.integer(0, MOST),
        "Connections from one address of those who have no pass; more of them wait.",
    )


@dataclass(frozen=True, slots=True)
class StatusSettings:
    """What can be learned of the hub's health; numbers only, nothing that names anybody."""

    metrics: str = option(
        "",
        validators.loopback_endpoint,
        'Where Prometheus metrics are served on this machine, such as "127.0.0.1:9465"; nothing: nowhere.',
    )


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Everything the hub is told."""

    state_dir: Path
    """Directory of secrets, certificate and database; made with mode 0700."""
    http: HttpSettings = field(default_factory=HttpSettings)
    match: MatchSettings = field(default_factory=MatchSettings)
    call: LifetimeSettings = field(default_factory=LifetimeSettings)
    turn: TurnSettings = field(default_factory=TurnSettings)
    risk: RiskSettings = field(default_factory=RiskSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    status: StatusSettings = field(default_factory=StatusSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot work; SettingsError names the key."""
        for name in SECTIONS:
            check_section(getattr(self, name), name, "hub settings")
        _check_together(self, "hub settings")


SECTIONS: dict[str, type[Any]] = {
    "http": HttpSettings,
    "match": MatchSettings,
    "call": LifetimeSettings,
    "turn": TurnSettings,
    "risk": RiskSettings,
    "limits": LimitSettings,
    "status": StatusSettings,
}


def load_hub_settings(path: Path) -> HubSettings:
    """Read `hub.toml`; SettingsError for anything wrong with it."""
    text = read_text(path, str(path), "(file)")
    try:
        settings = hub_settings_from(parse_toml(text, path.name), path.name)
        if not settings.state_dir.is_absolute():  # else it were another one for each folder it is started in
            expected = 'a whole path, such as "/var/lib/voicemeet-hub"'
            raise SettingsError(path.name, "state_dir", f'"{settings.state_dir}"', expected)
    except SettingsError as error:
        raise with_line(error, text) from None
    return settings


def hub_settings_from(document: Mapping[str, object], file: str = "hub.toml") -> HubSettings:
    """Build the settings from a parsed document; `file` is for the error's sentence."""
    state_dir = document.get("state_dir")
    if not isinstance(state_dir, str) or not state_dir:
        found = "missing" if state_dir is None else "something else"
        raise SettingsError(file, "state_dir", found, "a directory")
    tables = {key: value for key, value in document.items() if key != "state_dir"}
    sections = parse_sections(tables, SECTIONS, file)
    try:
        return HubSettings(Path(state_dir), **sections)
    except SettingsError as error:
        raise SettingsError(file, error.key, error.value, error.expected) from None


def render_hub_template() -> str:
    """Write the commented settings file; firmware/hub.toml is its output."""
    return HEADER + render(SECTIONS, commented=True)


HEADER = """\
# VoiceMeet Edge hub: settings.
#
# Copy to /etc/voicemeet/hub.toml, edit, then: voicemeet-edge hub --config /etc/voicemeet/hub.toml
# A line that starts with "#name =" shows a default. Unknown keys and values that cannot work stop
# the hub before it starts, with one line that says which. Secrets are not here: the hub makes its
# own at first start, in state_dir, readable by itself alone.

# Directory of secrets, certificate and database; made with mode 0700.
state_dir = "/var/lib/voicemeet-hub"
"""


def _check_together(settings: HubSettings, file: str) -> None:
    """Refuse values that are right alone and wrong together."""

    def need(good: object, key: str, value: object, expected: str) -> None:
        if not good:
            raise SettingsError(file, key, repr(value), expected)

    http, turn, risk = settings.http, settings.turn, settings.risk
    if http.tls == "files":
        need(http.certificate, "http.certificate", "", "a PEM file")
        need(http.private_key, "http.private_key", "", "a PEM file")
    plain = http.allow_plaintext or bool(http.trusted_proxies)
    loopback = all(ipaddress.ip_address(address).is_loopback for address in http.listen)
    need(http.tls != "off" or loopback or plain, "http.tls", "off", "TLS on addresses other than loopback")
    need(risk.separate_at <= risk.refuse_at, "risk.refuse_at", risk.refuse_at, "at least risk.separate_at")
    if turn.provider == "coturn":
        is_tls_possible = not turn.tls_port or http.tls == "files"
        need(is_tls_possible, "turn.tls_port", turn.tls_port, '0 without tls = "files"')
        need(1024 <= turn.min_port < turn.max_port, "turn.min_port", turn.min_port, "1024 to turn.max_port")
    if turn.provider == "hmac":
        need(turn.secret_file, "turn.secret_file", "", "a file with the shared secret")
        need(turn.urls, "turn.urls", turn.urls, "at least one turn: URL")
    if turn.provider == "cloudflare":
        need(turn.cloudflare_key_id, "turn.cloudflare_key_id", "", "the id of a TURN key")
        need(turn.cloudflare_token_file, "turn.cloudflare_token_file", "", "a file with its API token")


if __name__ == "__main__":
    (Path(__file__).parents[2] / "firmware" / "hub.toml").write_text(render_hub_template())
