"""`voicemeet-edge fleet` believes neither the hub nor the devices."""

from __future__ import annotations

import pytest

from tests.web import Answers, serving
from voicemeet_edge.backend.admission import new_pass
from voicemeet_edge.cli_fleet import ask, rows_of, unsealed
from voicemeet_edge.errors import BackendError, EnvironmentFault, LocalError
from voicemeet_edge.fleet_seal import make_key, seal


@pytest.mark.parametrize(
    "row",
    [
        {"name": "\x1b[2J", "faults": [], "seen_s": 1},
        {"name": "Gate", "faults": "all", "seen_s": 1},
        {"name": "Gate", "faults": [], "seen_s": "now"},
        {"name": "Gate", "faults": []},
        {"device": "0" * 16, "sealed": 5, "seen_s": 1},
    ],
)
def test_nothing_is_shown_of_what_is_out_of_shape(row: dict[str, object]) -> None:
    private, public = make_key()
    sealed = {"device": "0" * 16, "sealed": seal(public, "0" * 16, row | {"at": "soon"}), "seen_s": 1}
    for told in (row, sealed):
        shown = unsealed(told, private, 1_000.0)
        assert set(shown) == {"seen_s", "state"}
        assert shown["state"].split(":")[0] in (
            "out of shape",
            "sealed with another fleet key, or changed on the way",
        )


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"devices": 5}', b"[" * 100_000, b"\xff"])
def test_what_is_no_list_of_devices_is_no_hub(answer: bytes) -> None:
    with pytest.raises(EnvironmentFault, match="no hub"):
        rows_of(answer)


def test_the_pass_goes_to_no_place_that_the_hub_points_at() -> None:
    asked = []

    class PointsElsewhere(Answers):
        def do_GET(self) -> None:  # noqa: N802 - http.server's name
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

    with serving(PointsElsewhere) as url, pytest.raises(EnvironmentFault, match="302"):
        ask(url, "", new_pass())
    assert asked == ["/operator/api/fleet"]


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "hub", "https://user:word@hub", "https://hub/operator/"]
)
def test_an_address_that_is_none_is_said_to_be(url: str) -> None:
    with pytest.raises(LocalError, match="address"):
        ask(url, "", new_pass())


def test_a_hub_that_is_away_is_said_in_words() -> None:
    with pytest.raises(BackendError, match="nobody listens"):
        ask("https://127.0.0.1:1", "", new_pass())
