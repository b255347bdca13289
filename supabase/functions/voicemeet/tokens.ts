// Tokens. One rule: each opens one door. The device token is signed with a secret of ours that the platform
// never sees, so no service of the platform accepts it; call and wait tokens are signed so that Realtime does.
import { badToken } from "./errors.ts";
import { CALL_ID, type Slot } from "./shapes.ts";

export const SHORT_PASS_DIGITS = 16; // of a pass's hash, in the device token
export const MAX_TOKEN_LENGTH = 4096; // characters
export const DEVICE_TTL_S = 86_400;
export const CALL_TTL_S = 600;
export const WAIT_TTL_S = 600;
export const OLD_TOKEN_GRACE_S = 7 * 86_400; // an expired device token still hands its score on
export const REPORT_GRACE_S = 3_600; // a call token is taken for a report this long after its expiry
export const MAX_KNOWN = 2_000; // device tokens a worker remembers as checked, about 1 MB

type Claims = Record<string, unknown>;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export interface CallClaims {
  callId: string;
  slot: Slot;
  until: number;
}

export function base64url(bytes: ArrayBuffer): string {
  let text = "";
  for (const byte of new Uint8Array(bytes)) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function unbase64url(text: string) {
  if (!/^[A-Za-z0-9_-]+$/.test(text)) throw badToken();
  let binary: string;
  try {
    binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    throw badToken(); // a length that no base64 has
  }
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

export function randomHex(bytes: number): string {
  return hex(crypto.getRandomValues(new Uint8Array(bytes)));
}

function hmacKey(secret: string): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", encoder.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
    "verify",
  ]);
}

/** One way to sign and to check a JWT (RFC 7515 section 7.1, RFC 7518 sections 3.2 and 3.4). */
class Signature {
  private readonly head: string;

  private constructor(
    header: string,
    private readonly algorithm: string,
    private readonly parameters: HmacImportParams | EcdsaParams,
    private readonly signKey: CryptoKey,
    private readonly verifyKey: CryptoKey,
  ) {
    this.head = base64url(encoder.encode(header).buffer);
  }

  static async hs256(secret: string): Promise<Signature> {
    const key = await hmacKey(secret);
    return new Signature('{"alg":"HS256","typ":"JWT"}', "HS256", { name: "HMAC", hash: "SHA-256" }, key, key);
  }

  /** `jwk` is a private P-256 key as `supabase gen signing-key --algorithm ES256` prints it. */
  static async es256(jwk: JsonWebKey & { kid?: string }): Promise<Signature> {
    if (jwk.kty !== "EC" || jwk.crv !== "P-256" || !jwk.d || !jwk.kid) {
      throw new Error("VOICEMEET_SIGNING_KEY must be a private ES256 key (JWK) with a kid");
    }
    const { kty, crv, x, y, d } = jwk;
    const curve = { name: "ECDSA", namedCurve: "P-256" };
    const signKey = await crypto.subtle.importKey("jwk", { kty, crv, x, y, d }, curve, false, ["sign"]);
    const verifyKey = await crypto.subtle.importKey("jwk", { kty, crv, x, y }, curve, false, ["verify"]);
    const header = JSON.stringify({ alg: "ES256", typ: "JWT", kid: jwk.kid });
    return new Signature(header, "ES256", { name: "ECDSA", hash: "SHA-256" }, signKey, verifyKey);
  }

  async encode(claims: Claims): Promise<string> {
    const body = base64url(encoder.encode(JSON.stringify(claims)).buffer);
    const signed = `${this.head}.${body}`;
    const signature = await crypto.subtle.sign(this.parameters, this.signKey, encoder.encode(signed));
    return `${signed}.${base64url(signature)}`;
  }

  async decode(token: string): Promise<Claims> {
    const parts = token.split(".");
    if (token.length > MAX_TOKEN_LENGTH || parts.length !== 3) throw badToken();
    const [head, body, signature] = parts as [string, string, string];
    // The algorithm is ours to choose, never the token's.
    if (parse(head).alg !== this.algorithm) throw badToken();
    const signed = encoder.encode(`${head}.${body}`);
    const bytes = unbase64url(signature);
    if (!(await crypto.subtle.verify(this.parameters, this.verifyKey, bytes, signed))) throw badToken();
    return parse(body);
  }
}

function parse(part: string): Claims {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(unbase64url(part)));
  } catch {
    throw badToken();
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw badToken();
  return value as Claims;
}

function expiry(claims: Claims): number {
  const exp = claims.exp;
  if (typeof exp !== "number" || !Number.isFinite(exp)) throw badToken();
  return exp;
}

export interface TokenSettings {
  deviceSecret: string;
  /** A private ES256 JWK, or null: then `jwtSecret` signs with HS256. */
  signingKey: (JsonWebKey & { kid?: string }) | null;
  jwtSecret: string;
}

interface Known {
  device: string;
  pass: string | null;
  exp: number;
}

export class Tokens {
  /** Device tokens that were good when this worker first saw them, by their whole text. */
  private readonly known = new Map<string, Known>();

  private constructor(
    private readonly device: Signature,
    private readonly call: Signature,
    private readonly salt: CryptoKey,
  ) {}

  static async make(settings: TokenSettings): Promise<Tokens> {
    const call = settings.signingKey
      ? await Signature.es256(settings.signingKey)
      : await Signature.hs256(settings.jwtSecret);
    return new Tokens(
      await Signature.hs256(settings.deviceSecret),
      call,
      await hmacKey(`salt ${settings.deviceSecret}`),
    );
  }

  /** A hash that cannot be guessed backwards without our secret. */
  async hash(purpose: string, text: string): Promise<string> {
    const digest = await crypto.subtle.sign("HMAC", this.salt, encoder.encode(`${purpose} ${text}`));
    return hex(new Uint8Array(digest).subarray(0, 16));
  }

  /** `pass`: the first digits of the hash of the pass that it is enrolled with. */
  async makeDevice(now: number, pass?: string): Promise<{ token: string; device: string }> {
    const jti = randomHex(12);
    const claims = { role: "device", exp: Math.floor(now + DEVICE_TTL_S), jti };
    const token = await this.device.encode(pass === undefined ? claims : { ...claims, pass });
    return { token, device: await this.hash("device", jti) };
  }

  async readDevice(token: string, now: number, graceS = 0): Promise<{ device: string; pass: string | null }> {
    const known = this.known.get(token) ?? (await this.learn(token));
    if (known.exp + graceS <= now) throw badToken();
    return known;
  }

  get remembered(): number {
    return this.known.size;
  }

  /** Check a token and keep what it says: a device asks again and again with the same one. */
  private async learn(token: string): Promise<Known> {
    if (token === "") throw badToken("a device token is needed in the Authorization header");
    const claims = await this.device.decode(token);
    if (claims.role !== "device" || typeof claims.jti !== "string") throw badToken();
    const pass = typeof claims.pass === "string" ? claims.pass : null;
    const known = { device: await this.hash("device", claims.jti), pass, exp: expiry(claims) };
    if (this.known.size >= MAX_KNOWN) this.known.delete(this.known.keys().next().value!); // the oldest
    this.known.set(token, known);
    return known;
  }

  makeCall(callId: string, slot: Slot, until: number, now: number): Promise<string> {
    return this.call.encode({
      role: "anon",
      exp: Math.floor(now + CALL_TTL_S),
      call_id: callId,
      slot,
      until: Math.floor(until),
      jti: randomHex(12),
    });
  }

  async readCall(token: string, now: number, graceS = 0): Promise<CallClaims> {
    if (token === "") throw badToken("a call token is needed in the Authorization header");
    const { call_id: callId, slot, until, ...rest } = await this.call.decode(token);
    if (typeof callId !== "string" || !CALL_ID.test(callId) || (slot !== "a" && slot !== "b")) {
      throw badToken();
    }
    if (typeof until !== "number" || !Number.isInteger(until) || expiry(rest) + graceS <= now) {
      throw badToken();
    }
    return { callId, slot, until };
  }

  makeWait(ticket: string, now: number): Promise<string> {
    return this.call.encode({ role: "anon", exp: Math.floor(now + WAIT_TTL_S), ticket, jti: randomHex(12) });
  }

  /** The same for the same call and slot, telling neither. */
  async receipt(callId: string, slot: Slot): Promise<string> {
    const digits = (await this.hash("receipt", `${callId} ${slot}`)).slice(0, 16).toUpperCase();
    return digits.match(/.{4}/g)!.join("-");
  }
}
