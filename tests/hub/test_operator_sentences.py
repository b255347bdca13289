"""What the operator's page says of slips, and what it forgets; in Node, with next to nothing of a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.desk.in_node import in_node

SUBMIT = """
  await import('./operator/operator.js');
  const submit = async (id) => {
    $('fault').textContent = '';
    $(id).heard.submit({ preventDefault() {} });
    await until(() => $('fault').textContent);
    return $('fault').textContent;
  };
"""


@pytest.mark.parametrize(("typed", "said"), [("", "first"), ("abc", "43"), ("ä" * 43, "only letters")])
def test_a_mistyped_key_is_told_in_words(tmp_path: Path, typed: str, said: str) -> None:
    told = in_node(tmp_path, f"{SUBMIT} $('key-text').value = '{typed}'; return submit('key-form');")
    assert isinstance(told, str)
    assert said in told


def test_a_pass_with_foreign_letters_is_a_wrong_pass_and_not_a_silent_hub(tmp_path: Path) -> None:
    # Such letters fit into no header: the browser refuses to ask, which looks like a hub that is off.
    told = in_node(
        tmp_path, f"{SUBMIT} $('operator-pass').value = '0123\u2013\u00e4\u0142'; return submit('login');"
    )
    assert told == "This is no operator’s pass here, or it was taken back."


def test_signing_out_takes_a_key_with_it_that_was_typed_and_not_used(tmp_path: Path) -> None:
    told = in_node(
        tmp_path,
        f"{SUBMIT} $('key-text').value = 'secret'; $('leave').heard.click(); return $('key-text').value;",
    )
    assert told == ""


def test_a_browser_that_holds_its_store_back_keeps_nobody_out(tmp_path: Path) -> None:
    # A page that was left while it made the store may hold it: the next one's question is never answered.
    held = "globalThis.indexedDB = { open: () => ({}) };"
    told = in_node(
        tmp_path,
        f"""{held} {SUBMIT}
        const {{ fleetKey }} = await import('./operator/fleet_key.js');
        $('operator-pass').value = 'x';
        return [await submit('login'), (await fleetKey()) ?? 'none'];""",
    )
    assert told == ["This is no operator’s pass here, or it was taken back.", "none"]
