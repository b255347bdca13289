// The intercom key in this browser. Rule: after remember() nobody can read it again, not even this page:
// IndexedDB holds a CryptoKey that WebCrypto will derive from and never hand out.

import { EVEN, ODD } from './wordlist.js';
import { fromBase64url, toBase64url } from './sealed.js';

const STORE = 'intercom';
const QR_PREFIX = 'voicemeet-key:1:';
const KEPT = 2; // the key in use, and the one before it while the other ends are being changed

/** Read a key as typed, pasted or scanned; throws an Error with a sentence for people. */
export function parseKey(typed) {
  const letters = typed.replace(/\s+/g, '').replace(QR_PREFIX, '').replace(/=+$/, '');
  if (!letters) throw new Error('Type or scan the intercom key first.');
  if (/[^A-Za-z0-9_-]/.test(letters)) throw new Error('A key has only letters, digits, - and _.');
  if (letters.length !== 43) throw new Error(`A key has 43 characters; this one has ${letters.length}.`);
  const bytes = fromBase64url(letters);
  if (toBase64url(bytes) !== letters) throw new Error('The last character of the key is mistyped.');
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

/** The keys kept here, newest first: [{key: CryptoKey, check: string}]. */
export async function recall() {
  const database = await open();
  try {
    return (await done(database.transaction(STORE).objectStore(STORE).get('keys'))) ?? [];
  } finally {
    database.close();
  }
}

export async function forget() {
  await write((store) => store.clear());
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
  const request = indexedDB.open('voicemeet-desk', 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  return done(request);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
