"""The desk page's words for the ends of calls, against the list of all reasons."""

from __future__ import annotations

import json
import re
from importlib.resources import files

from voicemeet_edge.languages.catalogue import DIRECTORY
from voicemeet_edge.reasons import EndReason, javascript

DESK = files("voicemeet_edge.hub") / "desk"


def test_the_desk_sorts_reasons_as_the_devices_do() -> None:
    assert (DESK / "reasons.js").read_text() == javascript(), (
        "run python -m voicemeet_edge.reasons voicemeet_edge/hub/desk/reasons.js"
    )


def test_the_desk_has_sentences_only_for_reasons_there_are() -> None:
    sentences = json.loads((DIRECTORY / "en.json").read_text("utf-8"))
    words = {key.split(".")[1] for key in sentences if key.startswith("end.")}
    assert len(words) > 10
    assert all(f"end.{word}.peer" in sentences for word in words)
    assert words - {"distrust"} <= {reason.value for reason in EndReason}


def test_the_desk_ends_calls_for_reasons_there_are() -> None:
    ended = re.findall(r"\bend\('(\w+)'", (DESK / "call.js").read_text())
    assert len(ended) > 5
    assert set(ended) <= {reason.value for reason in EndReason}
