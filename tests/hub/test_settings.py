"""The hub's settings: the template says everything, a wrong value says which."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.settings import HubSettings, hub_settings_from, load_hub_settings, render_hub_template

TEMPLATE = Path(__file__).parents[2] / "firmware" / "hub.toml"

# What the template sets for a building; the defaults in code are for loopback.
CHOSEN = {"http.listen", "turn.provider", "turn.listen", "turn.relay_address"}


def uncommented() -> dict[str, object]:
    """Return the template with every commented-out key switched on."""
    text = re.sub(r"^#(\w+ = )", r"\1", TEMPLATE.read_text(), flags=re.MULTILINE)
    return tomllib.loads(text)


def test_the_template_is_written_from_the_settings() -> None:
    assert TEMPLATE.read_text() == render_hub_template()  # python -m voicemeet_edge.hub.settings


def test_template_loads_as_it_is() -> None:
    settings = load_hub_settings(TEMPLATE)
    assert settings.http.tls == "self-signed"
    assert settings.turn.provider == "coturn"


def test_template_names_every_key_with_its_default() -> None:
    document = uncommented()
    defaults = HubSettings(Path("x"))
    for section in dataclasses.fields(HubSettings):
        if section.name == "state_dir":
            continue
        table = document[section.name]
        assert isinstance(table, dict)
        fields = dataclasses.asdict(getattr(defaults, section.name))
        assert set(table) == set(fields), section.name
        for key, value in table.items():
            shown = tuple(value) if isinstance(value, list) else value
            if f"{section.name}.{key}" not in CHOSEN:
                assert shown == fields[key], f"{section.name}.{key}"


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({}, "state_dir"),
        ({"state_dir": 5}, "state_dir"),
        ({"state_dir": "s", "colour": 1}, "[colour]"),
        ({"state_dir": "s", "http": 5}, "http"),
        ({"state_dir": "s", "http": {"prot": 1}}, "http.prot"),
        ({"state_dir": "s", "http": {"port": "80"}}, "http.port"),
        ({"state_dir": "s", "http": {"port": True}}, "http.port"),
        ({"state_dir": "s", "http": {"port": 70_000}}, "http.port"),
        ({"state_dir": "s", "http": {"port": -1}}, "http.port"),
        ({"state_dir": "s", "http": {"listen": "127.0.0.1"}}, "http.listen"),
        ({"state_dir": "s", "http": {"listen": [1]}}, "http.listen"),
        ({"state_dir": "s", "http": {"listen": ["localhost"]}}, "http.listen"),
        ({"state_dir": "s", "http": {"listen": []}}, "http.listen"),
        ({"state_dir": "s", "http": {"tls": "maybe"}}, "http.tls"),
        ({"state_dir": "s", "http": {"tls": "files"}}, "http.certificate"),
        ({"state_dir": "s", "http": {"tls": "off", "listen": ["0.0.0.0"]}}, "http.tls"),
        ({"state_dir": "s", "match": {"pools": ["Front Desk"]}}, "match.pools"),
        ({"state_dir": "s", "call": {"token_ttl_s": 5}}, "call.token_ttl_s"),
        ({"state_dir": "s", "call": {"max_call_s": float("inf")}}, "call.max_call_s"),
        ({"state_dir": "s", "call": {"max_call_s": float("nan")}}, "call.max_call_s"),
        ({"state_dir": "s", "turn": {"provider": "magic"}}, "turn.provider"),
        (
            {"state_dir": "s", "turn": {"provider": "coturn", "relay_address": "::1"}},
            "turn.relay_address",
        ),
        ({"state_dir": "s", "turn": {"provider": "coturn", "tls_port": 443}}, "turn.tls_port"),
        ({"state_dir": "s", "turn": {"provider": "hmac"}}, "turn.secret_file"),
        ({"state_dir": "s", "turn": {"provider": "cloudflare"}}, "turn.cloudflare_key_id"),
        ({"state_dir": "s", "turn": {"allowed_peers": ["192.168.1.7/24"]}}, "turn.allowed_peers"),
        ({"state_dir": "s", "risk": {"refuse_at": 1.0}}, "risk.refuse_at"),
        ({"state_dir": "s", "limits": {"device_per_s": 0}}, "limits.device_per_s"),
    ],
)
def test_what_cannot_work_is_named(document: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        hub_settings_from(document)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("hub.toml: ")


def test_plain_http_is_for_loopback_proxies_and_closed_networks() -> None:
    for more in ({"trusted_proxies": ["10.0.0.1"]}, {"allow_plaintext": True}):
        hub_settings_from({"state_dir": "s", "http": {"tls": "off", "listen": ["0.0.0.0"], **more}})


@pytest.mark.parametrize("content", [b"\xff", b"state_dir = ", b"#" * 70_000])
def test_files_that_are_no_settings(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hub.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError):
        load_hub_settings(path)
    with pytest.raises(SettingsError):
        load_hub_settings(tmp_path / "missing.toml")
