"""The commands at the hub, and those about a hosted backend: hub, pass, reports, rollout, desk and theirs."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from voicemeet_edge.cli_common import (
    HUB_SETTINGS,
    add_config,
    run_until_signal,
    text_of,
)
from voicemeet_edge.errors import LocalError, SettingsError

if TYPE_CHECKING:
    from voicemeet_edge.cli_common import Verbs


def add_hub_verbs(verbs: Verbs) -> None:
    """Add what is said at the hub to the command line."""
    hub = verbs.add_parser(
        "hub",
        help="run the server of a building",
        description="Run the hub: matching, signaling, desk page, and a TURN server beside it.",
    )
    add_config(hub, HUB_SETTINGS)
    hub.add_argument(
        "--device-settings",
        action="store_true",
        help="also print the lines a device's settings need to reach this hub (they hold its key)",
    )
    hub.set_defaults(call=_hub)

    lines = verbs.add_parser(
        "device-settings",
        help="what a device needs to reach a hub",
        description="Print the lines a device's settings need to reach the hub of this settings file. It "
        "only reads, so the hub may run meanwhile. The lines hold the hub's key: run it as root or as "
        "the hub's user, and keep them to yourself.",
    )
    add_config(lines, HUB_SETTINGS)
    lines.set_defaults(call=_device_settings)

    _add_pass(verbs)
    _add_desk(verbs)
    _add_rollout(verbs)

    reports = verbs.add_parser(
        "reports",
        help="look into a hub's reports",
        description="List the reports a hub keeps. Each goes after 30 days unless it is held for an "
        "investigation. “about” is the start of a hash of a token that lived for a day: reports about the "
        "same party on the same day share it, and nothing leads from it to a person or a device.",
    )
    add_config(reports, HUB_SETTINGS)
    reports.add_argument("--hold", metavar="RECEIPT", help="keep this report until it is released")
    reports.add_argument("--release", metavar="RECEIPT", help="let this report go when its time is over")
    reports.set_defaults(call=_reports)


def _add_rollout(verbs: Verbs) -> None:
    rollout = verbs.add_parser(
        "rollout",
        help="see how far a hub's updates have come",
        description="Say how many devices take which update of a hub, and how it went. An update is offered "
        "when bundle and offer lie in updates/ of the hub's state directory. It begins with one device in a "
        "hundred and stops by itself when two in a hundred went back. Run it as root or as the hub's user.",
    )
    add_config(rollout, HUB_SETTINGS)
    rollout.add_argument("--stop", metavar="VERSION", default="", help="let no further device take it")
    rollout.add_argument("--resume", metavar="VERSION", default="", help="begin again with the first devices")
    rollout.set_defaults(call=_rollout)


def _add_desk(verbs: Verbs) -> None:
    desk = verbs.add_parser(
        "desk",
        help="serve the desk page from this machine",
        description="Serve the desk page of this installation on this machine alone, and carry its signaling "
        "to the hub. A hub that serves the page itself could use the intercom key that is typed into it; "
        "this way it cannot. The pin stands for the certificate, so that no browser warns of it.",
    )
    desk.add_argument("--hub", required=True, metavar="URL", help="the hub: https://host:port")
    desk.add_argument("--pin", default="", help="its certificate's pin, as the hub prints it")
    desk.add_argument("--port", type=int, default=8788, help="port on this machine (default: 8788)")
    desk.set_defaults(call=_desk)


def _add_pass(verbs: Verbs) -> None:
    passes = verbs.add_parser(
        "pass",
        help="say who may call and who may answer",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Make, list and take back the passes of a hub's closed pools. Run it on the hub's\n"
        "machine, as its user or as root; a running hub heeds a new pass at once, and one that was taken\n"
        "back within a second. A pass is shown once: the hub keeps only a hash of it.",
        epilog="""\
examples:
  voicemeet-edge pass --pool frontdesk --role caller --label lobby     for a device: goes into its settings
  voicemeet-edge pass --pool frontdesk --role answerer --label desk    for a desk: open the link there
  voicemeet-edge pass --operator --label anna                          for the operator's page at the hub
  voicemeet-edge pass --list                                           who has one
  voicemeet-edge pass --revoke lobby                                   the box was stolen: take it back
  voicemeet-edge keygen --admission frontdesk < key.txt                what proves the intercom key to the hub
  voicemeet-edge pass --pool frontdesk --admission-keys keys.txt       ask for that proof from now on
""",
    )
    add_config(passes, HUB_SETTINGS)
    passes.add_argument("--pool", default="", help="the pool it opens")
    roles = ["caller", "answerer", "either"]
    passes.add_argument("--role", choices=roles, default="", help="the role it gives")
    passes.add_argument("--operator", action="store_true", help="make one for the operator's page instead")
    passes.add_argument("--label", default="", help="your own word for it, shown in lists")
    passes.add_argument("--list", action="store_true", help="list all passes (also without any option)")
    passes.add_argument("--revoke", metavar="ID", default="", help="take back the pass with this id or label")
    passes.add_argument(
        "--admission-keys",
        metavar="FILE",
        help="ask in this pool for a proof of the intercom key: one or two keys as `keygen --admission` "
        'prints them, one a line; "-" reads them from the terminal, an empty file asks for none',
    )
    passes.set_defaults(call=_pass)


def add_hosted_verbs(verbs: Verbs) -> None:
    """Add what is said about a hosted backend to the command line."""
    verify = verbs.add_parser(
        "verify-hosted",
        help="look at your own project on Supabase and Cloudflare",
        description="Try what only your own project can show: keys, policies, push, relay, and what must not "
        "open. Two devices of a moment meet in a pool and go; nothing is left behind. 1 if a check failed.",
    )
    _add_backend_url(verify)
    verify.add_argument("--pool", default="public", help="an open pool to meet in (default: public)")
    verify.add_argument(
        "--project", metavar="URL", default="", help="the project's own URL, when --url is your door's"
    )
    verify.set_defaults(call=_verify_hosted)

    site = verbs.add_parser(
        "desk-site",
        help="write the desk page for a web server of its own",
        description="Write the desk page as static files for a backend, for any web server: who serves the "
        "page need not be who serves the calls. docs/hosted.md says how and why.",
    )
    site.add_argument("out", type=Path, metavar="OUT", help="directory to write")
    _add_backend_url(site)
    site.add_argument("--pool", action="append", default=[], help="a pool to offer; may be repeated")
    site.set_defaults(call=_desk_site)


def _add_backend_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="base URL as devices get it")
    parser.add_argument("--apikey", required=True, metavar="KEY", help="public key (sb_publishable_…)")


def _hub(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.daemon import serve_hub
    from voicemeet_edge.system.hardening import harden_process
    from voicemeet_edge.system.logs import set_up_logging

    harden_process()
    set_up_logging("info")
    asyncio.run(serve_hub(options.config, print_settings=options.device_settings))
    return 0


def _verify_hosted(options: argparse.Namespace) -> int:
    from voicemeet_edge.hosted.verify import Project, verify
    from voicemeet_edge.secret import Secret

    url, behind = options.url.rstrip("/"), options.project.rstrip("/")
    for given in filter(None, (url, behind)):
        if not given.startswith(("https://", "http://")):
            raise SettingsError("verify-hosted", "--url", given, "https://name")
    good = asyncio.run(verify(Project(url, Secret(options.apikey), options.pool, behind)))
    return 0 if good else 1


def _desk_site(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.desk_site import write_site

    count = write_site(options.out, options.url, options.apikey, tuple(options.pool))
    print(f"{options.out}: {count} files; serve them with the headers in _headers")
    return 0


def _device_settings(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.app import device_settings, read_info
    from voicemeet_edge.hub.settings import load_hub_settings

    print(device_settings(read_info(load_hub_settings(options.config))), end="")
    return 0


def _pass(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.pass_desk import work_on_passes
    from voicemeet_edge.hub.passes import OPERATOR
    from voicemeet_edge.secret import Secret

    if options.operator:
        options.role = OPERATOR
    elif (options.role or options.admission_keys) and not options.pool:
        raise LocalError("which pool? Say it with --pool", code="no_pool")
    if options.pool and not (options.role or options.admission_keys or options.list):
        raise LocalError("which role? Say it with --role caller or --role answerer", code="no_role")
    keys = None
    if options.admission_keys:
        keys = [Secret(word) for word in text_of(options.admission_keys).split()]
    work = work_on_passes(
        options.config,
        pool=options.pool,
        role=options.role,
        label=options.label,
        revoke_name=options.revoke,
        admission_keys=keys,
    )
    print(asyncio.run(work))
    return 0


def _rollout(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.settings import load_hub_settings
    from voicemeet_edge.hub.updates import FOLDER, work_on_rollouts

    folder = load_hub_settings(options.config).state_dir / FOLDER
    print(work_on_rollouts(folder, resume=options.resume, stop=options.stop))
    return 0


def _desk(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.own_desk import serve_desk
    from voicemeet_edge.validators import Refused, base_url, pin_digest

    try:
        url, pin = base_url(options.hub), pin_digest(options.pin)
    except Refused as refused:
        raise LocalError(f"--hub and --pin: expected {refused}", code="bad_hub") from None
    run_until_signal(serve_desk(url, pin, options.port))
    return 0


def _reports(options: argparse.Namespace) -> int:
    from voicemeet_edge.hub.reports import look_into_reports

    print(asyncio.run(look_into_reports(options.config, hold=options.hold, release=options.release)))
    return 0
