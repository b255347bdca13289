"""Decide what to do with the files of the card: pure, so that every case can be tried without a card.

Told the files and what the device has kept, it answers with what to write into the device's own partition,
what to write back onto the card, and what to say. It is idempotent: after a power cut in between, the same
files lead to the same answer.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import field, fields

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.provision import network
from voicemeet_edge.provision.network import Wishes, WrongInput
from voicemeet_edge.provision.toml_text import dump, with_kept, without_secrets
from voicemeet_edge.records import dataclass
from voicemeet_edge.settings import Settings
from voicemeet_edge.validators import Refused, intercom_key, pass_text, pin_digest

SETTINGS = "voicemeet.toml"
HUB_SETTINGS = "hub.toml"
NETWORK = "network.toml"
PRESEED = "rpi-preseed.toml"
KEYS = "authorized_keys"
FIRSTRUN = "firstrun.sh"
# One secret a file, for those who hand out cards: (name on the card, section, key, check).
ONE_LINERS: dict[str, tuple[str, str, Callable[[object], object]]] = {
    "tls_pin.txt": ("backend", "tls_pin", pin_digest),
    "pass.txt": ("backend", "pass", pass_text),
    "intercom_key.txt": ("security", "intercom_keys", intercom_key),
}
NAMES = (SETTINGS, HUB_SETTINGS, NETWORK, PRESEED, KEYS, FIRSTRUN, *ONE_LINERS)


def secret_keys() -> set[tuple[str, str]]:
    """Section and key of every secret setting, as the settings themselves declare it."""
    found = set()
    for section in fields(Settings):
        for one in fields(getattr(Settings(), section.name)):
            if one.metadata["secret"]:
                found.add((section.name, one.name.rstrip("_")))
    return found


@dataclass
class Plan:
    """What to do; paths are relative to the data partition, names are the card's."""

    writes: dict[str, str] = field(default_factory=dict)
    removes: list[str] = field(default_factory=list)  # on the card, after overwriting
    rewrites: dict[str, str] = field(default_factory=dict)  # on the card
    taken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def make_plan(
    files: Mapping[str, bytes],
    *,
    kept_settings: str | None,
    check_hub: Callable[[str], None] | None = None,
) -> Plan:
    """Decide. `kept_settings` is the device's present voicemeet.toml with its secrets, if there is one.

    `check_hub` raises SettingsError for a wrong hub.toml; None where there is no hub.
    """
    plan = Plan()
    texts = {}
    for name, data in files.items():
        try:
            texts[name] = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            plan.problems.append(f"{name}: expected plain text (UTF-8)")
    _settings(texts, plan, kept_settings)
    if HUB_SETTINGS in texts:
        _hub(texts[HUB_SETTINGS], plan, check_hub)
    for name, parse in ((PRESEED, network.parse_preseed), (NETWORK, network.parse_network)):
        if name in texts:
            _network(name, texts[name], parse, plan)
    if KEYS in texts:
        try:
            keys = network.parse_keys(texts[KEYS])
            plan.writes["ssh/authorized_keys"] = "".join(f"{key}\n" for key in keys)
            _taken(plan, KEYS)
        except WrongInput as wrong:
            plan.problems.append(str(wrong))
    if FIRSTRUN in texts:
        plan.removes.append(FIRSTRUN)
        plan.notes.append(
            "firstrun.sh of an older Raspberry Pi Imager was not run: use Imager 2 with our manifest, or "
            "network.toml"
        )
    return plan


def _taken(plan: Plan, name: str) -> None:
    plan.removes.append(name)
    plan.taken.append(name)


def _settings(texts: Mapping[str, str], plan: Plan, kept: str | None) -> None:
    """Join voicemeet.toml, what was kept of it, and the one-line files; take it if it is right."""
    single = [name for name in ONE_LINERS if name in texts]
    if SETTINGS not in texts and not single:
        return
    source = texts.get(SETTINGS, kept)
    if source is None:
        plan.problems.append(f"{', '.join(single)}: there is no {SETTINGS} to go with")
        return
    try:
        table = tomllib.loads(source)
    except (ValueError, RecursionError):
        table = {}
        if SETTINGS not in texts:
            return
    old = tomllib.loads(kept) if kept else {}
    full = with_kept(table, old, secret_keys())
    for name in single:
        section, key, check = ONE_LINERS[name]
        words = texts[name].split()
        try:
            if len(words) != 1:
                raise Refused("one word")
            check(words[0])
        except Refused as refused:
            plan.problems.append(f"{name}: expected {refused}")
            return
        values = full.setdefault(section, {})
        if isinstance(values, dict):
            values[key] = [words[0]] if key == "intercom_keys" else words[0]
    text = dump(full) if table else source
    try:
        checked = Settings.parse(text, file=SETTINGS)
        if not checked.backend.apikey:
            raise SettingsError(SETTINGS, "backend.apikey", "(empty)", "the key the hub printed")
    except SettingsError as error:
        plan.problems.append(str(error))
        if not _is_usable(kept):
            # The device then starts with it, refuses it too, and shows the error pattern on its own lamp.
            plan.writes[f"settings/{SETTINGS}"] = text
        return
    plan.writes[f"settings/{SETTINGS}"] = text
    for name in single:
        _taken(plan, name)
    if SETTINGS in texts:
        plan.rewrites[SETTINGS] = without_secrets(source, secret_keys())
        plan.taken.append(SETTINGS)


def _is_usable(text: str | None) -> bool:
    if text is None:
        return False
    try:
        return bool(Settings.parse(text).backend.apikey)
    except SettingsError:
        return False


def _hub(text: str, plan: Plan, check: Callable[[str], None] | None) -> None:
    if check is None:
        plan.notes.append("hub.toml: this is a device; its hub runs elsewhere")
        return
    try:
        check(text)
    except SettingsError as error:
        plan.problems.append(str(error))
        return
    plan.writes["hub/hub.toml"] = text
    plan.taken.append(HUB_SETTINGS)  # no secret in it: it stays on the card as it is


def _network(name: str, text: str, parse: Callable[[str], Wishes], plan: Plan) -> None:
    try:
        wishes = parse(text)
    except WrongInput as wrong:
        plan.problems.append(str(wrong))
        return
    if wishes.wifi is not None:
        plan.writes["network/wpa_supplicant.conf"] = network.wpa_supplicant(wishes.wifi)
    if wishes.fixed is not None:
        plan.writes["network/10-card.network"] = network.networkd(wishes.fixed)
    if wishes.hostname:
        plan.writes["etc/hostname"] = f"{wishes.hostname}\n"
    if wishes.timezone:
        plan.writes["etc/timezone"] = f"{wishes.timezone}\n"
    if wishes.ssh_keys:
        plan.writes["ssh/authorized_keys"] = "".join(f"{key}\n" for key in wishes.ssh_keys)
    plan.notes += [f"{name}: {note}" for note in wishes.notes]
    _taken(plan, name)
