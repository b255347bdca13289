"""Every state of the desk page as a model that `view.js` shows: for the accessibility rules and for pictures.

The page shows one function of its model, so a state is reached by showing it. What the model is in a real
call, `test_calls.py` looks at.
"""

from __future__ import annotations

import json
from typing import Any

from voicemeet_edge.testing.browser import Browser

Model = dict[str, Any]

KEY = {"check": "kiwi caretaker"}
OTHER_KEY = {"check": "orca paragraph"}
NAME = "Side entrance"
DOORS = [{"door": "6f1c", "name": NAME}, {"door": "77aa", "name": "Loading ramp"}]
BASE: Model = {
    "state": "setup",
    "pool": "frontdesk",
    "role": "answerer",
    "keys": [],
    "pass": None,
    "refusal": None,
    "call": None,
    "last": None,
    "report": None,
    "silent": False,
    "silentCallers": 0,
    "canReport": False,
    "doors": None,
    "doorList": [],
    "waiting": 0,
    "missed": None,
    "mismatch": None,
    "away": None,
    "testing": False,
}
CALL: Model = {"phase": "ringing", "name": None, "words": None, "microphoneOpen": False, "muted": False}
TALK = {**CALL, "phase": "talking", "microphoneOpen": True, "talkingSince": 0}
WORDS = {"words": ["kiwi", "caretaker", "minnow"]}
LAST = {"reason": "hung_up", "byPeer": True, "name": None}


def _in(state: str, **more: Any) -> Model:
    return {**BASE, "state": state, **more}


STATES: dict[str, Model] = {
    "setup": _in("setup"),
    "setup-with-keys": _in("setup", keys=[KEY, OTHER_KEY], **{"pass": "there"}),
    "insecure": _in("insecure"),
    "asking": _in("asking"),
    "microphone-denied": _in("microphone_denied"),
    "microphone-missing": _in("microphone_missing"),
    "microphone-busy": _in("microphone_busy"),
    "starting": _in("starting"),
    "offline": _in("offline", silent=True),
    "refused": _in("refused", refusal="pass_needed"),
    "refused-pool": _in("refused", refusal="unknown_pool"),
    "refused-unsaid": _in("refused", refusal="something_new"),
    "ready": _in("ready", doors=2, keys=[KEY]),
    "ready-no-doors": _in("ready", doors=0),
    "ready-missed": _in("ready", doors=2, missed={"count": 2, "at": 0, "name": NAME}),
    "ready-mismatch": _in("ready", doors=2, keys=[KEY], mismatch="wrong_key"),
    "ready-mismatch-no-key": _in("ready", doors=2, mismatch="peer_sealed"),
    "ready-tampered": _in("ready", doors=2, mismatch="words_missing"),
    "ready-doors": _in("ready", doors=2, keys=[KEY], doorList=DOORS),
    "ready-silent-callers": _in("ready", doors=1, silentCallers=3),
    "ready-report": _in(
        "ready", doors=1, canReport=True, last=LAST, report=["report.sent", {"receipt": "7Q2M"}]
    ),
    "ready-caller": _in("ready", role="caller"),
    "do-not-disturb": _in("disturb", doors=2, away={"until": 57_600_000}),
    "outside-hours": _in("disturb", doors=2, away={"hours": {"from": "08:00", "to": "17:00"}}),
    "seeking": _in("seeking", role="caller"),
    "calling": _in("calling", call={**CALL, "phase": "calling"}, role="caller"),
    "rings-there": _in("calling", call={**CALL, "phase": "calling", "peerRings": True, "name": NAME}),
    "ringing": _in("ringing", call={**CALL, "name": NAME}, keys=[KEY]),
    "ringing-nameless": _in("ringing", call=CALL, waiting=1, silent=True),
    "connecting": _in("connecting", call={**TALK, "phase": "connecting", "name": NAME}, canReport=True),
    "talking": _in("talking", call={**TALK, **WORDS}, canReport=True),
    "talking-door": _in(
        "talking",
        call={**TALK, **WORDS, "name": NAME, "door": {"state": "ready"}},
        keys=[KEY],
        canReport=True,
        waiting=1,
    ),
    "door-open": _in(
        "talking", call={**TALK, **WORDS, "name": NAME, "door": {"state": "open"}}, keys=[KEY], canReport=True
    ),
    "door-refused": _in(
        "talking",
        call={**TALK, **WORDS, "name": NAME, "door": {"state": "refused", "reason": "broken"}},
        keys=[KEY],
    ),
    "muted": _in(
        "talking", call={**TALK, **WORDS, "name": NAME, "muted": True, "warned": True}, canReport=True
    ),
    "unproved": _in("talking", call={**TALK, "name": NAME}),
    "not-checked": _in("talking", call={**TALK, "name": NAME, "unchecked": True}, canReport=True),
    "announcing": _in("talking", call={**TALK, "name": NAME, "announce": True}, keys=[KEY]),
    "line-lost": _in("reconnecting", call={**TALK, **WORDS, "name": NAME, "phase": "reconnecting"}),
    "ended": _in("ended", last=LAST, canReport=True),
    "answered-elsewhere": _in("ended", last={**LAST, "reason": "answered_elsewhere", "name": NAME}),
    "not-trusted": _in("ended", last={**LAST, "reason": "wrong_key", "byPeer": False}),
}

DIALOGS = {"settings": "settings", "report": "report-dialog"}
"""What is shown over a state, by its element's id."""


async def speak(page: Browser, language: str) -> None:
    """Let the page speak another language."""
    await page.evaluate(
        f"import('/desk/texts.js').then(async (texts) => {{ await texts.load('{language}');"
        " texts.translate(document); return true; })"
    )


SHOW = """import('/desk/view.js').then((view) => {
  const { model } = voicemeet;
  for (const [name, value] of Object.entries(%s)) {
    Object.defineProperty(model, name, { value, writable: true, configurable: true });
  }
  if (model.missed) model.missed.at = Date.now() - 240_000;
  if (typeof model.call?.talkingSince === 'number') model.call.talkingSince = performance.now() - 83_000;
  view.show(model);
  for (const one of document.querySelectorAll('details')) one.open = true;
  return true;
})"""


async def show(page: Browser, model: Model) -> None:
    """Show one state, with the parts that can be folded out folded out."""
    await page.evaluate(SHOW % json.dumps(model))


async def open_dialog(page: Browser, name: str) -> None:
    if name == "settings":  # opened by its button, which fills it in
        await page.evaluate("(document.getElementById('settings-open').click(), true)")
        await page.wait_for("document.getElementById('set-ring').options.length")
    else:
        await page.evaluate(f"(document.getElementById('{DIALOGS[name]}').showModal(), true)")


async def close_dialogs(page: Browser) -> None:
    await page.evaluate("(document.querySelectorAll('dialog').forEach((one) => one.close()), true)")
