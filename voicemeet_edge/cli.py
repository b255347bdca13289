"""The command line: parses, builds and runs, nothing more.

Exit status: 0 done · 1 it did not work, one line says why · 2 wrong words on the command line ·
78 (EX_CONFIG) a wrong setting, one line says file, key, value and what was expected.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voicemeet_edge import __version__
from voicemeet_edge.errors import SettingsError, VoiceMeetError

EX_CONFIG = 78  # sysexits.h: systemd must not restart what will fail again (RestartPreventExitStatus=)

DEVICE_SETTINGS = Path("/boot/firmware/voicemeet.toml")
HUB_SETTINGS = Path("/etc/voicemeet/hub.toml")

EPILOG = """\
first steps:
  voicemeet-edge demo                       hub, TURN server and a device on this machine
  voicemeet-edge hub --config hub.toml      bring parties together in a building
  voicemeet-edge devices                    which microphone and loudspeaker to name
  voicemeet-edge check --config FILE        is this settings file right?
  voicemeet-edge run --config FILE          be a device
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="voicemeet-edge",
        description="A hardware voice-call device: press call and talk, end-to-end encrypted.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"voicemeet-edge {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)

    _add_device_verbs(verbs)
    _add_hub_verbs(verbs)
    _add_demo(verbs)
    return parser


if TYPE_CHECKING:
    _Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def _add_device_verbs(verbs: _Verbs) -> None:
    run = verbs.add_parser("run", help="be a device", description="Be a device until stopped.")
    _add_config(run, DEVICE_SETTINGS)
    run.set_defaults(call=_run)

    check = verbs.add_parser(
        "check", help="check a settings file", description="Check a settings file; 78 if it is wrong."
    )
    _add_config(check, DEVICE_SETTINGS)
    check.set_defaults(call=_check)

    devices = verbs.add_parser("devices", help="list microphones and loudspeakers")
    devices.set_defaults(call=_devices)

    keygen = verbs.add_parser(
        "keygen",
        help="make an intercom key",
        description="Make a key that the ends of one building share, so that not even the hub can listen "
        "in. Put the text into security.intercom_keys of each device and scan or type it at the desk.",
    )
    keygen.add_argument("--text", action="store_true", help="print the text only, without the QR code")
    keygen.set_defaults(call=_keygen)


def _add_hub_verbs(verbs: _Verbs) -> None:
    hub = verbs.add_parser(
        "hub",
        help="bring parties together",
        description="Run the hub: matching, signaling, desk page, and a TURN server beside it.",
    )
    _add_config(hub, HUB_SETTINGS)
    hub.add_argument(
        "--device-settings",
        action="store_true",
        help="also print the lines a device's settings need to reach this hub (they hold its key)",
    )
    hub.set_defaults(call=_hub)

    reports = verbs.add_parser(
        "reports",
        help="look into a hub's reports",
        description="List the reports a hub keeps. Each goes after 30 days unless it is held for an "
        "investigation. “about” is the start of a hash of a token that lived for a day: reports about the "
        "same party on the same day share it, and nothing leads from it to a person or a device.",
    )
    _add_config(reports, HUB_SETTINGS)
    reports.add_argument("--hold", metavar="RECEIPT", help="keep this report until it is released")
    reports.add_argument("--release", metavar="RECEIPT", help="let this report go when its time is over")
    reports.set_defaults(call=_reports)


def _add_demo(verbs: _Verbs) -> None:
    demo = verbs.add_parser(
        "demo",
        help="see and hear it on this machine",
        description="Start hub, TURN server and one device here. In a terminal: press c and talk, with "
        "the desk page in a browser as the other side. Without one, or with --headless: a whole call "
        "between two devices, judged, with recordings and a picture.",
    )
    demo.add_argument("--headless", action="store_true", help="make one whole call between two devices")
    demo.add_argument("--speech", type=Path, metavar="WAV", help="what the first device says")
    demo.add_argument("--out", type=Path, metavar="DIR", help="where recordings and picture go")
    demo.add_argument("--seconds", type=float, default=8.0, help="how long they talk (default: 8)")
    demo.add_argument("--direct", action="store_true", help="headless: not through the TURN server")
    demo.add_argument("--port", type=int, default=8080, help="port of the desk page (default: 8080)")
    demo.set_defaults(call=_demo)


def _add_config(parser: argparse.ArgumentParser, default: Path) -> None:
    parser.add_argument(
        "--config", type=Path, default=default, metavar="FILE", help=f"settings file (default: {default})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
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


def _run(options: argparse.Namespace) -> int:
    from voicemeet_edge.daemon import run_device
    from voicemeet_edge.settings import Settings
    from voicemeet_edge.system.hardening import harden_process
    from voicemeet_edge.system.logs import set_up_logging

    harden_process()
    settings = Settings.load(options.config)
    set_up_logging(settings.log.level)
    _run_until_signal(run_device(settings))
    return 0


def _run_until_signal(work: Coroutine[object, object, None]) -> None:
    """Run until done, SIGTERM or SIGINT; both cancel, so that goodbyes are said."""

    async def main_task() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            pass

    asyncio.run(main_task())


def _check(options: argparse.Namespace) -> int:
    from voicemeet_edge.settings import Settings

    Settings.load(options.config)
    print(f"{options.config}: all right")
    return 0


def _hub(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.daemon import serve_hub
    from voicemeet_edge.system.hardening import harden_process
    from voicemeet_edge.system.logs import set_up_logging

    harden_process()
    set_up_logging("info")
    asyncio.run(serve_hub(options.config, print_settings=options.device_settings))
    return 0


def _reports(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.reports import look_into_reports

    print(asyncio.run(look_into_reports(options.config, hold=options.hold, release=options.release)))
    return 0


def _demo(options: argparse.Namespace) -> int:
    if options.headless or not (sys.stdin.isatty() and sys.stdout.isatty()):
        from voicemeet_edge.demo.headless import Wish, headless_call

        wish = Wish(options.speech, options.out, options.seconds, relay=not options.direct)
        return asyncio.run(headless_call(wish))
    from voicemeet_edge.demo.interactive import interactive_demo

    return asyncio.run(interactive_demo(options.port, options.out))


def _devices(_options: argparse.Namespace) -> int:
    from voicemeet_edge.audio.devices import advice, list_devices

    devices = list_devices()
    print(advice(devices))
    return 0 if devices else 1


def _keygen(options: argparse.Namespace) -> int:
    from voicemeet_edge.call.keys import key_check, new_key, qr_terminal

    key = new_key()
    print(key.reveal())
    if not options.text:
        print(f"\n{qr_terminal(key)}")
        print(f"The two words that say both sides have the same key: {key_check(key)}")
        print(f'In each device\'s settings:  [security]  intercom_keys = ["{key.reveal()}"]')
        print("At the desk: open the desk page, choose “Key”, and scan the code or type the text.")
    return 0
