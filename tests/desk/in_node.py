"""The pages' modules in Node, without a browser: for what needs no page, or next to nothing of one."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import voicemeet_edge.hub
import voicemeet_edge.languages

HUB = Path(voicemeet_edge.hub.__file__).parent
LANGUAGES = Path(voicemeet_edge.languages.__file__).parent
LONGEST_S = 60  # of a script; each ends in well under a second

# Timers that never fire, a hub that refuses all but its files, elements that keep what is written to them.
PAGE = """
import { readFile } from 'node:fs/promises';
globalThis.window = globalThis;
globalThis.navigator ??= { languages: ['en'] };
globalThis.Worker = class { postMessage() {} };
globalThis.fetch = async (url, options = {}) => {
  if (!String(url).startsWith('file:')) {
    new Headers(options.headers); // as a browser reads them
    return new Response('{}', { status: 401 });
  }
  return new Response(await readFile(new URL(url)));
};
const kept = new Map();
globalThis.sessionStorage = {
  getItem: (name) => kept.get(name) ?? null,
  setItem: (name, text) => void kept.set(name, text),
  removeItem: (name) => void kept.delete(name),
};
globalThis.location = { hash: '', pathname: '/', search: '', href: 'https://hub.example/' };
globalThis.addEventListener = () => {};
class Element {
  constructor() {
    Object.assign(this, { hidden: false, value: '', textContent: '', dataset: {}, heard: {} });
    Object.assign(this, { classList: { add() {}, remove() {}, contains: () => false } });
  }
  addEventListener(kind, act) { this.heard[kind] = act; }
  get tBodies() { return [this]; }
  querySelector() { return this; }
  replaceChildren() {}
  setAttribute() {}
  scrollIntoView() {}
  focus() {}
}
const elements = new Map();
globalThis.$ = (id) => elements.get(id) ?? (elements.set(id, new Element()), elements.get(id));
globalThis.document = {
  documentElement: { lang: '' },
  getElementById: $,
  querySelectorAll: () => [],
  createElement: () => new Element(),
};
Object.assign(globalThis, { isSecureContext: true, localStorage: sessionStorage });
Object.assign(document, { body: $('body'), addEventListener() {} });
globalThis.until = async (reached) => {
  for (let turn = 0; turn < 1000 && !reached(); turn += 1) await new Promise((done) => setTimeout(done, 1));
};
"""


def in_node(folder: Path, body: str, replaced: Mapping[str, str] | None = None) -> object:
    """Run the body of an async function beside `desk/` and `operator/`, and return what it returns.

    Args:
        folder: an empty one.
        body: of the function.
        replaced: modules of the desk that are these instead, by the name of their file.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (Debian package nodejs)")
    for name in ("desk", "operator"):
        shutil.copytree(HUB / name, folder / name, dirs_exist_ok=True)
    for path in LANGUAGES.glob("*.json"):
        shutil.copy(path, folder / "desk")
    for path in (folder / "operator").glob("*.js"):
        path.write_text(path.read_text().replace("'/desk/", "'../desk/"))
    for name, text in (replaced or {}).items():
        (folder / "desk" / name).write_text(text)
    (folder / "package.json").write_text(json.dumps({"type": "module"}))
    (folder / "page.js").write_text(PAGE)
    (folder / "main.js").write_text(
        "import './page.js';\n"
        f"const told = await (async () => {{ {body} }})();\n"
        "process.stdout.write(JSON.stringify(told ?? null), () => process.exit(0));\n"
    )
    done = subprocess.run(
        [node, "main.js"], cwd=folder, capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: object = json.loads(done.stdout)
    return answer


class Module:
    """The page's modules, asked as a page is: pure ones need no browser, which takes seconds."""

    def __init__(self, folder: Path) -> None:
        """Take an empty folder."""
        self._folder = folder

    async def evaluate(self, expression: str) -> Any:
        """Return what an expression comes to."""
        body = "return await " + expression.replace("'/desk/", "'./desk/")
        return await asyncio.to_thread(in_node, self._folder, body)
