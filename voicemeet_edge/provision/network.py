"""Network, name and access of a system: read from our network.toml or from the Imager's rpi-preseed.toml.

Both are outside input: everything is checked, what is not understood is said, nothing of it is ever run.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import field

from voicemeet_edge.records import dataclass

MAX_BYTES = 65_536
MAX_KEYS = 16
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ZONE = re.compile(r"[A-Za-z_]+(/[A-Za-z0-9_+-]+){0,2}")
_SSH_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-ssh-ed25519@openssh\.com|"
    r"sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]{16,2000}={0,3}( [ -~]{0,200})?"
)


class WrongInput(ValueError):  # noqa: N818 - reads as a sentence: the card has wrong input
    """One sentence for a person: what is wrong, and what was expected."""


@dataclass(frozen=True)
class Wifi:
    """A network to join. `psk` is a pass phrase, or 64 hex digits, or "" for an open one."""

    ssid: str
    psk: str = field(repr=False)
    country: str = ""
    hidden: bool = False
    sae: bool = False


@dataclass(frozen=True)
class Fixed:
    """A fixed address of the Ethernet port."""

    address: str
    gateway: str = ""
    dns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wishes:
    """What the card asks for; None or empty: nothing."""

    wifi: Wifi | None = None
    fixed: Fixed | None = None
    hostname: str = ""
    timezone: str = ""
    ssh_keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def parse_network(text: str) -> Wishes:
    """Read network.toml.

    Raises:
        WrongInput: with the section and key, and what was expected.
    """
    table = _table(text, "network.toml")
    for section in table.keys() - {"wifi", "ethernet", "system"}:
        raise WrongInput(f"network.toml: [{section[:40]}]: expected [wifi], [ethernet] or [system]")
    return Wishes(
        wifi=_wifi(_section(table, "wifi", "network.toml"), "network.toml: wifi"),
        fixed=_fixed(_section(table, "ethernet", "network.toml"), "network.toml: ethernet"),
        hostname=_hostname(_section(table, "system", "network.toml"), "network.toml: system"),
        timezone=_timezone(_section(table, "system", "network.toml"), "network.toml: system"),
    )


def parse_preseed(text: str) -> Wishes:
    """Read rpi-preseed.toml as the Raspberry Pi Imager writes it; what has no meaning here is noted.

    Raises:
        WrongInput: with the section and key, and what was expected.
    """
    name = "rpi-preseed.toml"
    table = _table(text, name)
    known = {"config_version", "system", "ssh", "wlan", "ethernet", "locale"}
    notes = []
    if "user" in table:
        notes.append("[user] has no meaning here: there are no passwords; access is by SSH key, as root")
    ignored = sorted(table.keys() - known - {"user"})
    if ignored:
        notes.append(f"{', '.join(word[:30] for word in ignored[:8])}: has no meaning here")
    ssh = _section(table, "ssh", name)
    keys: tuple[str, ...] = ()
    if ssh.get("enabled", True):
        keys = parse_keys("\n".join(_texts(ssh.get("authorized_keys", []), f"{name}: ssh.authorized_keys")))
        if ssh.get("enabled") and not keys:
            notes.append("SSH stays off: it needs a key, passwords are never accepted")
    wlan = dict(_section(table, "wlan", name))
    wlan.pop("password_encrypted", None)  # 64 hex digits say so themselves
    sae = wlan.pop("key_mgmt", "") == "sae"
    wifi = _wifi(wlan, f"{name}: wlan", sae=sae)
    ethernet = dict(_section(table, "ethernet", name))
    ethernet.pop("interface", None)
    fixed = _fixed(ethernet, f"{name}: ethernet") if ethernet.pop("method", "dhcp") == "static" else None
    return Wishes(
        wifi=wifi,
        fixed=fixed,
        hostname=_hostname(_section(table, "system", name), f"{name}: system"),
        timezone=_timezone(_section(table, "locale", name), f"{name}: locale"),
        ssh_keys=keys,
        notes=tuple(notes),
    )


def parse_keys(text: str) -> tuple[str, ...]:
    """Read SSH public keys, one a line; options before a key are refused.

    Raises:
        WrongInput: a line is no public key.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for number, line in enumerate(lines, 1):
        if "PRIVATE KEY" in line:
            raise WrongInput("authorized_keys: this is a private key; keep it, and put the public one here")
        if not _SSH_KEY.fullmatch(line):
            raise WrongInput(f"authorized_keys: line {number} is no SSH public key (ssh-ed25519 AAAA…)")
    if len(lines) > MAX_KEYS:
        raise WrongInput(f"authorized_keys: {len(lines)} keys; {MAX_KEYS} at most")
    return tuple(lines)


def wpa_supplicant(wifi: Wifi, country: str = "") -> str:
    """Write the configuration of wpa_supplicant; the pass phrase becomes the key it stands for."""
    lines = ["ctrl_interface=DIR=/run/wpa_supplicant", "update_config=0"]
    if wifi.country or country:
        lines.append(f"country={wifi.country or country}")
    lines += [
        "network={",
        f"    ssid={wifi.ssid.encode().hex()}",
    ]  # unquoted: hex, so no quoting to get wrong
    if wifi.hidden:
        lines.append("    scan_ssid=1")
    if not wifi.psk:
        lines.append("    key_mgmt=NONE")
    elif wifi.sae:
        lines += ["    key_mgmt=SAE WPA-PSK WPA-PSK-SHA256", "    ieee80211w=1", f"    psk={_psk(wifi)}"]
        if not _is_hex_key(wifi.psk):  # SAE needs the words themselves
            lines.append(f'    sae_password="{wifi.psk}"')
    else:
        lines += ["    key_mgmt=WPA-PSK WPA-PSK-SHA256", "    ieee80211w=1", f"    psk={_psk(wifi)}"]
    return "\n".join([*lines, "}", ""])


def networkd(fixed: Fixed) -> str:
    """Write the .network file of a fixed address."""
    lines = ["[Match]", "Name=e*", "", "[Network]", f"Address={fixed.address}", "LLMNR=no", "MulticastDNS=no"]
    if fixed.gateway:
        lines.append(f"Gateway={fixed.gateway}")
    lines += [f"DNS={server}" for server in fixed.dns]
    return "\n".join(lines) + "\n"


def _psk(wifi: Wifi) -> str:
    """Derive the key from the pass phrase (IEEE 802.11-2020, J.4)."""
    if _is_hex_key(wifi.psk):
        return wifi.psk.lower()
    return hashlib.pbkdf2_hmac("sha1", wifi.psk.encode(), wifi.ssid.encode(), 4096, 32).hex()


def _is_hex_key(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{64}", text) is not None


def _table(text: str, name: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        raise WrongInput(f"{name} is not valid TOML; compare it with the example beside it") from None


def _section(table: Mapping[str, object], name: str, file: str) -> Mapping[str, object]:
    values = table.get(name, {})
    if not isinstance(values, Mapping):
        raise WrongInput(f"{file}: {name}: expected a section [{name}]")
    return values


def _text(values: Mapping[str, object], key: str, place: str) -> str:
    value = values.get(key, "")
    if not isinstance(value, str) or len(value) > 200 or any(ord(letter) < 32 for letter in value):
        raise WrongInput(f"{place}.{key}: expected one line of text")
    return value


def _texts(value: object, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise WrongInput(f"{place}: expected a list of texts")
    return [str(one) for one in value]


def _known(values: Mapping[str, object], known: set[str], place: str) -> None:
    for key in values.keys() - known:
        raise WrongInput(f"{place}.{key[:40]}: expected one of {', '.join(sorted(known))}")


def _wifi(values: Mapping[str, object], place: str, *, sae: bool = False) -> Wifi | None:
    _known(values, {"ssid", "password", "country", "hidden"}, place)
    ssid, psk, country = (_text(values, key, place) for key in ("ssid", "password", "country"))
    if not ssid:
        return None
    if len(ssid.encode()) > 32:
        raise WrongInput(f"{place}.ssid: expected at most 32 bytes")
    if psk and not _is_hex_key(psk) and not (8 <= len(psk) <= 63 and psk.isascii() and '"' not in psk):
        raise WrongInput(f"{place}.password: expected 8 to 63 letters of ASCII, or 64 hex digits")
    if country and re.fullmatch(r"[A-Z]{2}", country) is None:
        raise WrongInput(f'{place}.country: expected two capitals, such as "DE"')
    hidden = values.get("hidden", False)
    if not isinstance(hidden, bool):
        raise WrongInput(f"{place}.hidden: expected true or false")
    return Wifi(ssid, psk, country, hidden, sae)


def _fixed(values: Mapping[str, object], place: str) -> Fixed | None:
    _known(values, {"address", "gateway", "dns", "method"}, place)
    address = _text(values, "address", place)
    if not address:
        return None
    gateway = _text(values, "gateway", place)
    dns = _texts(values.get("dns", []), f"{place}.dns")
    try:
        ipaddress.ip_interface(address)
        for one in [gateway, *dns]:
            if one:
                ipaddress.ip_address(one)
    except ValueError:
        raise WrongInput(f'{place}: expected addresses, such as address = "192.0.2.10/24"') from None
    if "/" not in address:
        raise WrongInput(f"{place}.address: expected the prefix too, such as 192.0.2.10/24")
    return Fixed(address, gateway, tuple(dns[:4]))


def _hostname(values: Mapping[str, object], place: str) -> str:
    name = _text(values, "hostname", place).lower().removesuffix(".local")
    if name and not _HOST.fullmatch(name):
        raise WrongInput(f"{place}.hostname: expected small letters, digits and - inside")
    return name


def _timezone(values: Mapping[str, object], place: str) -> str:
    zone = _text(values, "timezone", place)
    if zone and not _ZONE.fullmatch(zone):
        raise WrongInput(f'{place}.timezone: expected a name such as "Europe/Berlin"')
    return zone
