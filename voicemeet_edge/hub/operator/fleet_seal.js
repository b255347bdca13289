// Opens what devices seal for the operator: HPKE (RFC 9180) in base mode, P-256, HKDF-SHA256, AES-256-GCM. Rule:
// the private half never leaves this browser; voicemeet_edge/fleet_seal.py is the other end.

import { fromBase64url, toBase64url } from '/desk/sealed.js';
import { t } from '/desk/texts.js';

const PUBLIC_BYTES = 65, PRIVATE_BYTES = 32;
const CURVE = { name: 'ECDH', namedCurve: 'P-256' };
const KEM = [...bytes('KEM'), 0x00, 0x10];
const HPKE = [...bytes('HPKE'), 0x00, 0x10, 0x00, 0x01, 0x00, 0x02];

function bytes(text) { return new TextEncoder().encode(text); }
const join = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));

async function mac(key, data) {
  // WebCrypto refuses an empty key; one of zeros is the same to HMAC.
  const made = await crypto.subtle.importKey('raw', key.length ? key : new Uint8Array(32), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', made, data));
}

const extract = (suite, salt, label, keying) => mac(salt, join(bytes('HPKE-v1'), suite, bytes(label), keying));
const expand = async (suite, key, label, info, length) =>
  (await mac(key, join([0, length], bytes('HPKE-v1'), suite, bytes(label), info, [1]))).slice(0, length);

/** Make a key: {text, key}; the text is for the operator to keep. */
export async function makeFleetKey() {
  const pair = await crypto.subtle.generateKey(CURVE, true, ['deriveBits']);
  const { d, x, y } = await crypto.subtle.exportKey('jwk', pair.privateKey);
  const text = toBase64url(join(fromBase64url(d), [4], fromBase64url(x), fromBase64url(y)));
  return { text, key: await parseFleetKey(text) };
}

/** Read a key as the operator kept it: {private: CryptoKey, public: text}; throws an Error with a sentence. */
export async function parseFleetKey(typed) {
  const letters = typed.replace(/\s+/g, '');
  try {
    if (/[^A-Za-z0-9_-]/.test(letters)) throw new Error();
    const all = fromBase64url(letters), point = all.slice(PRIVATE_BYTES);
    if (point.length !== PUBLIC_BYTES || point[0] !== 4) throw new Error();
    const [d, x, y] = [all.slice(0, 32), point.slice(1, 33), point.slice(33)].map(toBase64url);
    const jwk = { kty: 'EC', crv: CURVE.namedCurve, d, x, y };
    return { private: await crypto.subtle.importKey('jwk', jwk, CURVE, false, ['deriveBits']), public: toBase64url(point) };
  } catch {
    throw new Error(t('fleet.key.wrong'));
  }
}

/** Open what a device sealed; throws when it was sealed for another key or box, or changed. */
export async function openSealed(key, device, sealed) {
  const all = fromBase64url(sealed);
  const sent = all.slice(0, PUBLIC_BYTES);
  const sender = await crypto.subtle.importKey('raw', sent, CURVE, false, []);
  const shared = new Uint8Array(await crypto.subtle.deriveBits({ name: 'ECDH', public: sender }, key.private, 256));
  const early = await extract(KEM, [], 'eae_prk', shared);
  const agreed = await expand(KEM, early, 'shared_secret', join(sent, fromBase64url(key.public)), 32);
  const context = join([0], await extract(HPKE, [], 'psk_id_hash', []), await extract(HPKE, [], 'info_hash', bytes(`voicemeet-edge v1 fleet\n${device}`)));
  const secret = await extract(HPKE, agreed, 'secret', []);
  const aes = await crypto.subtle.importKey('raw', await expand(HPKE, secret, 'key', context, 32), 'AES-GCM', false, ['decrypt']);
  const iv = await expand(HPKE, secret, 'base_nonce', context, 12);
  const plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv }, aes, all.slice(PUBLIC_BYTES));
  return JSON.parse(new TextDecoder().decode(plain));
}
