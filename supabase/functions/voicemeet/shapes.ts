// The bodies of the verbs, read and checked. One rule: nothing passes that the contract does not name.
import { Refused } from "./errors.ts";

export type Slot = "a" | "b";
export type Fields = Record<string, unknown>;

export const TICKET = /^[A-Za-z0-9_-]{22,64}$/;
export const POOL = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/;
export const CALL_ID = /^[A-Za-z0-9_-]{22,64}$/;
export const PROOF = /^[A-Za-z0-9_-]{43}$/; // 32 bytes
export const WORD = /^[a-z][a-z0-9_]{0,31}$/;
export const DOOR = /^[0-9a-f]{32}$/;
const STATES = ["free", "busy", "away"];
const MAX_LEGS = 24; // desks that one caller rings at once
const MAX_LABEL = 512; // characters of what a door is called
export const ROLES = ["caller", "answerer", "either"];
const MAX_PASS_CHARS = 128; // as somebody may send it; in its one form it has 26
export const MAX_SECONDS = 86_400; // every time in the contract is at most a day

const bad = (message: string) => new Refused(400, "bad_request", message);

export function object(body: unknown): Fields {
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw bad("must be a JSON object");
  return body as Fields;
}

export function matching(fields: Fields, name: string, pattern: RegExp): string {
  const value = fields[name];
  if (typeof value !== "string" || !pattern.test(value)) throw bad(`${name} is missing or out of shape`);
  return value;
}

export function role(fields: Fields): string {
  const value = fields.role;
  if (typeof value !== "string" || !ROLES.includes(value)) {
    throw bad("role must be caller, answerer or either");
  }
  return value;
}

/** What a `match` says of ringing; what is not for this role is refused, not ignored. */
export function ringing(fields: Fields, asked: string): Fields {
  const found: Fields = {};
  if (fields.ring === true) found.ring = true;
  if (fields.again !== undefined) {
    if (!Array.isArray(fields.again) || fields.again.length > MAX_LEGS) {
      throw bad("again must be a short list");
    }
    found.again = fields.again.map((again) => matching({ again }, "again", CALL_ID));
  }
  if (fields.state !== undefined) {
    if (typeof fields.state !== "string" || !STATES.includes(fields.state)) {
      throw bad("state must be free, busy or away");
    }
    found.state = fields.state;
  }
  if (fields.stand_by === true) {
    const { label } = fields;
    if (typeof label !== "string" || label.length === 0 || label.length > MAX_LABEL || label.includes("\0")) {
      throw bad(`label must be a text of 1 to ${MAX_LABEL} characters`);
    }
    found.label = label;
  }
  if (fields.door !== undefined) found.door = matching(fields, "door", DOOR);
  const callers = found.ring !== undefined || found.label !== undefined ||
    (found.again as unknown[])?.length > 0;
  const answerers = found.door !== undefined || (found.state ?? "free") !== "free";
  if ((callers && asked !== "caller") || (answerers && asked !== "answerer")) {
    throw bad("this is not for that role");
  }
  if (found.ring !== undefined && found.label !== undefined) {
    throw bad("a ticket rings or stands by, not both");
  }
  return found;
}

export function seconds(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== "number" || !(value >= 0 && value <= MAX_SECONDS)) {
    throw bad(`${name} must be a number of seconds from 0 to ${MAX_SECONDS}`);
  }
  return value;
}

/** A pass in its one form (docs/contract.md, "Admission"), or null when it cannot be one. */
export function pass(fields: Fields): string | null {
  const value = fields.pass;
  if (typeof value !== "string" || value.length === 0 || value.length > MAX_PASS_CHARS) {
    throw bad(`pass must be a text of 1 to ${MAX_PASS_CHARS} characters`);
  }
  const letters = value.toLowerCase().replace(/[\s-]/g, "").replaceAll("o", "0").replace(/[il]/g, "1");
  return /^[0-9a-hjkmnp-tv-z]{26}$/.test(letters) ? letters : null;
}
