"""Going on duty; in Node, with next to nothing of a page, and a call that is simply there."""

from __future__ import annotations

from pathlib import Path

from tests.desk.in_node import in_node

PARTS = {
    "sounds.js": "export const [allow, ring, chime, retry, whenSilent] = Array(5).fill(() => {});",
    "microphone.js": "export const [tryOut, trouble, watch] = Array(3).fill(async () => null);",
    "realtime.js": "export class Realtime { proven = true; connect() {} close() {} }",
    "finder.js": """
        export class Finder {
          constructor() { globalThis.finder = this; this.state = 'free'; }
          become(state) { this.state = state; }
          stop() {}
          find() { return new Promise(() => {}); }
        }""",
    "arrivals.js": """
        const call = { phase: 'ringing', finished: new Promise(() => {}) };
        export class Arrivals {
          next() { return new Promise((ring) => { globalThis.letRing = () => ring(call); }); }
        }""",
}


ON_DUTY = """
  Object.assign(navigator, { mediaDevices: { addEventListener() {} } });
  const hub = globalThis.fetch;
  globalThis.fetch = async (url) =>
    (url === 'config.json' ? new Response('{"realtime": "/r", "verbs": "/v", "apikey": ""}') : hub(url));
  const { ready, model } = await import('./desk/desk.js');
  await ready;
  const goOnDuty = async () => {
    $('setup').heard.submit({ preventDefault() {} });
    await until(() => globalThis.letRing);
  };
"""


def test_no_dialog_hides_the_button_that_answers(tmp_path: Path) -> None:
    body = """
      const closed = [];
      const dialogs = ['settings', 'report-dialog'].map((id) => {
        $(id).close = () => closed.push(id);
        return $(id);
      });
      document.querySelectorAll = (selector) => (selector === 'dialog[open]' ? dialogs : []);
      await goOnDuty();
      letRing();
      await until(() => model.state === 'ringing');
      return [model.state, closed];"""
    assert in_node(tmp_path, ON_DUTY + body, PARTS) == ["ringing", ["settings", "report-dialog"]]


def test_who_takes_no_calls_says_so_to_the_server_from_the_beginning(tmp_path: Path) -> None:
    # The clock was looked at before duty already: that nothing changed since is no reason to say nothing.
    body = """
      $('disturb').heard.click();
      const before = model.away !== null;
      await goOnDuty();
      return [before, finder.state];"""
    assert in_node(tmp_path, ON_DUTY + body, PARTS) == [True, "away"]
