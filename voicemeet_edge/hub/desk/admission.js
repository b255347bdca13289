// Who this desk is to the backend: its pass, and the proof that it has the intercom key (docs/contract.md).
// Rule: a pass comes by the link's fragment or by hand, leaves the address at once, and goes nowhere but `session`.

import { toBase64url } from './sealed.js';
import { forgetPass, keepPass, keptPass, rememberFirst } from './keystore.js';
import { t } from './texts.js';

const PASS_CHARS = 26; // of Crockford's base32: 130 random bits
const QR_PREFIX = 'voicemeet-pass:1:';
const CONTEXT = 'voicemeet-edge v1 admission';
const text = new TextEncoder();

/** Bring a pass as typed, pasted or scanned to its one form; throws an Error with a sentence for people. */
export function parsePass(typed) {
  const bare = typed.replace(/\s+/g, '').replace(QR_PREFIX, '').replaceAll('-', '').toLowerCase();
  const letters = bare.replaceAll('o', '0').replace(/[il]/g, '1');
  if (!letters) throw new Error(t('pass.empty'));
  if (letters.length !== PASS_CHARS) throw new Error(t('pass.length', { wanted: PASS_CHARS, n: letters.length }));
  if (!/^[0-9a-hjkmnp-tv-z]+$/.test(letters)) throw new Error(t('pass.letters'));
  return letters;
}

/**
 * Keep the pass, and the intercom key if there is one, that the link's fragment brought, and take it out of the
 * address; returns its pool. A link that brings another key than the one kept here changes nothing.
 */
export async function takeFromLink() {
  const brought = new URLSearchParams(location.hash.slice(1));
  if (!brought.has('pass')) return null;
  history.replaceState(null, '', `${location.pathname}${location.search}`);
  const pool = brought.get('pool') || 'frontdesk';
  const pass = parsePass(brought.get('pass'));
  if (brought.has('key')) await rememberFirst(brought.get('key'));
  await keepPass(pool, pass);
  return pool;
}

/** Keep a pass for a pool. */
export async function rememberPass(pool, typed) {
  await keepPass(pool, parsePass(typed));
}

export { forgetPass, keptPass };

/** The `proof` of one match, or undefined without an intercom key (an HKDF CryptoKey). */
export async function makeProof(intercomKey, deviceToken, { pool, role, ticket }) {
  if (!intercomKey) return undefined;
  const hkdf = { name: 'HKDF', hash: 'SHA-256', salt: text.encode(pool), info: text.encode(CONTEXT) };
  const hmac = { name: 'HMAC', hash: 'SHA-256', length: 256 };
  const key = await crypto.subtle.deriveKey(hkdf, intercomKey, hmac, false, ['sign']);
  const said = [CONTEXT, deviceToken, pool, role, ticket].join('\n');
  return toBase64url(new Uint8Array(await crypto.subtle.sign('HMAC', key, text.encode(said))));
}
