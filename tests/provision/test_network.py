"""Network, name and access, as two files on the card say them."""

from __future__ import annotations

import pytest

from voicemeet_edge.provision.network import (
    Fixed,
    Wifi,
    Wishes,
    WrongInput,
    networkd,
    parse_keys,
    parse_network,
    parse_preseed,
    wpa_supplicant,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBfjF2GzAnYEc5FS0zHnWlZdZWj5aCvuXqmH2bLnDQvN me@desk"


def test_everything_that_can_be_said_is_read() -> None:
    wishes = parse_network("""
[wifi]
ssid = "Cellar"
password = "long enough"
country = "DE"
hidden = true
[ethernet]
address = "192.0.2.10/24"
gateway = "192.0.2.1"
dns = ["192.0.2.1", "2001:db8::1"]
[system]
hostname = "Lobby.local"
timezone = "Europe/Berlin"
""")
    assert wishes.wifi == Wifi("Cellar", "long enough", "DE", hidden=True)
    assert wishes.fixed == Fixed("192.0.2.10/24", "192.0.2.1", ("192.0.2.1", "2001:db8::1"))
    assert (wishes.hostname, wishes.timezone) == ("lobby", "Europe/Berlin")


def test_an_empty_file_asks_for_nothing() -> None:
    assert parse_network("") == Wishes()


def test_a_fixed_address_is_written_for_the_ethernet_port() -> None:
    lines = networkd(Fixed("192.0.2.10/24", "192.0.2.1", ("192.0.2.1", "2001:db8::1"))).splitlines()
    assert "Address=192.0.2.10/24" in lines
    assert "Gateway=192.0.2.1" in lines
    assert [line for line in lines if line.startswith("DNS=")] == ["DNS=192.0.2.1", "DNS=2001:db8::1"]
    assert not any(line.startswith("Gateway") for line in networkd(Fixed("192.0.2.10/24")).splitlines())


def test_a_networks_name_cannot_break_out_of_its_line() -> None:
    text = wpa_supplicant(Wifi('x"\n}', "long enough"))
    assert "ssid=" + b'x"\n}'.hex() in text
    assert text.count("}") == 1


def test_open_hidden_and_wpa3_networks() -> None:
    assert "key_mgmt=NONE" in wpa_supplicant(Wifi("x", ""))
    assert "scan_ssid=1" in wpa_supplicant(Wifi("x", "", hidden=True))
    assert "country=DE" in wpa_supplicant(Wifi("x", ""), "DE")
    assert "country=FR" in wpa_supplicant(Wifi("x", "", "FR"), "DE")
    assert 'sae_password="long enough"' in wpa_supplicant(Wifi("x", "long enough", sae=True))
    assert "sae_password" not in wpa_supplicant(Wifi("x", "0f" * 32, sae=True)), "a key is no phrase"


def test_a_wifi_phrase_becomes_the_key_it_stands_for() -> None:
    wishes = parse_network('[wifi]\nssid = "IEEE"\npassword = "password"\n')
    assert wishes.wifi is not None
    # IEEE 802.11-2020, J.4.2, the first test vector.
    assert "psk=f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e" in wpa_supplicant(
        wishes.wifi
    )
    assert "password" not in wpa_supplicant(wishes.wifi).replace("key_mgmt", "")


@pytest.mark.parametrize(
    "text",
    [
        '[wifi]\nssid = "x\\ny"\npassword = "password"',
        '[wifi]\nssid = "x"\npassword = "short"',
        '[wifi]\nssid = "x"\npassword = "quote\\"quote"',
        '[ethernet]\naddress = "192.0.2.1"',
        '[ethernet]\naddress = "192.0.2.1/24"\ngateway = "router\\nDNS=1"',
        '[system]\nhostname = "a b"',
        '[system]\ntimezone = "../../etc/shadow"',
        "[other]\nx = 1",
        "wifi = 3",
        "[wifi]\nssid = 3",
        "not toml",
    ],
)
def test_wrong_networks_are_refused(text: str) -> None:
    with pytest.raises(WrongInput):
        parse_network(text)


@pytest.mark.parametrize(
    "text",
    [
        'command="reboot" ' + KEY,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "ssh-ed25519",
        KEY + "\n" + "ssh-dss AAAAB3NzaC1kc3MAAACBAOe",
        "\n".join([KEY] * 17),
    ],
)
def test_only_plain_public_keys_are_taken(text: str) -> None:
    with pytest.raises(WrongInput):
        parse_keys(text)


def test_a_preseed_that_switches_ssh_off_brings_no_key() -> None:
    assert parse_preseed(f'[ssh]\nenabled = false\nauthorized_keys = ["{KEY}"]').ssh_keys == ()


def test_what_has_no_meaning_here_is_said() -> None:
    wishes = parse_preseed('[user]\nname = "pi"\n[ssh]\nenabled = true\n[runcmd]\nx = 1\n')
    assert len(wishes.notes) == 3
    assert any("no passwords" in note for note in wishes.notes)
    assert any("runcmd" in note for note in wishes.notes)
    assert any("needs a key" in note for note in wishes.notes)


def test_an_address_of_the_imager_counts_only_when_it_is_static() -> None:
    text = '[ethernet]\nmethod = "{}"\ninterface = "eth0"\naddress = "192.0.2.1/24"\n'
    assert parse_preseed(text.format("static")).fixed == Fixed("192.0.2.1/24")
    assert parse_preseed(text.format("dhcp")).fixed is None


def test_a_hidden_network_says_so_by_a_switch_only() -> None:
    for wrong in ('hidden = "yes"', 'country = "Germany"', f'ssid = "{"x" * 33}"', "speed = 1"):
        with pytest.raises(WrongInput):
            parse_network("[wifi]\n" + ("" if "ssid" in wrong else 'ssid = "x"\n') + wrong)
