"""The commands of whoever installs and keeps a building: enroll, setup, backup, restore, key."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from voicemeet_edge.cli_common import DEVICE_SETTINGS, HUB_SETTINGS, add_config, text_of
from voicemeet_edge.errors import LocalError
from voicemeet_edge.secret import Secret

if TYPE_CHECKING:
    from voicemeet_edge.cli_common import Verbs


def add_office_verbs(verbs: Verbs) -> None:
    """Add them to the command line."""
    _add_enroll(verbs)
    _add_setup(verbs)
    _add_backup(verbs)
    _add_key(verbs)


def _add_enroll(verbs: Verbs) -> None:
    enroll = verbs.add_parser(
        "enroll",
        help="at the hub: settings for one more door or desk",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Make a pass and print all that one more door or desk needs. Run it on the hub's\n"
        "machine, as its user or as root; the hub may run meanwhile. The operator's page does the same.",
        epilog="""\
examples:
  voicemeet-edge enroll --name "Side entrance"                          prints settings file and line
  voicemeet-edge enroll --name "Side entrance" --out voicemeet.toml     writes the file for the card
  voicemeet-edge enroll --name Reception --desk                         prints the link for a desk
  voicemeet-edge enroll --name "Gate" --key-file key.txt                with the building's intercom key in it
""",
    )
    add_config(enroll, HUB_SETTINGS)
    enroll.add_argument("--name", required=True, help='what people call it: "Side entrance"')
    enroll.add_argument("--desk", action="store_true", help="a desk, which answers; otherwise a door")
    enroll.add_argument("--pool", default="", help="its ring group (default: the hub's first pool)")
    enroll.add_argument(
        "--key-file",
        metavar="FILE",
        help='file with the intercom key to put into it ("-": from the terminal); it goes nowhere else',
    )
    enroll.add_argument("--out", type=Path, metavar="FILE", help="write a door's settings file instead")
    enroll.set_defaults(call=_enroll)


def _add_setup(verbs: Verbs) -> None:
    setup = verbs.add_parser(
        "setup",
        help="on a device: ask, and write its settings",
        description="Ask for the settings line from the hub's page (or its parts), for the door's name and, "
        "where there is a choice, for microphone and loudspeaker; then write the settings file. What it says "
        "already of sound, buttons and lamp stays. Without a terminal the line is read from standard input.",
    )
    add_config(setup, DEVICE_SETTINGS)
    setup.set_defaults(call=_setup)


def _add_backup(verbs: Verbs) -> None:
    backup = verbs.add_parser(
        "backup",
        help="at the hub: keep all that it is in one file",
        description="Write the hub's settings, secrets, certificate and database into one file, beside the "
        "running hub. With it another machine becomes this hub, and no door or desk is touched. Whoever has "
        "the file can be this hub, so lock it away. No intercom key is in it: the hub has none.",
    )
    add_config(backup, HUB_SETTINGS)
    backup.add_argument("file", type=Path, metavar="FILE", help="file to write")
    backup.set_defaults(call=_backup)

    restore = verbs.add_parser(
        "restore",
        help="on another machine: become the hub of a backup",
        description="Make this machine the hub of a backup. Stop the hub first. Doors and desks go on as "
        "they are if the machine is reached by the same name, or has the old one's address.",
    )
    add_config(restore, HUB_SETTINGS)
    restore.add_argument("file", type=Path, metavar="FILE", help="what `backup` wrote")
    restore.add_argument("--replace", action="store_true", help="put a hub that is here already aside")
    restore.set_defaults(call=_restore)


def _add_key(verbs: Verbs) -> None:
    key = verbs.add_parser(
        "key",
        help="at the hub: change the intercom key, and see who still has the old one",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Change a ring group's intercom key without locking anybody out. The hub never gets\n"
        "the key: of old and new one it keeps what checks a proof, and notes which of them each end proves.",
        epilog="""\
examples:
  voicemeet-edge key rotate --pool frontdesk     asks for the old key, prints the new one and what to do
  voicemeet-edge key status --pool frontdesk     who still uses the old one
  voicemeet-edge key finish --pool frontdesk     from now on the new one alone
""",
    )
    add_config(key, HUB_SETTINGS)
    key.add_argument("work", choices=["rotate", "status", "finish"], metavar="rotate|status|finish")
    key.add_argument("--pool", required=True, help="the ring group")
    key.add_argument(
        "--key-file", metavar="FILE", help="rotate: file with the old key, instead of being asked for it"
    )
    key.add_argument("--anyway", action="store_true", help="finish: lock out who still uses the old one")
    key.set_defaults(call=_key)


def _key(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub import key_change

    if options.work == "rotate":
        text = text_of(options.key_file) if options.key_file else getpass.getpass("The old intercom key: ")
        print(asyncio.run(key_change.rotate(options.config, options.pool, Secret(text))))
    elif options.work == "status":
        print(asyncio.run(key_change.status(options.config, options.pool)))
    else:
        print(asyncio.run(key_change.finish(options.config, options.pool, anyway=options.anyway)))
    return 0


def _backup(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.backup import write_backup

    print(write_backup(options.config, options.file))
    return 0


def _restore(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.backup import restore_backup

    print(restore_backup(options.config, options.file, replace=options.replace))
    return 0


def _enroll(options: argparse.Namespace) -> int:
    from voicemeet_edge.backend.verbs import Role
    from voicemeet_edge.call.keys import parse_key, to_text
    from voicemeet_edge.hub.enrolling import enroll, told
    from voicemeet_edge.provision.questions import write

    if options.desk and options.out:
        raise LocalError("a desk has no settings file: open its link there", code="no_file")
    words = text_of(options.key_file).split() if options.key_file else []
    keys = [to_text(parse_key(Secret(word))) for word in words]
    role = Role.ANSWERER if options.desk else Role.CALLER
    place = asyncio.run(enroll(options.config, options.name, options.pool, role, keys))
    if options.out:
        write(options.out, place.settings())
        print(f"{options.out}: settings of {place.name}; put it onto its card as voicemeet.toml")
    else:
        print(told(place))
    return 0


def _setup(options: argparse.Namespace) -> int:
    from voicemeet_edge.provision import questions
    from voicemeet_edge.provision.enrolment import parse_line

    path: Path = options.config
    old = questions.read_old(path)
    sound: dict[str, object] = {}
    if sys.stdin.isatty():
        place = questions.ask_for_place(_ask, print)
        place = questions.ask_for_name(_ask, place)
        sound = _ask_for_sound()
    else:
        place = parse_line(Secret(text_of("-")))
    questions.write(path, questions.merged(old, place, sound))
    print(f"{path}: written. The device is called {place.name or 'nothing yet'} and rings in {place.pool}.")
    print(
        "Try all it needs: sudo voicemeet-edge doctor        Start it: sudo systemctl restart voicemeet-edge"
    )
    return 0


def _ask_for_sound() -> dict[str, object]:
    from voicemeet_edge.audio.devices import list_devices
    from voicemeet_edge.provision.questions import ask_which

    devices = list_devices()
    if not devices:
        print("No sound card was found: plug in microphone and loudspeaker; they are found by themselves.")
    microphones = [device.name for device in devices if device.capture]
    loudspeakers = [device.name for device in devices if device.playback]
    found = {
        "capture": ask_which(_ask, print, "Microphone", microphones),
        "playback": ask_which(_ask, print, "Loudspeaker", loudspeakers),
    }
    return {key: value for key, value in found.items() if value != "auto"}


def _ask(question: str) -> str:
    from voicemeet_edge.provision.questions import NoAnswerError

    try:
        return input(question)
    except EOFError:
        raise NoAnswerError("nothing was written: the questions were not answered") from None
