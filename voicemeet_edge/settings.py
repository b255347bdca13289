"""Everything a person can set: one frozen dataclass per section of voicemeet.toml.

One rule: nothing unchecked gets past this file; an unknown key is an error, and an error is one line
with file, key, value (secrets as dots) and what was expected.
"""

# ruff: noqa: RUF009 - `option` is a field specifier: it makes no shared mutable default

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from voicemeet_edge import validators
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.secret import Secret
from voicemeet_edge.validators import Check, Refused

MAX_FILE_BYTES = 65_536  # bytes; the commented template is a tenth of it
MAX_SHOWN_VALUE = 60  # characters of a wrong value in an error: enough to recognise it on one line
DOTS = "••••"
QUOTE = '"'
# A key pasted into the wrong line, or as a section's name, must not end up in the journal.
_LIKE_A_KEY = re.compile(r"(?<![\w-])[A-Za-z0-9_-]{32,200}(?![\w-])")

Role = Literal["either", "caller", "answerer"]
IcePolicy = Literal["relay", "mdns", "direct"]
IcePolicySetting = Literal["auto", "relay", "mdns", "direct"]
TurnTransport = Literal["udp", "tcp", "tls"]
SoundCardKind = Literal["alsa", "virtual"]
EchoMethod = Literal["auto", "aec3", "livekit", "half_duplex", "off"]
PanelFactory = Literal["gpiod", "lgpio", "mock", "terminal", "none"]
Pull = Literal["up", "down", "none"]
LogLevel = Literal["debug", "info", "warning", "error"]

PUBLIC_POOL = "public"  # the pool of strangers: no address may reach them unless somebody says so

T = TypeVar("T")


def option(default: T, check: Check[T], doc: str, *, secret: bool = False) -> T:
    """Declare one setting: default, check, the sentence of the template, and whether it prints as dots."""
    return field(default=default, metadata={"check": check, "doc": doc, "secret": secret})


_transport: Check[TurnTransport] = validators.one_of("udp", "tcp", "tls")
_line_name = validators.text(r"[!-~]{1,32}", 'the name of a GPIO line, such as "GPIO17"')
_file_name = validators.text(r"[^\x00-\x1f]*", "the path of a file, or nothing")


@dataclass(frozen=True)
class BackendSettings:
    """Who brings the two parties together."""

    url: str = option(
        "https://voicemeet-hub.local:8443",
        validators.base_url,
        "Address of the hub or of the hosted backend.",
    )
    apikey: Secret = option(
        Secret(""), validators.secret, "Key of the backend; the hub prints it at first start.", secret=True
    )
    tls_pin: str = option(
        "",
        validators.pin_digest,
        "SHA-256 of the backend's certificate in hex, for a hub with a certificate of its own making.",
    )
    allow_plaintext: bool = option(
        False, validators.boolean, "Permit http:// to a host that is not this machine; for a lab only."
    )


@dataclass(frozen=True)
class CallSettings:
    """Whom to call and how long to try."""

    pool: str = option(
        PUBLIC_POOL,
        validators.text(
            r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", "a name of small letters, digits and - inside"
        ),
        'Who can meet whom: "public" for strangers, or a name all devices of one building share.',
    )
    role: Role = option(
        "either",
        validators.one_of("either", "caller", "answerer"),
        'What this device does in the pool: "either", "caller" or "answerer".',
    )
    ring_timeout_s: float = option(45.0, validators.number(5, 300), "Seconds to ring before giving up.")
    connect_timeout_s: float = option(
        15.0, validators.number(3, 120), "Seconds for the two parties to reach each other."
    )
    search_timeout_s: float = option(
        300.0, validators.number(5, 3600), "Seconds to look for somebody before giving up."
    )
    max_call_s: float = option(
        3600.0, validators.number(30, 86_400), "Seconds after which a call ends by itself."
    )
    warn_before_end_s: float = option(
        60.0, validators.number(0, 600), "Seconds before that end when a tone warns."
    )
    report_window_s: float = option(
        30.0, validators.number(0, 300), "Seconds after a call in which it can still be reported."
    )
    reconnect_timeout_s: float = option(
        20.0, validators.number(1, 300), "Seconds to get a lost call back before it ends."
    )


@dataclass(frozen=True)
class IceSettings:
    """How the voice finds its way, and what it tells the other side about where we are."""

    policy: IcePolicySetting = option(
        "auto",
        validators.one_of("auto", "relay", "mdns", "direct"),
        '"relay" hides our address, "mdns" hides it outside this network, "direct" does not; '
        '"auto" is relay in the pool "public" and direct in all others.',
    )
    interfaces: tuple[str, ...] = option(
        (),
        validators.many(validators.text(r"[!-.0-~]{1,15}", "the name of a network interface"), 8),
        'Network interfaces to use, such as ["eth0"]; empty for all.',
    )
    addresses: tuple[str, ...] = option(
        (),
        validators.many(validators.address, 8),
        "Own addresses to use; empty for those of the interfaces.",
    )
    ipv6: bool = option(True, validators.boolean, "Use IPv6 where there is any.")
    turn_order: tuple[TurnTransport, ...] = option(
        ("udp", "tcp", "tls"),
        validators.many(_transport, 3, least=1),
        "How to reach the relay, in the order they are tried.",
    )


@dataclass(frozen=True)
class SecuritySettings:
    """What the two parties share that the backend does not."""

    intercom_keys: tuple[Secret, ...] = option(
        (),
        validators.many(validators.intercom_key, 2),
        "One or two keys shared with the other side (`voicemeet-edge keygen`): "
        "the first is used, both are accepted.",
        secret=True,
    )
    intercom_key_file: str = option(
        "",
        _file_name,
        "File with those keys instead, one per line; a bare name is looked up among systemd's credentials.",
    )


@dataclass(frozen=True)
class AudioSettings:
    """Microphone and loudspeaker."""

    card: SoundCardKind = option(
        "alsa",
        validators.one_of("alsa", "virtual"),
        '"alsa" for real sound, "virtual" for files.',
    )
    capture: str = option(
        "plughw:CARD=Device",
        validators.alsa_name,
        "Microphone, by card name; `voicemeet-edge devices` lists them.",
    )
    playback: str = option("plughw:CARD=Device", validators.alsa_name, "Loudspeaker, by card name.")
    volume: int = option(80, validators.integer(0, 100), "Loudness of the loudspeaker in per cent.")
    microphone_gain_db: float = option(
        0.0, validators.number(-40, 40), "Gain of the microphone in dB, before echo cancelling."
    )
    echo: EchoMethod = option(
        "auto",
        validators.one_of("auto", "aec3", "livekit", "half_duplex", "off"),
        'Against echo: "auto" takes the best there is.',
    )
    half_duplex: bool = option(
        False, validators.boolean, "Let only one side be heard at a time; for very loud places."
    )
    virtual_in: str = option(
        "", _file_name, 'With card = "virtual": WAV file the microphone hears, or "speech".'
    )
    virtual_out: str = option(
        "", _file_name, 'With card = "virtual": WAV file the loudspeaker writes, or nothing.'
    )
    virtual_echo: bool = option(
        False, validators.boolean, 'With card = "virtual": let the microphone hear the loudspeaker.'
    )
    bitrate: int = option(
        46_400,
        validators.integer(12_000, 64_000),
        "Bits of Opus per second, constant; the default adapts to the peer's losses, any other stays.",
    )
    complexity: int = option(
        6, validators.integer(0, 10), "Effort of the Opus encoder; more costs processor time."
    )


@dataclass(frozen=True)
class PanelSettings:
    """Buttons and lamp."""

    factory: PanelFactory = option(
        "gpiod",
        validators.one_of("gpiod", "lgpio", "mock", "terminal", "none"),
        'What drives them: "gpiod" (any Linux), "lgpio" (Raspberry Pi OS), "terminal" (keys c, C, r, q), '
        '"mock", "none".',
    )
    call_line: str = option("GPIO17", _line_name, "Line of the call button.")
    report_line: str = option("GPIO27", _line_name, "Line of the report button.")
    lamp_line: str = option("GPIO22", _line_name, "Line of the lamp, high is light.")
    pull: Pull = option(
        "up",
        validators.one_of("up", "down", "none"),
        '"up" for buttons to ground, "down" for buttons to 3.3 V, "none" for buttons to ground with '
        "resistors of their own.",
    )
    debounce_ms: int = option(20, validators.integer(0, 500), "Milliseconds a contact needs to settle.")
    hold_s: float = option(1.0, validators.number(0.3, 10), "Seconds after which a press is a hold.")
    night_level: int = option(
        100,
        validators.integer(0, 100),
        "Brightness of the lamp in per cent; an open microphone always shows in full.",
    )


@dataclass(frozen=True)
class LogSettings:
    """What is written down."""

    level: LogLevel = option(
        "info",
        validators.one_of("debug", "info", "warning", "error"),
        '"info" names no address, key or call; "debug" may, and belongs on a desk only.',
    )


@dataclass(frozen=True)
class Settings:
    """All of voicemeet.toml, checked."""

    backend: BackendSettings = BackendSettings()
    call: CallSettings = CallSettings()
    ice: IceSettings = IceSettings()
    security: SecuritySettings = SecuritySettings()
    audio: AudioSettings = AudioSettings()
    panel: PanelSettings = PanelSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def load(cls, path: Path | str) -> Settings:
        """Read, check and complete the settings of a device that is to run.

        Raises:
            SettingsError: the file cannot be used, or a value every device needs is missing.
        """
        path = Path(path)
        settings = cls.parse(_read(path, str(path), "(file)"), file=str(path))
        settings = _with_key_file(settings, path)
        if not settings.backend.apikey:
            raise SettingsError(str(path), "backend.apikey", "(empty)", "the key the hub printed")
        return settings

    @classmethod
    def parse(cls, text: str, *, file: str = "voicemeet.toml") -> Settings:
        """Check the text of a settings file; `file` only names it in errors."""
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            # Not TOML, a number of thousands of digits, or lists in lists in lists. The error says only
            # where, never what, since the line may hold a key; `from None` for the same reason.
            raise SettingsError(file, "(syntax)", _place(str(error)), "valid TOML") from None
        return cls.from_dict(table, file=file)

    @classmethod
    def from_dict(cls, table: Mapping[str, object], *, file: str = "voicemeet.toml") -> Settings:
        """Check sections given as nested mappings; what is missing takes its default."""
        sections: dict[str, Any] = {}
        for name, values in table.items():
            if name not in _SECTIONS:
                raise SettingsError(
                    file, f"[{_shown(name).strip(QUOTE)}]", DOTS, _nearest(name, list(_SECTIONS))
                )
            if not isinstance(values, Mapping):
                raise SettingsError(file, name, DOTS, f"a section [{name}]")
            sections[name] = _parse_section(_SECTIONS[name], name, values, file)
        settings = cls(**sections)
        _check_together(settings, file)
        return settings

    @property
    def ice_policy_for_pool(self) -> IcePolicy:
        """The policy in force: "auto" hides our address from strangers and from nobody else."""
        if self.ice.policy != "auto":
            return self.ice.policy
        return "relay" if self.call.pool == PUBLIC_POOL else "direct"


_SECTIONS: dict[str, type[Any]] = {
    "backend": BackendSettings,
    "call": CallSettings,
    "ice": IceSettings,
    "security": SecuritySettings,
    "audio": AudioSettings,
    "panel": PanelSettings,
    "log": LogSettings,
}


def render_template() -> str:
    """Write the commented settings file with every default; firmware/voicemeet.toml is its output."""
    lines = [
        "# VoiceMeet Edge: the settings of one device. Check them with: voicemeet-edge check --config FILE",
        "# Every key stands here with its default; a key that is left out has that default too.",
    ]
    for name, kind in _SECTIONS.items():
        lines += ["", f"# {kind.__doc__}", f"[{name}]"]
        for one in fields(kind):
            lines += [f"# {one.metadata['doc']}", f"{one.name} = {_as_toml(one.default)}"]
    return "\n".join(lines) + "\n"


def _parse_section(kind: type[Any], section: str, values: Mapping[str, object], file: str) -> object:
    known: dict[str, Field[Any]] = {one.name: one for one in fields(kind)}
    checked: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            # A misspelled key may hold a secret, so the value of an unknown one is never shown.
            raise SettingsError(
                file, f"{section}.{_shown(key).strip(QUOTE)}", DOTS, _nearest(key, list(known))
            )
        metadata = known[key].metadata
        try:
            checked[key] = metadata["check"](value)
        except Refused as refused:
            shown = DOTS if metadata["secret"] else _shown(value)
            raise SettingsError(file, f"{section}.{key}", shown, str(refused)) from None
    return kind(**checked)


def _check_together(settings: Settings, file: str) -> None:
    """Refuse values that are right alone and wrong together."""
    backend, call, panel = settings.backend, settings.call, settings.panel
    plain = backend.url.lower().startswith("http:")
    if plain and not backend.allow_plaintext and not validators.is_loopback_url(backend.url):
        raise SettingsError(
            file, "backend.url", _shown(backend.url), "https://, or http:// to this machine only"
        )
    if plain and backend.tls_pin:
        raise SettingsError(file, "backend.tls_pin", _shown(backend.tls_pin), "nothing with an http:// url")
    if call.warn_before_end_s >= call.max_call_s:
        raise SettingsError(
            file, "call.warn_before_end_s", f"{call.warn_before_end_s:g}", "less than call.max_call_s"
        )
    lines = (panel.call_line, panel.report_line, panel.lamp_line)
    if len(set(lines)) != len(lines):
        raise SettingsError(file, "panel.lamp_line", _shown(lines), "three different lines for the panel")
    if settings.security.intercom_keys and settings.security.intercom_key_file:
        raise SettingsError(
            file, "security.intercom_key_file", DOTS, "either a key file or intercom_keys, not both"
        )


def _with_key_file(settings: Settings, path: Path) -> Settings:
    """Read the intercom keys from the file that security.intercom_key_file names."""
    name = settings.security.intercom_key_file
    if not name:
        return settings
    key = "security.intercom_key_file"
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
    from_credentials = bool(credentials) and "/" not in name
    place = Path(credentials) / name if from_credentials else path.parent / name
    words = _read(place, str(path), key).split()
    try:
        keys = validators.many(validators.intercom_key, 2, least=1)(words)
    except Refused as refused:
        raise SettingsError(str(path), key, _shown(name), f"a file with {refused}") from None
    return replace(settings, security=replace(settings.security, intercom_keys=keys))


def _read(place: Path, file: str, key: str) -> str:
    """Read a small UTF-8 file; every way this can fail is a wrong setting."""
    try:
        with place.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        text = data.decode("utf-8-sig")  # Windows' Notepad puts a mark in front
    except OSError as error:
        raise SettingsError(file, key, error.strerror or "unreadable", "a readable file") from None
    except UnicodeDecodeError:
        raise SettingsError(file, key, "not UTF-8", "a text file in UTF-8") from None
    if len(data) > MAX_FILE_BYTES:
        raise SettingsError(file, key, "too large", f"at most {MAX_FILE_BYTES} bytes")
    return text


def _shown(value: object) -> str:
    """Write a value on one short line."""
    try:
        shown = repr(value) if not isinstance(value, str) else '"' + repr(value)[1:-1] + '"'
    except ValueError:  # Python refuses to write a number of thousands of digits
        return DOTS
    if "@" in shown or _LIKE_A_KEY.search(shown):  # user:password@host is a secret too
        return DOTS
    return shown if len(shown) <= MAX_SHOWN_VALUE else shown[: MAX_SHOWN_VALUE - 2] + "…" + shown[-1]


def _nearest(name: str, known: list[str]) -> str:
    """Say what could have been meant by an unknown name."""
    close = difflib.get_close_matches(name, known, n=1)
    return f'a known name; did you mean "{close[0]}"?' if close else "one of " + ", ".join(known)


def _place(message: str) -> str:
    """Keep "line 3, column 5" of a TOML error and drop the rest."""
    return message.rpartition("(at ")[2].rstrip(")") if "(at " in message else "the text"


def _as_toml(value: object) -> str:
    """Write a default as TOML; only the types the sections use."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Secret):
        return '""'
    if isinstance(value, tuple):
        return "[" + ", ".join(_as_toml(one) for one in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
