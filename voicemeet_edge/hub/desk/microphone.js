// The microphone: opened, looked for, and what is wrong with it. Rule: one word for each cure: what the browser
// forbids, what is not plugged in, and what another program holds are three different things.

import { preferences } from './preferences.js';

const WISHES = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };

/** The chosen microphone, or the system's own where that one is gone. */
export function open() {
  const deviceId = preferences.microphone ? { ideal: preferences.microphone } : undefined;
  return navigator.mediaDevices.getUserMedia({ audio: { ...WISHES, deviceId } });
}

/** Open it, close it again at once, and return what is wrong: the name of a state, or null. */
export async function tryOut() {
  try {
    const stream = await open();
    for (const track of stream.getTracks()) track.stop();
    return null;
  } catch (error) {
    return nameOf(error);
  }
}

export function nameOf(error) {
  if (error.name === 'NotFoundError' || error.name === 'OverconstrainedError') return 'microphone_missing';
  if (error.name === 'NotReadableError' || error.name === 'AbortError') return 'microphone_busy';
  return 'microphone_denied';
}

/** What is wrong as far as one can tell without opening it. */
export async function trouble() {
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => null);
  if (devices && !devices.some(({ kind }) => kind === 'audioinput')) return 'microphone_missing';
  return (await permission())?.state === 'denied' ? 'microphone_denied' : null;
}

async function permission() {
  return navigator.permissions?.query({ name: 'microphone' }).catch(() => null); // not every browser tells
}

/** `changed()` is called when a device comes or goes, and when the person changes their mind. */
export async function watch(changed) {
  navigator.mediaDevices?.addEventListener('devicechange', changed);
  (await permission())?.addEventListener('change', changed);
}
