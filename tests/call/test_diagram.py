"""The diagram in the docs is the table of today."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicemeet_edge.call.diagram import mermaid, replace_block

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_picture_in_the_docs_is_todays_table() -> None:
    text = ARCHITECTURE.read_text()
    assert replace_block(text) == text, "run: python -m voicemeet_edge.call.diagram docs/architecture.md"


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no markers"):
        replace_block("# nothing here")


def test_every_state_is_drawn() -> None:
    picture = mermaid()
    for word in ("idle", "seeking", "ringing", "connecting", "talking", "reconnecting", "ended"):
        assert word in picture
