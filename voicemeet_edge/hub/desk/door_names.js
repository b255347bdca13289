// The doors' names in the list to choose from (docs/contract.md, "Ringing"). Rule: with an intercom key a name that
// does not open under it is no name, and what a name may hold is what a screen shows.

import { fromBase64url } from './sealed.js';

const PREFIX = 'voicemeet-name:1:';
const NONCE_BYTES = 12;
const CONTEXT = 'voicemeet-edge v1 door name';
const MAX_NAME = 64; // characters
const text = new TextEncoder();

/** The name in a label, or '' where it cannot be read; `keys` are HKDF CryptoKeys. */
export async function nameOf(label, keys, pool) {
  if (!label.startsWith(PREFIX)) return keys.length ? '' : printable(label);
  const sealed = fromBase64url(label.slice(PREFIX.length));
  if (!sealed) return '';
  for (const key of keys) {
    const name = await open(sealed, key, pool).catch(() => '');
    if (name) return name;
  }
  return '';
}

async function open(sealed, intercomKey, pool) {
  const hkdf = { name: 'HKDF', hash: 'SHA-256', salt: text.encode(pool), info: text.encode(CONTEXT) };
  const key = await crypto.subtle.deriveKey(hkdf, intercomKey, { name: 'AES-GCM', length: 256 }, false, ['decrypt']);
  const gcm = { name: 'AES-GCM', iv: sealed.slice(0, NONCE_BYTES), additionalData: text.encode(pool) };
  const plain = await crypto.subtle.decrypt(gcm, key, sealed.slice(NONCE_BYTES));
  return printable(new TextDecoder('utf-8', { fatal: true }).decode(plain).replace(/\0+$/, ''));
}

function printable(name) {
  return [...name].length <= MAX_NAME && !/[\p{C}\p{Zl}\p{Zp}]/u.test(name) ? name : '';
}
