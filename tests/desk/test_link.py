"""What a link may bring into a browser; in Node, without a page."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.desk.in_node import in_node

PASS = "0" * 26
OURS, FOREIGN = (base64.urlsafe_b64encode(bytes([byte]) * 32).rstrip(b"=").decode() for byte in (1, 2))
STORE = """
  const kept = new Map();
  const request = (result) => {
    const made = { result };
    queueMicrotask(() => made.onsuccess());
    return made;
  };
  const store = {
    get: (name) => request(kept.get(name)),
    put: (value, name) => request(kept.set(name, value)),
    delete: (name) => request(kept.delete(name)),
  };
  const database = { transaction: () => ({ objectStore: () => store }), close() {} };
  globalThis.indexedDB = { open: () => request(database) };
  globalThis.history = { replaceState() { location.hash = ''; } };
  const { takeFromLink } = await import('./desk/admission.js');
  const { load } = await import('./desk/texts.js');
  const { recall, forget } = await import('./desk/keystore.js');
  await load('en');
  const open = async (fragment) => {
    location.hash = fragment;
    const said = await takeFromLink().catch((error) => error.message);
    return [said, location.hash, (await recall()).length, kept.get('pass lobby') ?? null];
  };
"""


def test_a_link_brings_pass_and_key_into_a_browser_without_one(tmp_path: Path) -> None:
    link = f"#pass={PASS}&pool=lobby&key={OURS}"
    told = in_node(tmp_path, f"{STORE} return [await open('{link}'), await open('{link}')];")
    assert told == [["lobby", "", 1, PASS]] * 2


def test_a_link_replaces_no_key(tmp_path: Path) -> None:
    # Any page can lead a browser here: with a key of its own it would be believed as a door of the building.
    ours, foreign = f"#pass={PASS}&pool=lobby&key={OURS}", f"#pass={'1' * 26}&pool=lobby&key={FOREIGN}"
    body = f"await open('{ours}'); const told = await open('{foreign}'); await forget();"
    told = in_node(tmp_path, f"{STORE} {body} return [told, await open('{foreign}')];")
    assert isinstance(told, list)
    (said, hash_after, keys, kept_pass), after_forgetting = told
    assert "another intercom key" in said
    assert (hash_after, keys, kept_pass) == ("", 1, PASS)
    assert after_forgetting == ["lobby", "", 1, "1" * 26]


def test_what_is_wrong_with_a_link_is_not_folded_away(tmp_path: Path) -> None:
    body = f"""{STORE}
      location.hash = '#pass=cut';
      const {{ ready, model }} = await import('./desk/desk.js');
      await ready;
      return [model.state, $('pass-error').textContent, $('pass-part').open];"""
    told = in_node(tmp_path, body)
    assert told == ["setup", "A pass has 26 letters and digits; this one has 3.", True]
