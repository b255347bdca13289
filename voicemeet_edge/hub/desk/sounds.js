// The desk's sounds, made by code. Rule: the ring is heard only while somebody really waits, and a page that
// cannot ring says so.
//
// Browsers take the sound away from a page that waits: a phone call, a locked screen, another sound card. They
// leave its AudioContext suspended or interrupted and do not give it back by themselves.

import { after, every, within } from './clock.js';
import { preferences } from './preferences.js';

const RING_EVERY_MS = 3_000; // ms; two strokes and a pause, as desks are used to
const LOUDEST = 0.45; // of full scale, at 100 per cent; a desk stands beside people
const AWAKE_MS = 700; // a context that can come back does so at once
const AGAIN_MS = 5_000; // how often a sound that was taken away is asked for

let context = null;
let stopRing = null;
let silent = false;
let onSilent = () => {};
let cancelRetry = null;

/** `tell(yes)` is called when the page loses its sound, and when it has it again. */
export function whenSilent(tell) {
  onSilent = tell;
}

/** To be called in a click: browsers let no page make a sound before. */
export function allow() {
  context ??= make();
  wake();
}

/** Let the ring come from the chosen loudspeaker, where the browser lets a page choose. */
export function useLoudspeaker() {
  if (context?.setSinkId) context.setSinkId(preferences.ring).catch(() => {}); // unplugged: the system's own
}

/** Ask for the sound in a click or keystroke, which some browsers want to see. */
export function retry() {
  if (context && context.state !== 'running') wake();
}

function make() {
  const made = new AudioContext();
  if (preferences.ring && made.setSinkId) made.setSinkId(preferences.ring).catch(() => {});
  made.onstatechange = () => made === context && made.state !== 'running' && made.state !== 'closed' && wake();
  return made;
}

let waking = null;

/** Bring the context back, or make another; resolves to whether there is sound. */
function wake() {
  waking ??= revive().finally(() => (waking = null));
  return waking;
}

async function revive() {
  if (!(await resumed(context))) {
    // One that was interrupted may never come back, where a new one is allowed to sound.
    const fresh = make();
    const works = await resumed(fresh);
    const old = works ? context : fresh;
    if (works) context = fresh;
    old.onstatechange = null;
    if (old.state !== 'closed') old.close().catch(() => {});
  }
  const works = context.state === 'running';
  cancelRetry?.();
  cancelRetry = works ? null : after(AGAIN_MS, wake);
  if (silent === works) {
    silent = !works;
    onSilent(silent);
  }
  return works;
}

async function resumed(some) {
  if (some.state === 'closed') return false;
  if (some.state !== 'running') await within(AWAKE_MS, some.resume(), 'silent').catch(() => {});
  return some.state === 'running';
}

/** Play notes, [start in s, frequency, length in s, share of the level], once there is sound. */
async function play(notes) {
  if (!context) return;
  if (context.state !== 'running' && !(await wake())) return;
  const level = LOUDEST * (preferences.volume / 100) ** 2; // as ears judge it
  for (const [startS, frequency, lengthS, share = 1] of notes) note(frequency, startS, lengthS, level * share);
}

function note(frequency, startS, lengthS, level) {
  const at = context.currentTime + startS;
  const tone = context.createOscillator();
  const gain = context.createGain();
  tone.frequency.value = frequency;
  gain.gain.setValueAtTime(0, at);
  gain.gain.linearRampToValueAtTime(level, at + 0.02);
  gain.gain.setValueAtTime(level, at + lengthS - 0.08);
  gain.gain.linearRampToValueAtTime(0, at + lengthS);
  tone.connect(gain).connect(context.destination);
  tone.start(at);
  tone.stop(at + lengthS);
}

const STROKE = [[0, 659], [0.22, 523], [0.7, 659], [0.92, 523]].flatMap(([startS, frequency]) => [
  [startS, frequency, 0.2],
  [startS, frequency * 2, 0.2, 1 / 4],
]);

export function ring(on) {
  if (on === Boolean(stopRing)) return;
  stopRing?.();
  stopRing = null;
  if (!on || !context) return;
  play(STROKE);
  stopRing = every(RING_EVERY_MS, () => play(STROKE));
}

/** One ring, to hear how loud it is. */
export function ringOnce() {
  allow();
  play(STROKE);
}

/** Two short notes: up when a call begins, down when it is over. */
export function chime(up) {
  play([
    [0, up ? 523 : 659, 0.12],
    [0.13, up ? 659 : 440, 0.16],
  ]);
}
