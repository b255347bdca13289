"""Which new settings need a new start."""

from __future__ import annotations

import pytest

from voicemeet_edge.settings import Settings
from voicemeet_edge.system.reload import needs_start


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("", False),
        ("[audio]\nvolume = 30\nmicrophone_gain_db = 6.0\n[panel]\nnight_level = 10\n", False),
        ('[log]\nlevel = "debug"\n', False),
        ('[call]\npool = "other"\n', True),
        ('[audio]\nvolume = 30\ncapture = "plughw:CARD=Other"\n', True),
        ("[panel]\nhold_s = 2.0\n", True),
    ],
)
def test_what_can_be_taken_at_once(text: str, needed: bool) -> None:
    assert needs_start(Settings.parse(""), Settings.parse(text)) is needed
