"""The page's own modules against the Python ones: the same bytes, the same words, the same refusals."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from tests.desk.conftest import Desks
from tests.desk.in_node import Module
from tests.signaling.test_sealed import meet
from voicemeet_edge.call.keys import key_check, new_key, qr_text
from voicemeet_edge.call.wordlist import EVEN, ODD
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.signaling.sealed import Sealer
from voicemeet_edge.testing.browser import BrowserError
from voicemeet_edge.testing.descriptions import leaks
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.opus import OpusDecoder, parse_packet
from voicemeet_edge.webrtc.sdp import parse as parse_sdp

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

TESTS = Path(__file__).parents[1]
SEALED = json.loads((TESTS / "signaling" / "sealed_vectors.json").read_text())
WORDS = json.loads((TESTS / "call" / "words_vectors.json").read_text())
KEY = bytes(range(32))

USE_SEALED = """
  const { Sealer, NoSeal, toBase64url } = await import('/desk/sealed.js');
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
              const other = vector.slot === 'a' ? 'b' : 'a';
              const random = (slot) => ({ prefix, fresh: bytes(vector[`fresh_${slot}`]) });
              const sealer = await Sealer.make([key], vector.call_id, vector.slot, random(vector.slot));
              const peer = await Sealer.make([key], vector.call_id, other, random(other));
              if (!vector.is_knock) sealer.send = (await sealer.hear(toBase64url(peer.fresh))).send;
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


def refused_wires(a: Sealer) -> list[tuple[str, object, str]]:
    """What another end than ours, or somebody between, may send: event, wire, and what becomes of it."""
    messages = [{"v": 1, "slot": "a", "seq": seq} for seq in range(1, 70)]
    knock = Sealer([KEY], "call", "a").seal("ring", messages[0])
    wires = [a.seal("ring", message) for message in messages]
    text = str(wires[0]["sealed"])
    foreign = Sealer([KEY], "other call", "a").seal("ring", messages[0])
    unknown = {"k": "AAAAAAAA"}
    return [
        ("ring", knock, "not_fresh"),
        ("ring", foreign, "wrong_key"),
        ("ring", wires[1], "opened"),
        ("ring", wires[1], "replay"),
        ("ring", foreign, "not_fresh"),
        ("ring", wires[0] | {"f": "A"}, "malformed"),
        ("accept", wires[0], "seal_broken"),
        ("ring", wires[0] | {"seq": 999}, "seal_broken"),
        ("ring", wires[0] | {"slot": "b"}, "reflection"),
        ("ring", wires[0] | {"sealed": text[:400]}, "truncated"),
        ("ring", wires[0] | {"sealed": ("B" if text[0] == "A" else "A") + text[1:]}, "seal_broken"),
        ("ring", wires[0] | {"sealed": "A" * 40000}, "too_big"),
        ("ring", wires[0] | {"sealed": "A+/="}, "malformed"),
        ("ring", wires[0] | {"v": 2}, "malformed"),
        ("ring", wires[0] | {"seq": 0}, "malformed"),
        ("ring", wires[0] | unknown, "wrong_key"),
        ("ring", messages[0], "peer_not_sealed"),
        ("ring", None, "malformed"),
        ("ring", [], "malformed"),
        ("ring", wires[0], "opened"),
        ("ring", wires[68], "opened"),
        ("ring", wires[2], "old"),
    ]


async def test_the_page_refuses_what_python_refuses(page: Module) -> None:
    a, b = Sealer([KEY], "call", "a"), Sealer([KEY], "call", "b")
    fresh = bytes(range(16))
    b._fresh = fresh
    meet(a, b)
    cases = refused_wires(a)
    got = await page.evaluate(
        script(
            """
            const random = { fresh: bytes(fresh) };
            const end = await Sealer.make([await importKey(bytes(key))], 'call', 'b', random);
            const results = [];
            for (const [event, wire] of cases) results.push(await refusal(end, event, wire));
            return results;""",
            key=KEY.hex(),
            fresh=fresh.hex(),
            cases=cases,
        )
    )
    assert got == [expected for _, _, expected in cases]
    twice = await page.evaluate(
        script(
            """
            const random = { fresh: bytes(fresh) };
            const end = await Sealer.make([await importKey(bytes(key))], 'call', 'b', random);
            const both = await Promise.all([refusal(end, 'ring', wire), refusal(end, 'ring', wire)]);
            return [both.sort(), await refusal(new NoSeal(), 'ring', wire)];""",
            key=KEY.hex(),
            fresh=fresh.hex(),
            wire=next(wire for _, wire, becomes in cases if becomes == "opened"),
        )
    )
    assert twice == [["opened", "replay"], "peer_sealed"]


async def test_check_words_are_the_same_in_python_and_on_the_page(page: Module) -> None:
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


async def test_the_word_lists_are_the_same(page: Module) -> None:
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
async def test_a_mistyped_key_is_told_in_words(page: Module, typed: str, said: str) -> None:
    told = await page.evaluate(
        "import('/desk/texts.js').then(({ load }) => load('en')).then(() => import('/desk/keystore.js'))"
        f".then((m) => m.remember({typed!r})).catch((error) => error.message)"
    )
    assert said in told


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


async def test_a_description_with_two_fingerprints_is_refused(page: Module) -> None:
    """Or a hub could put the true one where the check words look and its own where DTLS does."""
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


def opus_frames() -> list[bytes]:
    """A second of speech as an encoder makes it that is not told to keep one size."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.bit_rate = 32_000
    said = speech_like(1.0)
    packets: list[bytes] = []
    for at in range(0, len(said) - 959, 960):
        frame = av.AudioFrame.from_ndarray(said[None, at : at + 960], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, at
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


async def test_a_padded_packet_has_one_size_and_the_same_sound(page: Module) -> None:
    frames = opus_frames()
    assert len({len(one) for one in frames}) > 5, "this encoder varies its sizes"
    body, toc = bytes(range(59)), frames[0][0] & ~3
    cases = [
        *frames,
        bytes((toc,)),  # no sound at all
        bytes((toc, *range(158))),  # as large as the count byte allows without padding
        bytes((toc | 1,)) + body * 2,  # two of one size
        bytes((toc | 2, 20)) + body,  # two of their own sizes
        bytes((toc | 3, 2)) + body * 2,  # counted, not padded
        bytes((toc, *([7] * 400))),
    ]
    padded = await page.evaluate(
        "import('/desk/padding.js').then(({ pad }) =>"
        f" {json.dumps([list(one) for one in cases])}.map((bytes) => [...pad(new Uint8Array(bytes))]))"
    )
    assert {len(one) for one in padded[:-1]} <= {160, 240}
    assert {len(one) for one in padded[len(frames) : -1]} == {160}
    assert len(padded[-1]) == 1275
    plain, filled = OpusDecoder(), OpusDecoder()
    for before, after in zip(frames, padded, strict=False):
        np.testing.assert_array_equal(plain.decode(before), filled.decode(bytes(after)))
    for before, after in zip(cases[len(frames) :], padded[len(frames) :], strict=True):
        assert parse_packet(bytes(after)).frames == parse_packet(before).frames
    again = await page.evaluate(
        "import('/desk/padding.js').then(({ pad }) =>"
        f" {json.dumps(padded)}.map((bytes) => [...pad(new Uint8Array(bytes))]))"
    )
    assert again == padded, "what is padded is left alone"


async def test_the_desk_sends_the_best_candidates_only(page: Module) -> None:
    hosts = [f"a=candidate:{n} 1 udp {2122260223 - n} 172.{n}.0.1 5000 typ host" for n in range(60)]
    relay = "a=candidate:99 1 udp 41885439 198.51.100.1 3478 typ relay raddr 0.0.0.0 rport 9"
    text = json.dumps("\r\n".join(["v=0", "m=audio 9 UDP/TLS/RTP/SAVPF 111", *hosts, relay]))
    sent = await page.evaluate(
        f"import('/desk/sdp.js').then(({{ forTheWire }}) => forTheWire({text}, 'direct'))"
    )
    kept = [line for line in sent.splitlines() if line.startswith("a=candidate:")]
    assert kept == [*hosts[:31], relay]


async def test_no_name_of_the_peers_is_looked_up(page: Module) -> None:
    # Fails without isAddressed (sdp.js): the browser then asks the peer's own name server.
    lines = {
        "candidate:1 1 udp 1 192.0.2.7 9 typ host": True,
        "candidate:1 1 udp 1 2001:db8::7 9 typ host": True,
        "candidate:1 1 udp 1 ::ffff:192.0.2.7 9 typ host": True,
        "candidate:1 1 udp 1 0f3c7a52-1b1e-4c7e-9f0a-0123456789ab.local 9 typ host": True,
        "candidate:1 1 udp 1 spy.example 9 typ host": False,
        "candidate:1 1 udp 1 a.b.local 9 typ host": False,
        "candidate:1 1 udp 1 192.0.2.7.spy.example 9 typ host": False,
        "candidate:1 1 udp 1 localhost 9 typ relay": False,
        "candidate:1 1 udp 1": False,
        "": False,
    }
    got = await page.evaluate(
        script(
            """
            const { isAddressed, addressedOnly } = await import('/desk/sdp.js');
            const sdp = lines.map((line) => `a=${line}`).join('\\r\\n');
            return [lines.map(isAddressed), addressedOnly(sdp).split('\\r\\n')];""",
            lines=list(lines),
        )
    )
    assert got[0] == list(lines.values())
    assert [line for line in got[1] if "candidate" in line] == [
        f"a={line}" for line, good in lines.items() if good
    ]


async def test_no_name_of_the_peers_reaches_the_browsers_network(desks: Desks) -> None:
    # Fails without either use of them in media.js: what the browser is handed is what it looks up.
    page = await desks.page()
    spied = "candidate:1 1 udp 1 spy.example 9 typ host"
    plain = "candidate:2 1 udp 1 192.0.2.7 9 typ host"
    handed = await page.evaluate(
        script(
            """
            const { Media } = await import('/desk/media.js');
            const handlers = { onState() {}, onCandidate() {}, onTrack() {} };
            const handed = [];
            for (const name of ['setRemoteDescription', 'addIceCandidate']) {
              const real = RTCPeerConnection.prototype[name];
              RTCPeerConnection.prototype[name] = function (what) {
                handed.push(what.sdp ?? what.candidate);
                return real.call(this, what);
              };
            }
            const peer = await Media.make('direct', handlers);
            const media = await Media.make('direct', handlers);
            const offer = await peer.makeOffer(0);
            const named = lines.map((line) => `a=${line}\r\n`).join('');
            await media.takeCandidate(lines[0], '0');
            await media.makeAnswer(offer + named, 0);
            for (const line of lines) await media.takeCandidate(line, '0');
            for (const one of [peer, media]) one.connection.close();
            return handed;""",
            lines=[spied, plain],
        )
    )
    assert len(handed) == 2
    assert all(plain in what and "spy.example" not in what for what in handed)


async def test_who_is_on_the_way_holds_nobody_up_and_hears_when_another_rings(desks: Desks) -> None:
    # Fails without `other.end('busy')`, without `onSilent()`, and when the desk waits for each (arrivals.js).
    page = await desks.page()
    seen = await page.evaluate(
        script(
            """
            const { Arrivals } = await import('/desk/arrivals.js');
            const turn = () => new Promise((done) => setTimeout(done));
            const waiting = [];
            const finder = { stopped: 0, find: () => new Promise((found) => waiting.push(found)) };
            finder.stop = () => { finder.stopped += 1; waiting.splice(0).forEach((found) => found(null)); };
            class Call {
              constructor(match, onCall) {
                Object.assign(this, { match, onCall, ended: null, rang: false, byPeer: false });
                this.finished = new Promise((done) => { this.done = done; });
              }
              start() { this.started = true; }
              end(reason) { this.ended = this.reason = reason; this.done(); }
              ring() { this.rang = true; this.phase = 'ringing'; this.onCall(this); }
            }
            const calls = [];
            let silent = 0;
            const make = (match, onCall) => {
              calls.push(new Call(match, onCall));
              return calls.at(-1);
            };
            const arrivals = new Arrivals(finder, make, () => { silent += 1; });
            const next = arrivals.next();
            for (const match of lines) { waiting.shift()(match); await turn(); }
            const [first, second, third] = calls;
            first.end('peer_absent');
            await turn();
            const told = [silent, arrivals.silentCount];
            third.ring();
            const call = await next;
            await turn();
            return [told, call.match, calls.map(({ ended }) => ended), finder.stopped, waiting.length];""",
            lines=["one", "two", "three"],
        )
    )
    assert seen == [[1, 1], "three", ["peer_absent", "busy", None], 1, 0]
