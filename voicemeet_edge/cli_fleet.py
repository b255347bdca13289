"""`voicemeet-edge fleet`: how the devices of a hub are, on a machine of the operator's own.

One rule: the fleet key is read from a file and goes nowhere. The operator's page shows the same, but it comes
from the hub, and a hub that was turned against its operator could let the page tell it the key.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from voicemeet_edge.cli_common import text_of
from voicemeet_edge.errors import EnvironmentFault, LocalError, MessageError, SealError
from voicemeet_edge.secret import Secret

if TYPE_CHECKING:
    from voicemeet_edge.cli_common import Verbs

TIMEOUT_S = 20.0  # s for the hub's answer
MAX_ANSWER_BYTES = 4_000_000  # bytes; 2,000 sealed devices are 3 MB
NO_HUB = "what answers there is no hub, or of another version"
SILENT_S = 3600.0  # s; a device speaks each quarter of an hour


def add_fleet_verb(verbs: Verbs) -> None:
    """Add it to the command line."""
    fleet = verbs.add_parser(
        "fleet",
        help="how the devices of a hub are, for its operator",
        description="Ask a hub how the devices are that tell it (status.fleet), and open what they sealed. "
        "Status 1 when one is not well. The operator's page shows the same; this needs no page of the hub's.",
    )
    fleet.add_argument("hub", metavar="URL", help="the hub's address: https://192.168.1.10:8443")
    fleet.add_argument("--pin", default="", help="SHA-256 of its certificate, where no authority signed it")
    fleet.add_argument(
        "--pass-file", required=True, metavar="FILE", help='operator\'s pass ("-": standard input)'
    )
    fleet.add_argument("--key-file", metavar="FILE", help="fleet key, as `keygen --fleet` printed it")
    fleet.add_argument("--json", action="store_true", help="for programs: one JSON object")
    fleet.set_defaults(call=_fleet)


def _fleet(options: argparse.Namespace) -> int:
    shown = Secret(text_of(options.pass_file).strip())
    key = None if options.key_file is None else Secret(text_of(options.key_file))
    rows = [unsealed(row, key, time.time()) for row in ask(options.hub, options.pin, shown)]
    rows.sort(key=lambda row: (row["state"] == "well", str(row.get("name", ""))))
    if options.json:
        print(json.dumps({"devices": rows}))
    else:
        for row in rows:
            print(f"{row.get('name') or '(no name)':<24} {row['state']}")
        if not rows:
            print("no device tells its health there")
    return 0 if all(row["state"] == "well" for row in rows) else 1


def ask(hub: str, pin: str, shown: Secret) -> list[Mapping[str, Any]]:
    """Return what the hub has of its devices.

    Raises:
        BackendError: it does not answer.
        EnvironmentFault: it answers with something else.
        LocalError: it does not take the pass, or pin or address are none.
    """
    # Not for every command: a device starts by this command line, too.
    import http.client
    import urllib.error
    import urllib.request

    from typing_extensions import override  # not at the top: the man page is made by a Python without it

    from voicemeet_edge.backend.client import as_backend_error
    from voicemeet_edge.backend.pin import tls_context
    from voicemeet_edge.validators import Refused, base_url

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        """The pass is for this hub, and for nobody it points at."""

        @override
        def redirect_request(self, *_: object) -> None:
            return None

    try:
        request = urllib.request.Request(f"{base_url(hub)}/operator/api/fleet")
        secure = urllib.request.HTTPSHandler(context=tls_context(pin))
    except Refused as error:
        raise LocalError(f"the hub's address: expected {error}", code="bad_address") from None
    except ValueError:
        raise LocalError("--pin: expected 64 hex digits", code="bad_pin") from None
    request.add_header("Authorization", f"Bearer {shown.reveal()}")
    # No proxy of the environment: the pass is for the hub.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), secure, NoRedirects())
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return rows_of(answer.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise LocalError("this is no operator's pass there", code="pass_refused") from None
        raise EnvironmentFault(f"the hub answered with {error.code}", code="bad_answer") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None)
        raise as_backend_error(reason if isinstance(reason, OSError) else error) from None
    except ValueError:  # a pass that fits into no header
        raise LocalError("this is no operator's pass", code="pass_refused") from None


def rows_of(answer: bytes) -> list[Mapping[str, Any]]:
    """Read what the hub answers; EnvironmentFault when that is no list of devices."""
    try:
        devices = json.loads(answer)["devices"]
    except (ValueError, KeyError, TypeError, RecursionError):
        devices = None
    if not isinstance(devices, list):
        raise EnvironmentFault(NO_HUB, code="bad_answer")
    return [row for row in devices if isinstance(row, dict)]


def unsealed(row: Mapping[str, Any], key: Secret | None, unix: float) -> dict[str, Any]:
    """Return a device's report with its `state` in a word or two, opened when it is sealed.

    Neither hub nor device is believed: what is out of shape is said to be, and nothing of it is shown.
    """
    from voicemeet_edge.fleet_seal import open_sealed
    from voicemeet_edge.hub.fleet import facts_of, number_of

    seen = {"seen_s": 0.0}
    try:
        seen = {"seen_s": number_of(row, "seen_s")}
        if "sealed" not in row:
            told: dict[str, Any] = {**facts_of(row), **seen}
        elif key is None:
            return {**seen, "state": "sealed: --key-file opens it"}
        else:
            opened = open_sealed(key, str(row.get("device")), str(row["sealed"]))
            # A hub may show what a box said long ago; what the box itself said of the time is sealed.
            told = {**facts_of(opened), "seen_s": max(seen["seen_s"], unix - number_of(opened, "at"))}
    except SealError as error:
        return {**seen, "state": str(error)}
    except MessageError:
        return {**seen, "state": "out of shape: a hub or device of another version, or a false one"}
    return {**told, "state": _state(told)}


def _state(told: Mapping[str, Any]) -> str:
    if told["seen_s"] > SILENT_S:
        return f"silent for {told['seen_s'] / 3600:.0f} h"
    if told["faults"]:
        return "out of order: " + ", ".join(told["faults"])
    return "test call failed" if told.get("self_test") == "failed" else "well"
