"""Everything a person can set: one frozen dataclass per section of voicemeet.toml.

One rule: nothing unchecked gets past this file; an unknown key is an error, and an error is one line
with file, key, value (secrets as dots) and what was expected.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from voicemeet_edge import validators
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.choices import IcePolicy, LampKind, Language, RelayProtocol
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.panel.header import header_number
from voicemeet_edge.panel.keypad import KeypadButton
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings_file import DOTS, option, parse_sections, parse_toml, read_text, render, shown
from voicemeet_edge.settings_slips import with_line
from voicemeet_edge.validators import Refused

IcePolicySetting = Literal["auto", "relay", "mdns", "direct"]
SoundCardKind = Literal["alsa", "virtual"]
EchoMethod = Literal["auto", "aec3", "half_duplex", "off"]
PanelFactory = Literal["gpiod", "lgpio", "mock", "terminal", "none"]
Pull = Literal["up", "down", "none"]
ReadyLamp = Literal["flash", "dim"]
Lamps = Literal["one", "two", "rgb"]
LogLevel = Literal["debug", "info", "warning", "error"]

CARD_FILE = Path("/boot/firmware/voicemeet.toml")  # where the units and the image look for it
PUBLIC_POOL = "public"  # the pool of strangers: no address may reach them unless somebody says so

_file_name = validators.text(r"[^\x00-\x1f]*", "the path of a file, or nothing")

_broker_text = validators.text(r"[^\x00-\x1f\x7f]*", "a text of one line")
_topic = validators.text(r"[A-Za-z0-9_-]{1,32}(/[A-Za-z0-9_-]{1,32}){0,3}", "words with / between, no + or #")


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
    pass_: Secret = option(
        Secret(""),
        validators.pass_text,
        "Pass for this pool and role (`voicemeet-edge pass` at the hub); none is needed in an open pool.",
        secret=True,
    )
    pass_file: str = option(
        "",
        _file_name,
        "File with the pass instead; a bare name is looked up among systemd's credentials.",
    )
    allow_plaintext: bool = option(
        False, validators.boolean, "Permit http:// to a host that is not this machine; for a lab only."
    )
    close_idle: bool = option(
        False,
        validators.boolean,
        "Close the signaling connection while nobody calls, where a backend counts connections.",
    )


@dataclass(frozen=True)
class CallSettings:
    """Whom to call and how long to try."""

    pool: str = option(
        PUBLIC_POOL,
        validators.pool_name,
        'Who can meet whom: "public" for strangers, or a name all devices of one building share.',
    )
    role: Role = option(
        Role.EITHER,
        validators.choice(Role),
        'What this device does in the pool: "either", "caller" or "answerer".',
    )
    name: str = option(
        "",
        validators.text(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,64}", "up to 64 characters on one line"),
        'What desks read when somebody calls here, such as "Side entrance"; only ever said in a closed pool, '
        "or sealed.",
    )
    reachable: bool = option(
        True,
        validators.boolean,
        "Let the desks of a closed pool call this device and speak here; the microphone opens only when "
        "somebody presses call.",
    )
    ring_timeout_s: float = option(45.0, validators.number(5, 300), "Seconds to ring before giving up.")
    connect_timeout_s: float = option(
        15.0, validators.number(3, 120), "Seconds for the two parties to reach each other."
    )
    nobody_timeout_s: float = option(
        30.0,
        validators.number(5, 300),
        "Seconds until a visitor of a closed pool is told that nobody comes; in line for a busy desk it is "
        "search_timeout_s.",
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
        validators.one_of(*get_args(IcePolicySetting)),
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
    turn_order: tuple[RelayProtocol, ...] = option(
        tuple(RelayProtocol),
        validators.many(validators.choice(RelayProtocol), 3, least=1),
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
        validators.one_of(*get_args(SoundCardKind)),
        '"alsa" for real sound, "virtual" for files.',
    )
    capture: str = option(
        "auto",
        validators.alsa_name,
        'Microphone: "auto", by card name ("plughw:CARD=Device"), by USB vendor and product '
        '("usb:0d8c:0014") or by USB port ("port:1-1.2"); `voicemeet-edge devices` lists them.',
    )
    playback: str = option("auto", validators.alsa_name, "Loudspeaker, in the same words.")
    volume: int = option(
        80, validators.integer(0, 100), "Loudness of the loudspeaker in per cent; holding call changes it."
    )
    night_volume: int = option(
        40, validators.integer(0, 100), "Loudness of all but calls in the hours of panel.night."
    )
    follow_noise: bool = option(
        False,
        validators.boolean,
        "In calls, play up to 10 dB louder when it is loud at the microphone; `status` shows both.",
    )
    microphone_gain_db: float = option(
        0.0, validators.number(-40, 40), "Gain of the microphone in dB, before echo cancelling."
    )
    echo: EchoMethod = option(
        "auto",
        validators.one_of(*get_args(EchoMethod)),
        'Against echo: "auto" takes the best there is.',
    )
    language: Language = option(
        Language.EN,
        validators.choice(Language),
        "What the device speaks: en, de, fr, es or it. In other languages than English it says the check "
        "words as numbers, which the desk shows beside them.",
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
    """Buttons, lamp and door release."""

    factory: PanelFactory = option(
        "gpiod",
        validators.one_of(*get_args(PanelFactory)),
        'What drives them: "gpiod" (any Linux), "lgpio" (Raspberry Pi OS), "terminal" (keys c, C, r, q), '
        '"mock", "none".',
    )
    call_line: str = option(
        "GPIO17", validators.gpio_line, 'Line of the call button, or its place on the header ("PIN11").'
    )
    report_line: str = option("GPIO27", validators.gpio_line, "Line of the report button.")
    lamps: Lamps = option(
        "one",
        validators.one_of(*get_args(Lamps)),
        '"one" lamp; "two": a red one for the open microphone alone and a second one for all else; "rgb".',
    )
    lamp_line: str = option(
        "GPIO22", validators.gpio_line, "Line of the lamp, or of the red one; high is light."
    )
    green_line: str = option(
        "GPIO23", validators.gpio_line, 'Line of the second lamp with "two", of green with "rgb".'
    )
    blue_line: str = option("GPIO24", validators.gpio_line, 'Line of blue with "rgb".')
    relay_line: str = option(
        "",
        validators.optional_gpio_line,
        'Line of a relay that opens the door, such as "GPIO16"; empty without one. Needs factory = "gpiod".',
    )
    relay_low: bool = option(
        False, validators.boolean, "The relay is drawn by a low line, not by a high one."
    )
    relay_s: float = option(
        3.0, validators.number(0.5, 30), "Seconds the door stays open; it lets go by itself, come what may."
    )
    tamper_line: str = option(
        "",
        validators.optional_gpio_line,
        "Line of a contact to ground that opens with the housing: then calls end, the intercom key is "
        "erased, and the device stays out of order until it is set up again. Empty without one.",
    )
    keypad: tuple[KeypadButton, ...] = option(
        (),
        validators.many(validators.keypad_button, 16),
        'More call buttons, each for a pool of its own: ["GPIO5 office", "GPIO6 workshop PASS"] are line, '
        "pool and, where the pool asks for one, its pass.",
        secret=True,
    )
    pull: Pull = option(
        "up",
        validators.one_of(*get_args(Pull)),
        '"up" for buttons to ground, "down" for buttons to 3.3 V, "none" for buttons to ground with '
        "resistors of their own.",
    )
    debounce_ms: int = option(20, validators.integer(0, 500), "Milliseconds a contact needs to settle.")
    hold_s: float = option(1.0, validators.number(0.3, 10), "Seconds after which a press is a hold.")
    factory_reset: bool = option(
        False,
        validators.boolean,
        "Both buttons held for ten seconds ask for a factory reset; docs/panel.md says what comes of it.",
    )
    ready_lamp: ReadyLamp = option(
        "flash",
        validators.one_of(*get_args(ReadyLamp)),
        'How the lamp says that the device is ready: "flash", each two seconds, or "dim", a steady glow that '
        "keeps the processor from sleeping.",
    )
    night_level: int = option(
        100,
        validators.integer(0, 100),
        "Brightness of the lamp in per cent, at night where `night` says when that is; an open microphone "
        "always shows in full.",
    )
    night: str = option(
        "",
        validators.hours,
        'When night_level and audio.night_volume count, such as "22:00-06:30"; empty: the first always, the '
        "second never.",
    )

    @property
    def lamp_lines(self) -> tuple[str, ...]:
        """The lines in use for light, red before green before blue."""
        count = {LampKind.ONE: 1, LampKind.TWO: 2, LampKind.RGB: 3}[LampKind(self.lamps)]
        return (self.lamp_line, self.green_line, self.blue_line)[:count]


@dataclass(frozen=True)
class StatusSettings:
    """What can be learned of the device's health, and by whom. Nothing here is about calls or people."""

    name: str = option(
        "",
        validators.text(r"[^\x00-\x1f\x7f]{0,40}", "up to 40 characters on one line"),
        'What the device calls itself to its operator, such as "Gate 3".',
    )
    fleet: bool = option(
        False,
        validators.boolean,
        "Tell the hub each quarter of an hour how the device is (name, version, faults, last self-test; "
        "nothing about calls), for its operator's page. Takes a pass.",
    )
    fleet_key: str = option(
        "",
        validators.fleet_key,
        "Seal what the hub is told for the operator who holds the other half of this key: the hub then keeps "
        "what it cannot read. The operator's page shows it.",
    )
    self_test_at: str = option(
        "03:30",
        validators.time_of_day,
        "When the device calls itself each day to see whether calls work, without a sound, and once after "
        "each start; empty for never.",
    )
    metrics: str = option(
        "",
        validators.loopback_endpoint,
        'Where Prometheus metrics are served on this machine, such as "127.0.0.1:9464"; nothing: nowhere. '
        "`voicemeet-edge status --metrics` prints them in any case.",
    )


@dataclass(frozen=True)
class UpdateSettings:
    """When the image takes a new version of the whole system; a package is updated by apt."""

    automatic: bool = option(
        True,
        validators.boolean,
        "Look each night, and take what is signed for this board. `voicemeet-edge update --postpone DAYS` "
        "lets it rest.",
    )
    url: str = option(
        "",
        validators.optional_url,
        "Folder on a web server with offer and bundle; nothing: the hub that backend.url names.",
    )


@dataclass(frozen=True)
class MqttSettings:
    """A broker that a home's automation listens to (docs/mqtt.md); nothing is told unless it is named."""

    broker: str = option(
        "",
        validators.broker_url,
        'Where it is: "mqtt://host:1883", "mqtts://host:8883" (certificate of an authority), or nothing.',
    )
    user: str = option("", _broker_text, "Name to sign in with; empty for none.")
    password: Secret = option(Secret(""), validators.secret, "Its password.", secret=True)
    topic: str = option("voicemeet", _topic, "First part of every topic.")
    discovery: str = option("homeassistant", _topic, "Where Home Assistant looks for new devices.")
    open_door: bool = option(
        False,
        validators.boolean,
        "Let whoever may write to the broker open the door; needs panel.relay_line.",
    )


@dataclass(frozen=True)
class LogSettings:
    """What is written down."""

    level: LogLevel = option(
        "info",
        validators.one_of(*get_args(LogLevel)),
        '"info" names no address, key or call; "debug" may, and belongs on a test bench only.',
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
    status: StatusSettings = StatusSettings()
    update: UpdateSettings = UpdateSettings()
    mqtt: MqttSettings = MqttSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def load(cls, path: Path | str) -> Settings:
        """Read, check and complete the settings of a device that is to run.

        Raises:
            SettingsError: the file cannot be used, or a value every device needs is missing.
        """
        path = Path(path)
        settings = cls.parse(read_text(path, edited(path), "(file)"), file=edited(path))
        settings = _with_pass_file(_with_key_file(settings, path), path)
        if not settings.backend.apikey:
            raise SettingsError(edited(path), "backend.apikey", "(empty)", "the key the hub printed")
        return settings

    @classmethod
    def parse(cls, text: str, *, file: str = "voicemeet.toml") -> Settings:
        """Check the text of a settings file; `file` only names it in errors."""
        try:
            return cls.from_dict(parse_toml(text, file), file=file)
        except SettingsError as error:
            raise with_line(error, text) from None

    @classmethod
    def from_dict(cls, table: Mapping[str, object], *, file: str = "voicemeet.toml") -> Settings:
        """Check sections given as nested mappings; what is missing takes its default."""
        settings = cls(**parse_sections(table, _SECTIONS, file))
        _check_together(settings, file)
        return settings

    @property
    def ice_policy_for_pool(self) -> IcePolicy:
        """The policy in force: "auto" hides our address from strangers and from nobody else."""
        if self.ice.policy != "auto":
            return IcePolicy(self.ice.policy)
        return IcePolicy.RELAY if self.call.pool == PUBLIC_POOL else IcePolicy.DIRECT


_SECTIONS: dict[str, type[Any]] = {
    "backend": BackendSettings,
    "call": CallSettings,
    "ice": IceSettings,
    "security": SecuritySettings,
    "audio": AudioSettings,
    "panel": PanelSettings,
    "status": StatusSettings,
    "update": UpdateSettings,
    "mqtt": MqttSettings,
    "log": LogSettings,
}


def edited(path: Path) -> str:
    """Name the file a person edits: under systemd the device reads a copy of it below /run."""
    is_copy = path.is_relative_to("/run") and path.name == CARD_FILE.name
    return str(CARD_FILE if is_copy else path)


def render_template() -> str:
    """Write the commented settings file with every default; firmware/voicemeet.toml is its output."""
    return (
        "# VoiceMeet Edge: the settings of one device. Check them with: voicemeet-edge check --config FILE\n"
        "# Every key stands here with its default; a key that is left out has that default too.\n"
        + render(_SECTIONS, commented=False)
    )


def _check_together(settings: Settings, file: str) -> None:
    """Refuse values that are right alone and wrong together."""
    backend, call, panel = settings.backend, settings.call, settings.panel
    plain = backend.url.lower().startswith("http:")
    if plain and not backend.allow_plaintext and not validators.is_loopback_url(backend.url):
        raise SettingsError(
            file, "backend.url", shown(backend.url), "https://, or http:// to this machine only"
        )
    if plain and backend.tls_pin:
        raise SettingsError(
            file, "backend.tls_pin", shown(backend.tls_pin), "nothing with an http:// url: is it https://?"
        )
    if call.warn_before_end_s >= call.max_call_s:
        raise SettingsError(
            file, "call.warn_before_end_s", f"{call.warn_before_end_s:g}", "less than call.max_call_s"
        )
    lines = (panel.call_line, panel.report_line, *panel.lamp_lines)
    if panel.relay_line:
        lines = (*lines, panel.relay_line)
        if panel.factory != "gpiod":
            raise SettingsError(
                file, "panel.relay_line", shown(panel.relay_line), 'nothing, or panel.factory = "gpiod"'
            )
    lines = (*lines, *(button.line for button in panel.keypad), *filter(None, [panel.tamper_line]))
    if panel.keypad and call.role is Role.ANSWERER:
        raise SettingsError(file, "panel.keypad", DOTS, 'nothing where call.role is "answerer"')
    numbers = [header_number(line) for line in lines]  # PIN11 and GPIO17 are one line
    places = [line if number is None else number for line, number in zip(lines, numbers, strict=True)]
    sharing = [line for line, place in zip(lines, places, strict=True) if places.count(place) > 1]
    if sharing:
        raise SettingsError(
            file,
            "panel.lamp_line",
            shown(lines),
            "a line of its own for each button, lamp, relay and contact; these share one: "
            + ", ".join(sharing),
        )
    if backend.pass_ and backend.pass_file:
        raise SettingsError(file, "backend.pass_file", DOTS, "either a pass file or a pass, not both")
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
    words = read_text(_place_of(name, path), edited(path), key).split()
    try:
        keys = validators.many(validators.intercom_key, 2, least=1)(words)
    except Refused as refused:
        raise SettingsError(edited(path), key, shown(name), f"a file with {refused}") from None
    return replace(settings, security=replace(settings.security, intercom_keys=keys))


def _with_pass_file(settings: Settings, path: Path) -> Settings:
    """Read the pass from the file that backend.pass_file names."""
    name = settings.backend.pass_file
    if not name:
        return settings
    text = read_text(_place_of(name, path), edited(path), "backend.pass_file").strip()
    try:
        given = validators.pass_text(text)
        if not given:
            raise Refused("a pass in it")
    except Refused as refused:
        raise SettingsError(
            edited(path), "backend.pass_file", shown(name), f"a file with {refused}"
        ) from None
    return replace(settings, backend=replace(settings.backend, pass_=given))


def _place_of(name: str, path: Path) -> Path:
    """Return where a file named in the settings is: among systemd's credentials, or beside the settings."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if credentials and "/" not in name:
        return Path(credentials) / name
    return path.parent / name


if __name__ == "__main__":
    (Path(__file__).parent.parent / "firmware" / "voicemeet.toml").write_text(render_template())
