"""The card's contract on a real FAT partition, in the booted image, after the other tests."""

from __future__ import annotations

import pytest

from tests.machine.qemu import Machine

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

RIGHT = """\
[backend]
url = "https://127.0.0.1:8443"
apikey = "secret-of-the-hub"
[call]
pool = "frontdesk"
"""


def put(name: str, text: str) -> str:
    """Put a file onto the card as a person with a card reader does, and let the next start's step run."""
    return f"""
        mount -o remount,rw /boot/card
        cat >/boot/card/{name} <<'END'
{text}
END
        sync; mount -o remount,ro /boot/card
        touch /run/voicemeet/card-changed
        systemctl restart voicemeet-provision.service
        cat /boot/card/voicemeet-status.txt
    """


def test_right_settings_are_taken_over_and_their_secret_leaves_the_card(machine: Machine) -> None:
    said = machine.run(
        "systemctl stop voicemeet-edge.service voicemeet-edge.path\n"
        + put("voicemeet.toml", RIGHT)
        + """
        echo "in settings: $(grep -c secret-of-the-hub /boot/firmware/voicemeet.toml)"
        echo "on the card: $(grep -c secret-of-the-hub /dev/vda1)"
        findmnt -no OPTIONS /boot/card | grep -ow ro
        """,
        check=False,
    ).output
    assert "Taken over:" in said
    assert "in settings: 1" in said
    assert "on the card: 0" in said
    assert said.split()[-1] == "ro"


def test_wrong_settings_are_refused_with_a_sentence_on_the_card(machine: Machine) -> None:
    said = machine.run(
        put("voicemeet.toml", RIGHT.replace("pool", "pol"))
        + "grep -c frontdesk /boot/firmware/voicemeet.toml"
    ).output
    assert "NOT TAKEN OVER:" in said
    assert "call.pol" in said
    assert said.split()[-1] == "1"


def test_ssh_is_off_until_a_key_comes_and_then_takes_nothing_else(machine: Machine) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBfjF2GzAnYEc5FS0zHnWlZdZWj5aCvuXqmH2bLnDQvN desk"
    said = machine.run(
        put("authorized_keys", key)
        + """
        test -e /boot/card/authorized_keys || echo gone
        systemctl start ssh.service; systemctl is-active ssh.service
        sshd -T | grep -E '^(passwordauthentication|permitrootlogin|hostkey) '
        systemctl stop ssh.service
        """,
        check=False,
    ).output
    assert "gone\nactive" in said
    for words in ("passwordauthentication no", "permitrootlogin without-password", "hostkey /data/ssh/"):
        assert words in said
