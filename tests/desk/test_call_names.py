"""Whose word for its name a desk shows; in Node, without a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.desk.in_node import in_node
from voicemeet_edge.errors import MessageError
from voicemeet_edge.signaling.messages import MAX_NAME_CHARS, parse

HELLO = """
  const { Call } = await import('./desk/call.js');
  const { MessageFilter } = await import('./desk/messages.js');
  const { NoSeal } = await import('./desk/sealed.js');
  const match = { slot: 'b', token: '', call_id: 'call', max_call_s: 0, token_ttl_s: 0 };
  const call = new Call(match, 'called', { keys: [], pass, onCall() {} });
  Object.assign(call, { filter: new MessageFilter('b'), envelope: new NoSeal(), showWords() {} });
  if (sealed) call.envelope = { sealed, verified: true, open: async (event, payload) => payload };
  call.negotiation = { receive: () => [], joined: () => [] };
  await call.onMessage('hello', { v: 1, slot: 'a', seq: 1, name: 'Side entrance' });
  return [call.phase, call.name];
"""


@pytest.mark.parametrize(
    ("sealed", "shown_pass", "name"),
    [
        ("false", "null", None),
        ("true", "null", "Side entrance"),
        ("false", "'pass'", "Side entrance"),
    ],
    ids=["anybody", "sealed", "closed pool"],
)
def test_a_name_that_anybody_can_say_is_not_shown(
    tmp_path: Path, sealed: str, shown_pass: str, name: str | None
) -> None:
    told = in_node(tmp_path, f"const sealed = {sealed}, pass = {shown_pass}; {HELLO}")
    assert told == ["ringing", name]


def test_a_name_is_as_long_as_a_person_counts_it(tmp_path: Path) -> None:
    """As a door's settings count: or a desk takes its hello for nonsense, and never rings."""
    names = ["🚪" * MAX_NAME_CHARS, "🚪" * (MAX_NAME_CHARS + 1), "a" * (MAX_NAME_CHARS + 1)]
    here = [is_taken(name) for name in names]
    there = in_node(
        tmp_path,
        "const { parse } = await import('./desk/messages.js');"
        "const taken = (name) => parse('hello', { v: 1, slot: 'a', seq: 1, name }) !== null;"
        f" return {json.dumps(names)}.map(taken);",
    )
    assert there == here == [True, False, False]


def is_taken(name: str) -> bool:
    try:
        parse("hello", {"v": 1, "slot": "a", "seq": 1, "name": name})
    except MessageError:
        return False
    return True
