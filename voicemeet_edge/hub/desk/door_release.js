// Opening the door, as seen from the desk (docs/contract.md, "Opening the door"). Pure: told the time, it returns
// what to send. Rule: only this person's own last click opens, and only within two seconds of it; a challenge for
// anything else is not answered.

import { hex } from './words.js';

const FRESH_MS = 2_000; // from the click to our answer of the challenge
const REQUEST_BYTES = 16;
const ANSWER_MS = 4_000; // from the click to the door's last word; then the person may click again

export class DoorRelease {
  constructor(random = () => hex(crypto.getRandomValues(new Uint8Array(REQUEST_BYTES)))) {
    this.random = random;
    this.shown = null; // null: no door to open; else {state, reason}
    this.request = null;
    this.clickedAt = 0;
  }

  /** How long the answer may take, for the timer that calls `giveUp`. */
  static get answerS() {
    return ANSWER_MS / 1000;
  }

  /** A person clicked; returns the fields of `open`, or null. */
  click(now) {
    if (!this.shown || ['asking', 'open'].includes(this.shown.state)) return null;
    this.request = this.random();
    this.clickedAt = now;
    this.answeredChallenge = false;
    this.shown = { state: 'asking' };
    return { request: this.request };
  }

  /** The door said something; returns the fields of an `open` to send, or null. */
  receive({ state, request, challenge, reason }, now) {
    if (state === 'ready') {
      this.shown ??= { state: 'ready' };
      return null;
    }
    if (!this.request || request !== this.request) return null;
    if (state === 'challenge') {
      if (this.answeredChallenge || !challenge || now - this.clickedAt > FRESH_MS) return null;
      this.answeredChallenge = true;
      return { request, challenge };
    }
    this.shown = { state, reason };
    return null;
  }

  /** The door said nothing in time. */
  giveUp() {
    if (this.shown?.state !== 'asking') return;
    this.request = null; // what comes later was for a click that is over
    this.shown = { state: 'silent' };
  }
}
