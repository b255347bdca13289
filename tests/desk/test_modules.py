"""The page's own modules against the Python ones: the same bytes, the same words, the same refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.desk.conftest import Desks
from voicemeet_edge.call.keys import key_check, new_key, qr_text
from voicemeet_edge.call.wordlist import EVEN, ODD
from voicemeet_edge.signaling.sealed import Sealer
from voicemeet_edge.testing.browser import BrowserError
from voicemeet_edge.webrtc.options import IcePolicy
from voicemeet_edge.webrtc.sdp import leaks
from voicemeet_edge.webrtc.sdp import parse as parse_sdp

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

TESTS = Path(__file__).parents[1]
SEALED = json.loads((TESTS / "signaling" / "sealed_vectors.json").read_text())
WORDS = json.loads((TESTS / "call" / "words_vectors.json").read_text())
KEY = bytes(range(32))

USE_SEALED = """
  const { Sealer, NoSeal } = await import('/desk/sealed.js');
  const { importKey } = await import('/desk/keystore.js');
  const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
  const refusal = async (end, event, wire) => {
    try { await end.open(event, wire); return 'opened'; } catch (error) { return error.code; }
  };
"""


def script(body: str, **values: object) -> str:
    given = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    return f"(async () => {{ {given} {USE_SEALED} {body} }})()"


async def test_sealing_is_the_same_in_python_and_in_the_browser(desks: Desks) -> None:
    page = await desks.page()
    got = await page.evaluate(
        script(
            """
            const results = [];
            for (const vector of vectors) {
              const key = await importKey(bytes(vector.key));
              const prefix = bytes(vector.prefix);
              const sealer = await Sealer.make([key], vector.call_id, vector.slot, prefix);
              const peer = await Sealer.make([key], vector.call_id, vector.slot === 'a' ? 'b' : 'a');
              results.push({
                wire: await sealer.seal(vector.event, vector.message),
                message: await peer.open(vector.event, vector.wire),
              });
            }
            return results;""",
            vectors=SEALED["sealed"],
        )
    )
    assert got == [{"wire": vector["wire"], "message": vector["message"]} for vector in SEALED["sealed"]]


async def test_the_browser_refuses_what_python_refuses(desks: Desks) -> None:
    page = await desks.page()
    a = Sealer([KEY], "call", "a")
    messages = [{"v": 1, "slot": "a", "seq": seq} for seq in range(1, 70)]
    wires = [a.seal("ring", message) for message in messages]
    text = str(wires[0]["sealed"])
    foreign = Sealer([KEY], "other call", "a").seal("ring", messages[0])
    cases: list[tuple[str, object, str]] = [
        ("ring", wires[1], "opened"),
        ("ring", wires[1], "replay"),
        ("accept", wires[0], "seal_broken"),
        ("ring", wires[0] | {"seq": 999}, "seal_broken"),
        ("ring", wires[0] | {"slot": "b"}, "reflection"),
        ("ring", wires[0] | {"sealed": text[:400]}, "truncated"),
        ("ring", wires[0] | {"sealed": ("B" if text[0] == "A" else "A") + text[1:]}, "seal_broken"),
        ("ring", wires[0] | {"sealed": "A" * 40000}, "too_big"),
        ("ring", wires[0] | {"sealed": "A+/="}, "malformed"),
        ("ring", wires[0] | {"v": 2}, "malformed"),
        ("ring", wires[0] | {"seq": 0}, "malformed"),
        ("ring", wires[0] | {"k": "AAAAAAAA"}, "wrong_key"),
        ("ring", foreign, "wrong_key"),
        ("ring", messages[0], "peer_not_sealed"),
        ("ring", None, "malformed"),
        ("ring", [], "malformed"),
        ("ring", wires[0], "opened"),
        ("ring", wires[68], "opened"),
        ("ring", wires[2], "old"),
    ]
    got = await page.evaluate(
        script(
            """
            const end = await Sealer.make([await importKey(bytes(key))], 'call', 'b');
            const results = [];
            for (const [event, wire] of cases) results.push(await refusal(end, event, wire));
            return results;""",
            key=KEY.hex(),
            cases=cases,
        )
    )
    assert got == [expected for _, _, expected in cases]
    twice = await page.evaluate(
        script(
            """
            const end = await Sealer.make([await importKey(bytes(key))], 'call', 'b');
            const both = await Promise.all([refusal(end, 'ring', wire), refusal(end, 'ring', wire)]);
            return [both.sort(), await refusal(new NoSeal(), 'ring', wire)];""",
            key=KEY.hex(),
            wire=wires[0],
        )
    )
    assert twice == [["opened", "replay"], "peer_sealed"]


async def test_check_words_are_the_same_in_python_and_in_the_browser(desks: Desks) -> None:
    page = await desks.page()
    got = await page.evaluate(
        script(
            """
            const { WordsExchange } = await import('/desk/words.js');
            const results = [];
            for (const vector of vectors) {
              const { call_id: call, fingerprint_a: printA, fingerprint_b: printB } = vector;
              const a = await WordsExchange.make('a', call, printA, bytes(vector.nonce_a));
              const b = await WordsExchange.make('b', call, printB, bytes(vector.nonce_b));
              const early = b.helloFields();
              const steps = [b.onHello(undefined, a.helloFields().commitment)];
              const said = b.helloFields();
              steps.push(a.onHello(said.nonce, said.commitment));
              b.onReveal(a.revealNonce());
              let middle = 'none';
              try { await a.words(printA); } catch (error) { middle = error.code; }
              let second = 'none';
              try { b.onReveal('12'.repeat(32)); } catch (error) { second = error.code; }
              results.push({
                early, steps, middle, second,
                commitments: [a.helloFields().commitment, said.commitment],
                words: [await a.words(printB), await b.words(printA)],
              });
            }
            return results;""",
            vectors=WORDS,
        )
    )
    for vector, result in zip(WORDS, got, strict=True):
        assert result == {
            "early": {},
            "steps": ["hello", "reveal"],
            "middle": "bad_commitment",
            "second": "words_changed",
            "commitments": [vector["commitment_a"], vector["commitment_b"]],
            "words": [vector["words"], vector["words"]],
        }


async def test_the_word_lists_are_the_same(desks: Desks) -> None:
    page = await desks.page()
    lists = await page.evaluate("import('/desk/wordlist.js').then(({ EVEN, ODD }) => [EVEN, ODD])")
    assert lists == [list(EVEN), list(ODD)]


async def test_a_key_is_kept_so_that_nobody_can_read_it_again(desks: Desks) -> None:
    page = await desks.page()
    first, second, third = new_key(), new_key(), new_key()
    remember = "import('/desk/keystore.js').then(m => m.remember({}))".format
    assert await page.evaluate(remember(json.dumps(first.reveal()))) == key_check(first)
    assert await page.evaluate(remember(json.dumps(qr_text(second)))) == key_check(second)
    recall = "import('/desk/keystore.js').then(m => m.recall())"
    checks = f"{recall}.then(keys => keys.map(k => k.check))"
    assert await page.evaluate(checks) == [key_check(second), key_check(first)]
    await page.evaluate(remember(json.dumps(first.reveal())))
    assert await page.evaluate(checks) == [key_check(first), key_check(second)]
    await page.evaluate(remember(json.dumps(third.reveal())))
    assert await page.evaluate(checks) == [key_check(third), key_check(first)]
    assert await page.evaluate(f"{recall}.then(keys => keys.map(k => k.key.extractable))") == [False, False]
    with pytest.raises(BrowserError, match="exportKey"):
        await page.evaluate(f"{recall}.then(([k]) => crypto.subtle.exportKey('raw', k.key))")
    await page.evaluate("import('/desk/keystore.js').then(m => m.forget())")
    assert await page.evaluate(checks) == []


@pytest.mark.parametrize(
    ("typed", "said"), [("", "first"), ("abc", "43"), ("!" * 43, "only"), ("A" * 42 + "B", "mistyped")]
)
async def test_a_mistyped_key_is_told_in_words(desks: Desks, typed: str, said: str) -> None:
    page = await desks.page()
    with pytest.raises(BrowserError, match=said):
        await page.evaluate(f"import('/desk/keystore.js').then(m => m.remember({typed!r}))")


async def test_descriptions_are_cut_down_to_what_we_chose(desks: Desks) -> None:
    page = await desks.page()
    offers = await page.evaluate(
        """(async () => {
          const { Media } = await import('/desk/media.js');
          const results = [];
          for (const policy of ['direct', 'relay']) {
            const media = await Media.make(policy, { onState() {}, onCandidate() {}, onTrack() {} });
            results.push(await media.makeOffer(0));
            media.drop();
          }
          return results;
        })()"""
    )
    direct, relay = offers
    assert "typ host" in direct
    assert "candidate" not in relay
    for offer, policy in ((direct, IcePolicy.DIRECT), (relay, IcePolicy.RELAY)):
        assert parse_sdp(offer).opus_type == 111
        assert leaks(offer, policy) == []
        assert offer.count("a=rtpmap:") == 1
        assert "opus/48000/2" in offer
        assert "useinbandfec=1" in offer
        assert "cbr=1" in offer
        for never in ("extmap", "rtcp-fb", "telephone-event", " tcp "):
            assert never not in offer
        addresses = [line for line in offer.splitlines() if line.startswith(("c=", "o=", "a=rtcp:"))]
        assert all(line.endswith(("0.0.0.0", "127.0.0.1")) for line in addresses)


async def test_a_description_with_two_fingerprints_is_refused(desks: Desks) -> None:
    """Or a hub could put the true one where the check words look and its own where DTLS does."""
    page = await desks.page()
    ours, theirs = (f"a=fingerprint:sha-256 {':'.join([byte] * 32)}" for byte in ("AA", "BB"))
    cases = [
        [ours],
        [ours.lower(), ours],
        [ours, theirs],
        [ours, "a=fingerprint:sha-512 CC"],
        [],
        [ours[:-3]],
    ]
    got = await page.evaluate(
        "import('/desk/sdp.js').then(({ fingerprint }) =>"
        f" {json.dumps(cases)}.map((lines) => fingerprint(['v=0', ...lines, ''].join('\\r\\n'))))"
    )
    assert [bool(print_) for print_ in got] == [True, True, False, False, False, False]
