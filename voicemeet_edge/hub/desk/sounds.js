// The desk's sounds, made by code. Rule: the ring is heard only while somebody really waits.

import { every } from './clock.js';

const RING_EVERY_MS = 3_000; // ms; two strokes and a pause, as desks are used to
const LEVEL = 0.22; // of full scale; a desk stands beside people

let context = null;
let stopRing = null;

/** To be called in a click: browsers let no page make a sound before. */
export function allow() {
  context ??= new AudioContext();
  context.resume().catch(() => {});
}

function note(frequency, startS, lengthS, level = LEVEL) {
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

function stroke() {
  for (const [startS, frequency] of [[0, 659], [0.22, 523], [0.7, 659], [0.92, 523]]) {
    note(frequency, startS, 0.2);
    note(frequency * 2, startS, 0.2, LEVEL / 4);
  }
}

export function ring(on) {
  if (on === Boolean(stopRing)) return;
  stopRing?.();
  stopRing = null;
  if (!on || !context) return;
  stroke();
  stopRing = every(RING_EVERY_MS, stroke);
}

/** Two short notes: up when a call begins, down when it is over. */
export function chime(up) {
  if (!context) return;
  note(up ? 523 : 659, 0, 0.12);
  note(up ? 659 : 440, 0.13, 0.16);
}
