"""Why calls end: each word sorted, each word said by somebody, and none that is sorted nowhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from voicemeet_edge.reasons import EndReason, ReasonKind
from voicemeet_edge.signaling.messages import Bye, parse, serialize

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "voicemeet_edge"
# What raises these is told to whoever asked and ends no call: the code never leaves the connection.
NOT_ENDS = {"closed", "aiortc_version", "no_description", "no_certificate"}


def raised_codes(path: Path, *errors: str) -> Iterator[str]:
    """Yield the `code="…"` of every call of one of these error classes in a file or folder."""
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            for keyword in node.keywords:
                if name in errors and keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                    yield str(keyword.value.value)


@pytest.mark.parametrize(
    ("where", "errors"),
    [
        ("webrtc", ("MediaError", "SdpError", "_connect_error")),
        ("call/words.py", ("MessageError",)),
    ],
)
def test_whatever_ends_a_call_is_sorted(where: str, errors: tuple[str, ...]) -> None:
    codes = set(raised_codes(PACKAGE / where, *errors)) - NOT_ENDS
    assert len(codes) >= 3, "the search finds nothing any more"
    assert codes <= {reason.value for reason in EndReason}


def test_every_failure_of_the_dtls_handshake_is_sorted() -> None:
    lines = [line for file in (PACKAGE / "webrtc").glob("*.py") for line in file.read_text().splitlines()]
    codes = {word for line in lines if "self.failure = " in line for word in re.findall(r'"(\w+)"', line)}
    assert len(codes) >= 4, "the search finds nothing any more"
    assert codes <= {reason.value for reason in EndReason}


def test_no_reason_without_a_cause() -> None:
    own = {PACKAGE / "reasons.py", PACKAGE / "hub" / "desk" / "reasons.js"}
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.js"), ROOT / "docs" / "contract.md"]
    text = "\n".join(file.read_text() for file in files if file not in own)
    named = set(re.findall(r"EndReason\.(\w+)", text))
    written = set(re.findall(r"(?<=[\"'`])\w+(?=[\"'`])", text))
    nobody = [one.value for one in EndReason if one.name not in named and one.value not in written]
    assert not nobody, f"nobody can cause {nobody}"


def test_a_word_nobody_knows_means_that_it_did_not_work() -> None:
    assert EndReason.of("hung_up") is EndReason.HUNG_UP
    for word in ("hangup", "", "HUNG_UP", "x" * 1000):
        assert EndReason.of(word) is EndReason.FAILED


def test_who_is_reported_does_not_learn_it() -> None:
    told = {reason: reason.said for reason in EndReason if reason.said is not reason}
    assert told == {EndReason.REPORTED: EndReason.HUNG_UP}


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_reason_goes_into_a_bye_and_comes_out_again(reason: EndReason) -> None:
    event, payload = serialize(Bye("a", 1, reason))
    received = parse(event, payload)
    assert isinstance(received, Bye)
    assert EndReason.of(received.reason) is reason


def test_every_kind_is_used() -> None:
    assert {reason.kind for reason in EndReason} == set(ReasonKind)
