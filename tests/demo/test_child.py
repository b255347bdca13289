"""What the demo's device writes for each thing a device lets others see."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from voicemeet_edge.call import observed
from voicemeet_edge.call.commands import WordsKnown
from voicemeet_edge.call.machine import ReportState, State
from voicemeet_edge.call.observed import Observed
from voicemeet_edge.call.signs import Lamp, Prompt, Tone
from voicemeet_edge.demo.child import describe
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.panel.interface import ButtonEvent
from voicemeet_edge.reasons import EndReason

LINES: list[tuple[Observed, str, dict[str, object]]] = [
    (observed.Started(), "started", {}),
    (observed.Stopped(), "stopped", {}),
    (observed.ButtonPressed(ButtonEvent.CALL_HELD), "button", {"button": "call_held"}),
    (
        observed.StateChanged(State.ENDED, 1.5, EndReason.HUNG_UP),
        "state",
        {"state": "ended", "at": 1.5, "reason": "hung_up"},
    ),
    (observed.ToneAsked(Tone.BUSY), "tone", {"tone": "busy"}),
    (observed.LampChanged(Lamp.READY), "lamp", {"lamp": "ready"}),
    (observed.FaultChanged("microphone", None), "fault", {"part": "microphone", "code": None}),
    (observed.ResetAsked(), "reset_asked", {}),
    (observed.Tampered(), "tampered", {}),
    (observed.VolumeChosen(70), "volume", {"volume": 70}),
    (observed.Said(Prompt.QUEUED, 2), "said", {"prompt": "waiting", "place": 2}),
    (observed.DoorOpened(3.0, 9.5), "door", {"seconds": 3.0, "at": 9.5}),
    (observed.Matched(2.5, is_offerer=True), "matched", {"at": 2.5, "offerer": True}),
    (WordsKnown(("one", "two")), "words", {"words": ["one", "two"]}),
    (observed.WordsSpoken(3), "spoken", {"count": 3}),
    (observed.BackendChanged(is_up=True), "backend", {"up": True}),
    (observed.ConnectionFault(NotConnected.BAD_APIKEY), "not_connected", {"reason": "bad_apikey"}),
    (observed.GroundMoved("sleep"), "moved", {"what": "sleep"}),
    (observed.ReportChanged(ReportState.SENT), "report", {"report": "sent"}),
    (observed.MicrophoneChanged(is_open=False, at_s=3.5), "microphone", {"open": False, "at": 3.5}),
    (observed.LoudspeakerOpened(), "loudspeaker", {}),
    (observed.FirstAudio(4.5), "first_audio", {"at": 4.5}),
    (observed.SoundLost("xrun", is_capture=True), "sound_failed", {"code": "xrun", "capture": True}),
]


@pytest.mark.parametrize(("event", "name", "facts"), LINES, ids=lambda value: type(value).__name__)
def test_every_event_has_its_line(event: Observed, name: str, facts: dict[str, object]) -> None:
    said, given = describe(event)
    assert said == name
    assert json.loads(json.dumps(given)) == facts


def test_no_event_is_without_one() -> None:
    assert {type(event) for event, _, _ in LINES} == set(get_args(Observed))
