"""The ring rule of docs/architecture.md, read from the imports: they only point inwards.

Pure logic imports neither input and output nor adapters; adapters of one folder know those of another
only where the table below says so; nothing but the app and the demo knows the app.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from enum import Enum
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "voicemeet_edge"


class Ring(Enum):
    PURE = "pure"
    ADAPTER = "adapter"
    APP = "app"


# Modules without the package's name; a star stands for any module of the folder. What is not named here
# is an adapter, so that a new module is free to do input and output until somebody promises otherwise.
PURE = (
    "choices",
    "errors",
    "fleet_seal",
    "loudness",
    "secret",
    "not_connected",
    "reasons",
    "records",
    "settings",
    "settings_file",
    "settings_slips",
    "validators",
    "audio.ambient",
    "audio.card",
    "audio.choice",
    "audio.chirp",
    "audio.events",
    "audio.likeness",
    "audio.mixer",
    "audio.playback_clock",
    "audio.tones",
    "backend.admission",
    "backend.fields",
    "backend.ice_server",
    "backend.verbs",
    "call.actions",
    "call.commands",
    "call.conversation",
    "call.diagram",
    "call.door_label",
    "call.door_lock",
    "call.faults",
    "call.in_order",
    "call.keys",
    "call.liveness",
    "call.machine",
    "call.negotiation",
    "call.observed",
    "call.outbox",
    "call.renewal",
    "call.ring",
    "call.search_plan",
    "call.signs",
    "call.wordlist",
    "call.words",
    "hub.realtime.authorizer",
    "hub.admission",
    "hub.calls",
    "hub.clock",
    "hub.connections",
    "hub.figures",
    "hub.fleet",
    "hub.limits",
    "hub.matching",
    "hub.realtime.options",
    "hub.passes",
    "hub.refusal",
    "hub.ringing",
    "hub.risk",
    "hub.turn.provider",
    "mqtt.entities",
    "panel.colours",
    "panel.header",
    "provision.enrolment",
    "provision.network",
    "provision.plan",
    "provision.toml_text",
    "panel.interface",
    "panel.keypad",
    "panel.press",
    "panel.reset",
    "signaling.channel",
    "signaling.frames",
    "signaling.heartbeat",
    "signaling.messages",
    "signaling.reconnect",
    "signaling.replay",
    "signaling.sealed",
    "system.board",
    "system.findings",
    "system.life",
    "system.reload",
    "system.snapshot",
    "update.choice",
    "update.history",
    "update.offer",
    "update.rollout",
    "update.stage",
    "update.trial",
    "update.version",
    "voice.*",
    "webrtc.candidates",
    "webrtc.events",
    "webrtc.ice_server",
    "webrtc.options",
    "webrtc.rtp",
    "webrtc.sdp",
)
APP = (
    "__main__",
    "app",
    "build",
    "call_maker",
    "cli",
    "cli_common",
    "cli_fleet",
    "cli_hub",
    "cli_office",
    "daemon",
    "hub.daemon",
    "doctor",
    "echo_call",
    "enrolled",
    "levels",
    "speech",
    "health_report",
    "self_test",
    "reset_done",
    "telling",
)

FORBIDDEN_FOR_PURE = {
    "aiohttp",
    "aioice",
    "aiortc",
    "alsaaudio",
    "anyio",
    "asyncio",
    "concurrent",
    "gpiod",
    "gpiozero",
    "http",
    "lgpio",
    "multiprocessing",
    "select",
    "selectors",
    "signal",
    "socket",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "systemd",
    "termios",
    "threading",
    "websockets",
}

# Pure, and told by two threads: a lock does no input or output, and tells no time.
MAY_LOCK = {"voice.control"}

# Which folder's adapters may use which other folder's. Everybody may use what is pure.
MAY_USE = {
    "call": {"backend", "signaling", "webrtc"},  # session.py is one call: channel, messages and peer
    "demo": {"audio", "backend", "call", "hub", "panel", "signaling", "system", "testing", "webrtc"},
    "hosted": {"backend", "signaling"},  # verify.py is two devices that only look
    "hub": {"backend"},  # tls.py prints the pin that backend/pin.py checks
    "update": {"backend", "system"},  # the hub's pin, and the running device's status
    "testing": {"audio", "backend", "call", "hub", "panel", "signaling", "system", "webrtc"},
}
# Adapters for all: sentences, what is loaded late, time limits, threads and what wakes them, and how the
# network is reached.
FOR_ALL_ADAPTERS = {"languages", "lazy_modules", "net", "threads", "timeouts", "timers", "wake"}
MAY_USE_THE_APP = {"demo", "testing"}

FILES = sorted((ROOT / PACKAGE).rglob("*.py"))


def module_name(file: Path) -> str:
    """Name a file as an import does, without the package's name; the package itself is ""."""
    parts = file.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def ring(module: str) -> Ring:
    """Classify one of our modules; a package's own file is as pure as it is empty."""
    if module in APP:
        return Ring.APP
    return Ring.PURE if any(fnmatch(module, pattern) for pattern in PURE) else Ring.ADAPTER


def folder(module: str) -> str:
    return module.partition(".")[0]


@cache
def imports(file: Path) -> tuple[str, ...]:
    return tuple(read_imports(file))


def read_imports(file: Path) -> Iterator[str]:
    """Yield the full name of every module a file imports, wherever in the file."""
    here = [PACKAGE, *file.relative_to(ROOT / PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                is_module = inner.removeprefix(PACKAGE + ".") in MODULES
                yield inner if is_module else origin


def ours(imported: str) -> str | None:
    """Strip the package's name from an import of our own; None for others'."""
    if imported == PACKAGE or imported.startswith(PACKAGE + "."):
        return imported[len(PACKAGE) + 1 :]
    return None


def violations(module: str, imported: str) -> Iterator[str]:
    """Say what is wrong with one import."""
    target = ours(imported)
    if target is None:
        forbidden = FORBIDDEN_FOR_PURE - ({"threading"} if module in MAY_LOCK else set())
        if ring(module) is Ring.PURE and imported.partition(".")[0] in forbidden:
            yield f"{module} is pure and imports {imported}"
        return
    # An __init__ is imported with anything behind it; what it imports itself is checked on its own.
    if target == "" or MODULES.get(target, ROOT).name == "__init__.py":
        return
    if ring(module) is Ring.PURE and ring(target) is not Ring.PURE:
        yield f"{module} is pure and imports the {ring(target).value} {target}"
    if ring(target) is Ring.APP and ring(module) is not Ring.APP and folder(module) not in MAY_USE_THE_APP:
        yield f"{module} imports the app ({target})"
    both_adapters = ring(module) is Ring.ADAPTER and ring(target) is Ring.ADAPTER
    allowed = {folder(module)} | MAY_USE.get(folder(module), set()) | FOR_ALL_ADAPTERS
    if both_adapters and folder(target) not in allowed:
        yield f"{module} imports {target}, an adapter of another folder"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_inwards(module: str) -> None:
    found = [one for name in imports(MODULES[module]) for one in violations(module, name)]
    assert found == []


@pytest.mark.parametrize("pattern", PURE)
def test_what_is_promised_to_be_pure_exists(pattern: str) -> None:
    assert any(fnmatch(module, pattern) for module in MODULES), f"{pattern} matches no module"


@pytest.mark.parametrize(
    ("module", "imported", "is_wrong"),
    [
        ("errors", "asyncio", True),
        ("voice.anything", "concurrent.futures", True),
        ("voice.anything", "numpy", False),
        ("errors", "voicemeet_edge.panel.buttons", True),
        ("errors", "voicemeet_edge.secret", False),
        ("settings", "voicemeet_edge.app", True),
        ("panel.buttons", "voicemeet_edge.settings", False),
        ("panel.buttons", "asyncio", False),
        ("panel.buttons", "voicemeet_edge.panel.lamp", False),
        ("panel.buttons", "voicemeet_edge.system.notify", True),
        ("panel.buttons", "voicemeet_edge.app", True),
        ("panel.buttons", "voicemeet_edge.timeouts", False),
        ("panel.press", "voicemeet_edge.timeouts", True),
        ("testing.panel", "voicemeet_edge.panel.queue", False),
        ("app", "voicemeet_edge.panel.buttons", False),
    ],
)
def test_the_rule_itself(module: str, imported: str, is_wrong: bool) -> None:
    assert bool(list(violations(module, imported))) == is_wrong


def test_the_panels_imports_are_read_as_they_stand() -> None:
    found = set(imports(MODULES["panel.queue"]))
    assert {"asyncio", "collections", "voicemeet_edge.panel.interface"} <= found
