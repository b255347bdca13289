"""The command line: parses, builds and runs, nothing more.

Exit status: 0 done · 1 it did not work, one line says why · 2 wrong words on the command line ·
78 (EX_CONFIG) a wrong setting, one line says file, key, value and what was expected.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voicemeet_edge import __version__
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.cli_common import (
    DEVICE_SETTINGS,
    HUB_SETTINGS,
    add_config,
    run_until_signal,
    text_of,
)
from voicemeet_edge.cli_fleet import add_fleet_verb
from voicemeet_edge.cli_hub import add_hosted_verbs, add_hub_verbs
from voicemeet_edge.cli_office import add_office_verbs
from voicemeet_edge.errors import LocalError, SettingsError, VoiceMeetError

EX_TEMPFAIL = 75  # sysexits.h: try again later
EX_CONFIG = 78  # sysexits.h: systemd must not restart what will fail again (RestartPreventExitStatus=)

CREDENTIAL = Path("/etc/credstore/intercom_key")  # where the unit's LoadCredential= finds it
STATUS_SOCKET = Path("/run/voicemeet-edge/status.sock")
LAMPS = [lamp.value for lamp in Lamp]

EPILOG = """\
first steps:
  voicemeet-edge demo                       hub, TURN server and a device on this machine
  voicemeet-edge hub --config hub.toml      run the server of a building
  voicemeet-edge enroll --name "Door 1"     at the hub: settings of one more door
  voicemeet-edge setup                      on a device: asks, and writes its settings
  voicemeet-edge devices                    which microphone and loudspeaker to name
  voicemeet-edge check --config FILE        is this settings file right?
  voicemeet-edge run --config FILE          run a door station or kiosk
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="voicemeet-edge",
        description="A hardware voice-call device: press call and talk, end-to-end encrypted.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"voicemeet-edge {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)

    _add_device_verbs(verbs)
    _add_device_tools(verbs)
    add_hub_verbs(verbs)
    add_hosted_verbs(verbs)
    _add_provision(verbs)
    add_office_verbs(verbs)
    add_fleet_verb(verbs)
    _add_update(verbs)
    _add_demo(verbs)
    return parser


if TYPE_CHECKING:
    from voicemeet_edge.cli_common import Verbs
    from voicemeet_edge.settings import Settings


def _add_device_verbs(verbs: Verbs) -> None:
    run = verbs.add_parser(
        "run", help="run a door station or kiosk", description="Run a door station or kiosk until stopped."
    )
    add_config(run, DEVICE_SETTINGS)
    run.set_defaults(call=_run)

    check = verbs.add_parser(
        "check",
        help="check a settings file",
        description="Check a settings file, a device's or a hub's; 78 and one line if it is wrong.",
    )
    add_config(check, DEVICE_SETTINGS)
    check.add_argument(
        "--connect",
        action="store_true",
        help="also try the way to the hub: name, port, clock, certificate, apikey, pass, pool, relay, a call "
        "of the device with itself. Nothing sounds, and the device may run. 1 if there is a fault",
    )
    check.set_defaults(call=_check)

    status = verbs.add_parser(
        "status",
        help="what the device is doing",
        description="Ask the device that runs on this machine what it is doing. Run it as root.",
    )
    how = status.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="go on, with each change")
    how.add_argument("--metrics", action="store_true", help="print Prometheus metrics")
    status.add_argument("--json", action="store_true", help="for programs: one JSON object a line")
    status.add_argument(
        "--socket", type=Path, default=STATUS_SOCKET, help=f"where it listens (default: {STATUS_SOCKET})"
    )
    status.set_defaults(call=_status)

    _add_self_test(verbs)

    doctor = verbs.add_parser(
        "doctor",
        help="try everything the device needs",
        description="Try settings, machine, network, backend, sound and panel, and say what to do about each "
        "failure. The loudspeaker chirps once. Stop the device first (systemctl stop voicemeet-edge), or its "
        "sound card is in use. 1 if there is a fault.",
    )
    add_config(doctor, DEVICE_SETTINGS)
    doctor.add_argument("--json", action="store_true", help="for programs: one JSON object at the end")
    doctor.set_defaults(call=_doctor)


def _add_self_test(verbs: Verbs) -> None:
    test = verbs.add_parser(
        "self-test",
        help="let the running device call itself",
        description="Let the device that runs on this machine call itself, through backend and relay, and "
        "say what came of it. Nobody hears anything. It does the same at each start and once a day. 0 when "
        "calls work, 1 when not or when no device runs, 75 while somebody uses it. Run it as root.",
    )
    test.add_argument("--json", action="store_true", help="for programs: one JSON object")
    test.add_argument(
        "--socket", type=Path, default=STATUS_SOCKET, help=f"where it listens (default: {STATUS_SOCKET})"
    )
    test.set_defaults(call=_self_test)


def _add_device_tools(verbs: Verbs) -> None:
    devices = verbs.add_parser("devices", help="list microphones and loudspeakers")
    devices.set_defaults(call=_devices)

    lamp = verbs.add_parser(
        "lamp",
        help="show a lamp pattern, to try the wiring",
        description="Show one pattern of the lamp until stopped (Ctrl-C). The device must not be running. "
        "Patterns: " + ", ".join(LAMPS) + ".",
    )
    add_config(lamp, DEVICE_SETTINGS)
    lamp.add_argument("pattern", choices=LAMPS, metavar="PATTERN")
    lamp.set_defaults(call=_lamp)

    _add_door(verbs)

    keygen = verbs.add_parser(
        "keygen",
        help="make an intercom key",
        description="Make a key that the ends of one building share, so that not even the hub can listen "
        "in. Put the text into security.intercom_keys of each device and scan or type it at the desk.",
    )
    keygen.add_argument(
        "--admission",
        metavar="POOL",
        help="make no key: read one from standard input and print what its hub may know of it, so that a "
        "stranger with a stolen pass is refused in this pool",
    )
    keygen.add_argument(
        "--fleet",
        action="store_true",
        help="make a fleet key instead: devices seal with one half what they tell of their health, and the "
        "operator opens it with the other",
    )
    keygen.add_argument("--text", action="store_true", help="print the text only, without the QR code")
    keygen.set_defaults(call=_keygen)


def _add_door(verbs: Verbs) -> None:
    door = verbs.add_parser(
        "door",
        help="open the door once, to try the wiring",
        description="Draw the relay of panel.relay_line for panel.relay_s seconds. The device may run.",
    )
    add_config(door, DEVICE_SETTINGS)
    door.add_argument(
        "--let-go",
        action="store_true",
        help="open nothing: bring a relay to rest whose keeper was killed (the unit does it at each stop)",
    )
    door.set_defaults(call=_door)

    erase = verbs.add_parser(
        "erase-secrets",
        help="take the secrets out of a box that was opened (the unit does it)",
        description="Empty every secret of a settings file but the apikey, and remove credential files.",
    )
    add_config(erase, DEVICE_SETTINGS)
    erase.add_argument(
        "--credential", type=Path, action="append", default=[CREDENTIAL], metavar="FILE", help="one more"
    )
    erase.add_argument(
        "--anyway", action="store_true", help="even if nobody opened the box: there is no way back"
    )
    erase.set_defaults(call=_erase_secrets)


def _add_provision(verbs: Verbs) -> None:
    provision = verbs.add_parser(
        "provision",
        help="take over settings from the card (the image does this at each start)",
        description="Take over what a person put on the card's FAT partition: settings, Wi-Fi, SSH keys, "
        "single secrets. What is right goes to the device's own partition and its secrets leave the card; "
        "what is wrong is said in voicemeet-status.txt on the card.",
    )
    provision.add_argument("--card", type=Path, required=True, metavar="DIR", help="the card, mounted")
    provision.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="the device's own partition"
    )
    provision.add_argument("--slot-file", type=Path, metavar="FILE", help="names the slot, for the card")
    provision.set_defaults(call=_provision)


def _add_update(verbs: Verbs) -> None:
    update = verbs.add_parser(
        "update",
        help="update the whole system (of an image)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write a signed bundle to the slot that is not in use and start it when no call runs.\n"
        "It stays when it reaches the hub, opens its sound and passes a self-test call; else the present\n"
        "system comes back by itself. Settings and keys are kept. Run it as root on the device.",
        epilog="""\
examples:
  voicemeet-edge update                          ask the hub now, as it is asked each night
  voicemeet-edge update bundle.raucb             from a file
  voicemeet-edge update https://host/x.raucb     from an address
  voicemeet-edge update --postpone 7             let updates rest for a week; 0 ends that
  voicemeet-edge update --history                what runs, and how the last ones went
""",
    )
    add_config(update, DEVICE_SETTINGS)
    update.add_argument("source", nargs="?", default="", metavar="FILE|URL", help="a bundle; else the hub's")
    update.add_argument("--force", action="store_true", help="also an older version, or the same again")
    update.add_argument("--pin", default="", help="SHA-256 of the certificate of URL's server")
    other = update.add_mutually_exclusive_group()
    other.add_argument("--history", action="store_true", help="say what runs, and how the last updates went")
    other.add_argument("--postpone", type=float, metavar="DAYS", help="let updates rest, for 30 days at most")
    other.add_argument("--switch", action="store_true", help="start the other slot on purpose")
    other.add_argument("--automatic", action="store_true", help="as the nightly timer does")
    other.add_argument(
        "--prove", action="store_true", help="as each start does: confirm this slot, or go back"
    )
    update.add_argument("--limit", type=float, metavar="S", help="with --prove: seconds for each proof")
    update.set_defaults(call=_update)

    done = verbs.add_parser(
        "reset-done",
        help="say by lamp and tone that a factory reset is done (the image does this after one)",
        description="Play a tone and show the lamp for ten minutes, wired as they are without settings.",
    )
    done.set_defaults(call=_reset_done)


def _add_demo(verbs: Verbs) -> None:
    demo = verbs.add_parser(
        "demo",
        help="see and hear it on this machine",
        description="Start hub, TURN server and one device here. In a terminal: press c and talk, with "
        "the desk page in a browser as the other side. Without one, or with --headless: a whole call "
        "between two devices, judged, with recordings and a picture.",
    )
    demo.add_argument("--headless", action="store_true", help="make one whole call between two devices")
    demo.add_argument("--speech", type=Path, metavar="WAV", help="recorded speech the first device sends")
    demo.add_argument("--out", type=Path, metavar="DIR", help="where recordings and picture go")
    demo.add_argument("--seconds", type=float, default=8.0, help="how long they talk (default: 8)")
    demo.add_argument("--direct", action="store_true", help="headless: not through the TURN server")
    demo.add_argument("--port", type=int, default=8080, help="port of the desk page (default: 8080)")
    demo.add_argument(
        "--lan",
        action="store_true",
        help="in a terminal: over https on this machine's network address, for a browser elsewhere",
    )
    demo.set_defaults(call=_demo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.call(options))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    except VoiceMeetError as error:
        print(f"voicemeet-edge: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell shows it
    except BrokenPipeError:
        return 1  # whoever read our lines has gone
    except OSError as error:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        print(f"voicemeet-edge: {where}{error.strerror or type(error).__name__}", file=sys.stderr)
        return 1
    except Exception as error:
        if not sys.stderr.isatty():
            raise  # a journal keeps where it happened
        kind = type(error).__name__
        print(f"voicemeet-edge: a mistake of this program ({kind}), not yours.", file=sys.stderr)
        print("Please report it, with what the same command writes to: … 2>error.txt", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    from voicemeet_edge.lazy_modules import keep_unloaded
    from voicemeet_edge.settings import Settings
    from voicemeet_edge.system.hardening import harden_process
    from voicemeet_edge.system.memory import start_unsettled

    harden_process()
    start_unsettled()
    keep_unloaded()
    # Before what takes a second to load: a wrong one is said at once.
    settings = Settings.load(options.config)
    from voicemeet_edge.daemon import run_device
    from voicemeet_edge.system.logs import set_up_logging

    set_up_logging(settings.log.level)
    run_until_signal(run_device(settings, options.config))
    return 0


def _check(options: argparse.Namespace) -> int:
    from voicemeet_edge.settings import Settings

    if _is_of_a_hub(options.config):
        if options.connect:
            raise LocalError("--connect is for a device's settings, and these are a hub's", code="of_a_hub")
        from voicemeet_edge.hub.settings import load_hub_settings

        load_hub_settings(options.config)
        print(f"{options.config}: all right, for a hub")
        return 0
    settings = Settings.load(options.config)
    print(f"{options.config}: all right")
    return _connect(settings) if options.connect else 0


def _is_of_a_hub(config: Path) -> bool:
    """Say whether these are a hub's settings: they alone name a state_dir."""
    try:
        return "state_dir" in tomllib.loads(config.read_text())
    except (OSError, ValueError, RecursionError):
        return config.name == HUB_SETTINGS.name


def _connect(settings: Settings) -> int:
    import logging

    from voicemeet_edge.doctor import try_connection
    from voicemeet_edge.system.findings import Finding, Outcome, row, summary, worst

    logging.disable(logging.CRITICAL)  # the table says it

    async def run() -> list[Finding]:
        findings = []
        async for finding in try_connection(settings):
            findings.append(finding)
            print(row(finding, 9), flush=True)
        return findings

    try:
        findings = asyncio.run(run())
    finally:
        logging.disable(logging.NOTSET)
    print(f"\n{summary(findings)}")
    return 1 if worst(findings) is Outcome.FAULT else 0


def _provision(options: argparse.Namespace) -> int:
    from voicemeet_edge.provision.takeover import take_over

    slot = options.slot_file.read_text().strip() if options.slot_file else ""
    has_hub = importlib.util.find_spec("aiohttp") is not None
    plan = take_over(options.card, options.data, check_hub=_check_hub if has_hub else None, slot=slot)
    for name in plan.taken:
        print(f"voicemeet: taken over from the card: {name}")
    for text in (*plan.notes, *plan.problems):
        print(f"voicemeet: {text}")
    return 0


def _update(options: argparse.Namespace) -> int:
    from voicemeet_edge.update.command import work

    return work(options)


def _reset_done(_options: argparse.Namespace) -> int:
    from voicemeet_edge.reset_done import SENTENCE, tell_reset_done

    print(SENTENCE)
    run_until_signal(tell_reset_done())
    return 0


def _check_hub(text: str) -> None:
    from voicemeet_edge.hub.settings import hub_settings_from

    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError):
        raise SettingsError("hub.toml", "(syntax)", "?", "valid TOML") from None
    hub_settings_from(table, "hub.toml")


def _demo(options: argparse.Namespace) -> int:
    if options.headless or not (sys.stdin.isatty() and sys.stdout.isatty()):
        from voicemeet_edge.demo.headless import HeadlessOptions, headless_call

        wanted = HeadlessOptions(options.speech, options.out, options.seconds, relay=not options.direct)
        return asyncio.run(headless_call(wanted))
    from voicemeet_edge.demo.interactive import interactive_demo

    return asyncio.run(interactive_demo(options.port, options.out, lan=options.lan))


def _status(options: argparse.Namespace) -> int:
    import json

    from voicemeet_edge.system.snapshot import table
    from voicemeet_edge.system.status import ask

    word = "metrics" if options.metrics else "watch" if options.watch else "status"
    for line in ask(word, options.socket):
        print(line if options.json or options.metrics else table(json.loads(line)), flush=True)
        if options.watch and not options.json:
            print()
    return 0


def _doctor(options: argparse.Namespace) -> int:
    import json
    import logging

    from voicemeet_edge.doctor import examine
    from voicemeet_edge.system.findings import Finding, Outcome, as_json, row, summary, worst

    logging.disable(logging.CRITICAL)  # the table says it

    async def run() -> list[Finding]:
        findings = []
        # A person at a terminal can press a button; a program that reads JSON cannot.
        ask = print if sys.stdin.isatty() and sys.stdout.isatty() and not options.json else None
        async for finding in examine(options.config, ask):
            findings.append(finding)
            if not options.json:
                print(row(finding, 9), flush=True)
        return findings

    findings = asyncio.run(run())
    print(json.dumps(as_json(findings)) if options.json else f"\n{summary(findings)}")
    return 1 if worst(findings) is Outcome.FAULT else 0


def _self_test(options: argparse.Namespace) -> int:
    import json

    from voicemeet_edge.system.findings import Finding, Outcome, row, summary
    from voicemeet_edge.system.status import ask

    line = next(ask("self-test", options.socket), None)
    if line is None:
        raise LocalError("the device gave no answer: is it stopping?", code="no_answer")
    told = json.loads(line)
    if options.json:
        print(line)
    elif told["outcome"] == "busy":
        print("somebody uses the device: try again later")
    else:
        findings = [Finding(**{**one, "outcome": Outcome(one["outcome"])}) for one in told["findings"]]
        print("\n".join(row(finding, 9) for finding in findings), summary(findings), sep="\n\n")
    return {"busy": EX_TEMPFAIL, Outcome.FAULT.value: 1}.get(told["outcome"], 0)


def _devices(_options: argparse.Namespace) -> int:
    from voicemeet_edge.audio.choice import advice
    from voicemeet_edge.audio.devices import list_devices

    devices = list_devices()
    print(advice(devices))
    return 0 if devices else 1


def _lamp(options: argparse.Namespace) -> int:
    from voicemeet_edge.panel.alone import panel_settings, show_lamp

    run_until_signal(show_lamp(panel_settings(options.config), Lamp(options.pattern)))
    return 0


def _door(options: argparse.Namespace) -> int:
    if options.let_go:
        from voicemeet_edge.panel.door_keeper import let_go

        let_go()
        return 0
    from voicemeet_edge.panel.alone import panel_settings, try_door

    opened = asyncio.run(try_door(panel_settings(options.config)))
    print("the door was open" if opened else "the door did not open: the log says why")
    return 0 if opened else 1


def _erase_secrets(options: argparse.Namespace) -> int:
    from voicemeet_edge.provision.erase import erase
    from voicemeet_edge.system import tamper

    if not options.anyway and not tamper.MARK.exists():
        raise LocalError(
            "this box was not opened, so its secrets stay; --anyway erases them all the same",
            code="not_opened",
        )
    erased = erase(options.config, options.credential)
    print("\n".join(f"erased: {name}" for name in erased) or "there was nothing to erase")
    return 0


def _keygen_fleet(text: bool) -> int:
    from voicemeet_edge.fleet_seal import make_key

    private, public = make_key()
    print(private.reveal())
    if not text:
        print("\nKeep it: with it the operator's page and `voicemeet-edge fleet` open what the devices tell.")
        print("In each device's settings:  [status]  fleet = true")
        print(f'                                      fleet_key = "{public}"')
    return 0


def _keygen(options: argparse.Namespace) -> int:
    from voicemeet_edge.call.keys import key_check, new_key, parse_key, qr_terminal

    if options.admission:
        from voicemeet_edge.backend.admission import admission_key, admission_key_text
        from voicemeet_edge.secret import Secret

        key_bytes = parse_key(Secret(text_of("-")))
        print(admission_key_text(admission_key(key_bytes, options.admission)).reveal())
        return 0
    if options.fleet:
        return _keygen_fleet(options.text)
    key = new_key()
    print(key.reveal())
    if not options.text:
        print(f"\n{qr_terminal(key)}")
        print(f"The two words that say both sides have the same key: {key_check(key)}")
        print(f'In each device\'s settings:  [security]  intercom_keys = ["{key.reveal()}"]')
        print("At the desk: open the desk page, choose “Intercom key”, and scan the code or type the text.")
    return 0
