// The intercom key and the passes in this browser. Rule: after remember() nobody can read the key again, not
// even this page: IndexedDB holds a CryptoKey that WebCrypto will derive from and never hand out.

import { EVEN, ODD } from './wordlist.js';
import { fromBase64url, toBase64url } from './sealed.js';
import { t } from './texts.js';

const DATABASE = 'voicemeet-desk';
const STORE = 'intercom';
const QR_PREFIX = 'voicemeet-key:1:';
const KEPT = 2; // the key in use, and the one before it while the other ends are being changed

/** Read a key as typed, pasted or scanned; throws an Error with a sentence for people. */
export function parseKey(typed) {
  const letters = typed.replace(/\s+/g, '').replace(QR_PREFIX, '').replace(/=+$/, '');
  if (!letters) throw new Error(t('key.empty'));
  if (/[^A-Za-z0-9_-]/.test(letters)) throw new Error(t('key.letters'));
  if (letters.length !== 43) throw new Error(t('key.length', { n: letters.length }));
  const bytes = fromBase64url(letters);
  if (toBase64url(bytes) !== letters) throw new Error(t('key.last'));
  return bytes;
}

/** Two words that tell keys apart, the same that `voicemeet-edge keygen` prints. */
export async function keyCheck(bytes) {
  const label = new TextEncoder().encode('voicemeet-edge v1 key check\n');
  const input = new Uint8Array([...label, ...bytes]);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', input));
  return `${EVEN[digest[0]]} ${ODD[digest[1]]}`;
}

export async function importKey(bytes) {
  return crypto.subtle.importKey('raw', bytes, 'HKDF', false, ['deriveBits', 'deriveKey']);
}

/** Keep a key as the one in use; returns its two check words. */
export async function remember(typed) {
  const bytes = parseKey(typed);
  const entry = { key: await importKey(bytes), check: await keyCheck(bytes) };
  bytes.fill(0);
  const others = (await recall()).filter((known) => known.check !== entry.check);
  await write((store) => store.put([entry, ...others].slice(0, KEPT), 'keys'));
  return entry.check;
}

/** Keep a key that a link brought where there is none yet: any page can lead here, with a key of its own. */
export async function rememberFirst(typed) {
  const kept = await recall();
  if (!kept.length) return remember(typed);
  const check = await keyCheck(parseKey(typed));
  // Two words can be met by trying: they tell whether to complain, and never that a key may be put in.
  if (kept.every((known) => known.check !== check)) throw new Error(t('key.another'));
  return check;
}

/** The keys kept here, newest first: [{key: CryptoKey, check: string}]. */
export async function recall() {
  return (await read('keys')) ?? [];
}

export async function forget() {
  await write((store) => store.delete('keys'));
}

/** The pass kept for a pool, or null. */
export async function keptPass(pool) {
  return (await read(`pass ${pool}`)) ?? null;
}

export async function keepPass(pool, pass) {
  await write((store) => store.put(pass, `pass ${pool}`));
}

export async function forgetPass(pool) {
  await write((store) => store.delete(`pass ${pool}`));
}

/** Whether there is such a store. A look makes none: a page left while it makes one holds up those after it. */
export async function isMade(name) {
  const all = await indexedDB.databases?.();
  return !all || all.some((one) => one.name === name);
}

async function read(name) {
  if (!(await isMade(DATABASE))) return undefined;
  const database = await open();
  try {
    return await done(database.transaction(STORE).objectStore(STORE).get(name));
  } finally {
    database.close();
  }
}

async function write(change) {
  const database = await open();
  try {
    await done(change(database.transaction(STORE, 'readwrite').objectStore(STORE)));
  } finally {
    database.close();
  }
}

function open() {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  return done(request);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
