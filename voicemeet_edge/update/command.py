"""`voicemeet-edge update`: what a person, the nightly timer and the start of the system ask for."""

from __future__ import annotations

import argparse
import configparser
from pathlib import Path

from voicemeet_edge import __version__
from voicemeet_edge.errors import LocalError, SettingsError
from voicemeet_edge.settings import Settings
from voicemeet_edge.update.evidence import Evidence
from voicemeet_edge.update.keeper import Keeper, World, restart_machine
from voicemeet_edge.update.memory import RUN, Memory
from voicemeet_edge.update.server import UpdateServer
from voicemeet_edge.update.slots import Slots

RELEASE = Path("/usr/lib/voicemeet/release")
FOLDER = "/updates"  # of a hub


def release() -> dict[str, str]:
    """Return what the image says of itself; empty where there is none."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string("[release]\n" + RELEASE.read_text(encoding="utf-8"))
    except (OSError, configparser.Error):
        return {}
    return {key: value.strip('"') for key, value in parser["release"].items()}


def work(options: argparse.Namespace) -> int:
    """Do what was asked; the exit status of the command."""
    memory = Memory()
    if options.history:
        _say(_told(memory))
        return 0
    evidence = Evidence(has_device=release().get("role") != "hub")
    world = World(evidence.is_idle, evidence.look, restart_machine, _say)
    keeper = Keeper(memory, Slots(RUN), __version__, world)
    if options.prove:
        return 0 if keeper.prove(options.limit) else 1
    if options.postpone is not None:
        keeper.postpone(options.postpone)
        return 0
    with memory.alone():
        _update(keeper, options)
    return 0


def _update(keeper: Keeper, options: argparse.Namespace) -> None:
    if options.switch:
        keeper.switch()
    elif options.source and "://" in options.source:
        keeper.from_url(options.source, pin=options.pin, force=options.force)
    elif options.source:
        if not Path(options.source).is_file():
            raise LocalError(f"{options.source}: there is no such file", code="no_file")
        keeper.from_file(Path(options.source).resolve(), force=options.force)
    else:
        settings = _settings(options.config)
        if options.automatic and not settings.update.automatic:
            _say("[update] automatic = false: nothing is done by itself.")
            return
        keeper.by_itself(_server(settings))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command speaks to who typed it, and to the journal


def _settings(path: Path) -> Settings:
    try:
        return Settings.load(path)
    except SettingsError:
        if release().get("role") == "hub":
            return Settings()
        raise


def _server(settings: Settings) -> UpdateServer:
    backend = settings.backend
    if settings.update.url:
        return UpdateServer(settings.update.url)
    return UpdateServer(
        backend.url + FOLDER, pin=backend.tls_pin, apikey=backend.apikey, shown_pass=backend.pass_
    )


def _told(memory: Memory) -> str:
    history, slot = memory.load(), memory.slot()
    lines = [f"Version {__version__} runs, from slot {slot}."]
    if history.trial is not None:
        lines.append(f"Version {history.trial.version} in slot {history.trial.slot} has yet to prove itself.")
    if history.last:
        lines.append(history.last)
    lines += [f"Version {one.version} failed here {one.tries} times: {one.why}." for one in history.failed]
    if until := release().get("support_until", ""):
        lines.append(f"Security updates until {until}.")
    return "\n".join(lines)
