"""Fuzz target of both settings files.

Accept list: `SettingsError`, in one line of text that shows no secret.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.settings import hub_settings_from
from voicemeet_edge.settings import Settings, render_template

KEY = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U"  # 43 characters, as an intercom key has
APIKEY = "an-apikey-that-nobody-may-read-in-a-log"


def fuzz_one(data: bytes) -> None:
    """Read one file as the device would, and as the hub would."""
    text = data.decode(errors="replace")
    try:
        Settings.parse(text)
    except SettingsError as error:
        _check(error)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError):
        return
    try:
        hub_settings_from(document)
    except SettingsError as error:
        _check(error, secrets=())


def _check(error: SettingsError, secrets: tuple[str, ...] = (KEY, APIKEY)) -> None:
    line = str(error)
    assert "\n" not in line, "an error of several lines"
    assert not any(secret in line for secret in secrets), "an error that shows a secret"


_FIRMWARE = Path(__file__).parents[2] / "firmware"
_DEVICE = f"""[backend]
url = "https://hub.example"
apikey = "{APIKEY}"
tls_pin = ""
[call]
pool = "desk"
role = "caller"
ring_timeout_s = 45.0
[ice]
policy = "relay"
addresses = ["192.0.2.1"]
ipv6 = true
turn_order = ["udp"]
[security]
intercom_keys = ["{KEY}"]
[audio]
volume = 80
capture = "default"
[panel]
call_line = "GPIO17"
hold_s = 1.0
[log]
level = "info"
"""
_HUB = """state_dir = "/var/lib/x"
[http]
listen = ["127.0.0.1"]
port = 8443
tls = "off"
[match]
pools = ["a"]
[turn]
provider = "coturn"
allowed_peers = ["192.168.1.0/24"]
min_port = 50000
[risk]
half_life_s = 1
[limits]
address_per_s = 1e3
"""
SEEDS = (
    _DEVICE.encode(),
    _HUB.encode(),
    render_template().encode(),
    (_FIRMWARE / "hub.toml").read_bytes(),
)
TOKENS = (
    *(
        b"[call]\n",
        b"[[call]]\n",
        b"[call.x]\n",
        b"inf",
        b"nan",
        b"1979-05-27",
        b"1_000",
        b"0x7fffffffffffffff",
    ),
    *(
        b"''' '''",
        b'"""',
        b"= {}",
        b"= []",
        b'= [""]',
        b"true",
        b"1e400",
        b"-0.0",
        b'"::/0"',
        b'"300.0.0.0/1"',
    ),
)
