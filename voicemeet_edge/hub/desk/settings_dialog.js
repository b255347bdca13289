// The settings of this computer: language, devices, ring, notification. Rule: what is changed holds at once, can be
// tried here, and the microphone is open only while a test says so.

import { every, pause } from './clock.js';
import * as microphone from './microphone.js';
import * as notifier from './notifier.js';
import { change, preferences } from './preferences.js';
import * as sounds from './sounds.js';
import { LANGUAGES, browserLanguage, language, load, t } from './texts.js';

const TEST_MS = 3_000; // long enough for a sentence
const LOOK_MS = 50; // between two looks at the level
const SILENCE = 0.003; // of full scale; below it a microphone is off, or the wrong one
const NAMES = { en: 'English', de: 'Deutsch', fr: 'Français', es: 'Español', it: 'Italiano' };

const $ = (id) => document.getElementById(id);

/** `onChange()` is called when something was changed; `onMicrophone(open)` while a test holds it. */
export function wire({ onChange, onMicrophone }) {
  const dialog = $('settings');
  $('settings-open').addEventListener('click', () => {
    fill();
    dialog.showModal();
  });
  navigator.mediaDevices?.addEventListener('devicechange', () => dialog.open && fillDevices());
  const on = (id, act) =>
    $(id).addEventListener('change', async () => {
      await act($(id));
      onChange();
    });
  on('set-language', async ({ value }) => {
    change({ language: value });
    await load(value);
    onChange();
    fill();
  });
  on('set-microphone', ({ value }) => change({ microphone: value }));
  on('set-voice', ({ value }) => change({ voice: value }));
  on('set-ring', ({ value }) => {
    change({ ring: value });
    sounds.useLoudspeaker();
  });
  on('set-volume', ({ value }) => {
    change({ volume: Number(value) });
    sounds.ringOnce();
  });
  on('set-missed', ({ checked }) => change({ missed: checked }));
  on('set-notify', async (box) => {
    box.checked = box.checked && (await notifier.allow());
    change({ notify: box.checked });
    $('notify-denied').hidden = !notifier.isDenied();
  });
  for (const id of ['set-hours', 'set-from', 'set-to']) on(id, takeHours);
  $('test-ring').addEventListener('click', sounds.ringOnce);
  $('test-voice').addEventListener('click', () => test(onMicrophone));
}

function takeHours() {
  const [from, to] = [$('set-from').value, $('set-to').value];
  const wanted = $('set-hours').checked;
  $('set-from').disabled = $('set-to').disabled = !wanted;
  change({ hours: wanted && from && to && from !== to ? { from, to } : null });
}

function fill() {
  const same = t('settings.browser', { name: NAMES[browserLanguage()] });
  options($('set-language'), [['', same], ...LANGUAGES.map((one) => [one, NAMES[one]])], preferences.language);
  for (const option of $('set-language').options) option.lang = option.value || language();
  $('set-volume').value = preferences.volume;
  $('set-notify').checked = preferences.notify && notifier.possible() && !notifier.isDenied();
  $('set-notify').disabled = !notifier.possible();
  $('notify-denied').hidden = !notifier.isDenied();
  $('set-missed').checked = preferences.missed;
  $('set-hours').checked = Boolean(preferences.hours);
  $('set-from').value = preferences.hours?.from ?? '08:00';
  $('set-to').value = preferences.hours?.to ?? '17:00';
  $('set-from').disabled = $('set-to').disabled = !preferences.hours;
  $('test-said').textContent = '';
  fillDevices();
}

async function fillDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  choose('set-microphone', devices, 'audioinput', preferences.microphone);
  choose('set-voice', devices, 'audiooutput', preferences.voice);
  choose('set-ring', devices, 'audiooutput', preferences.ring);
  // A browser that lets no page choose is not asked to.
  const chooses = 'setSinkId' in HTMLMediaElement.prototype;
  for (const id of ['set-voice', 'set-ring']) $(id).disabled = !chooses;
}

function choose(id, devices, kind, chosen) {
  const found = devices.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== 'default');
  const rows = found.map(({ deviceId, label }, at) => [deviceId, label || t('settings.device', { n: at + 1 })]);
  options($(id), [['', t('settings.default')], ...rows], chosen);
}

function options(select, rows, chosen) {
  select.replaceChildren(...rows.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

/** Hear the microphone for three seconds, show how loud it is, and play what was heard. */
async function test(onMicrophone) {
  const say = (key) => ($('test-said').textContent = t(key));
  $('test-voice').disabled = true;
  let stream;
  try {
    stream = await microphone.open();
    onMicrophone(true);
    say('test.speak');
    const { recording, loudest } = await record(stream);
    for (const track of stream.getTracks()) track.stop();
    onMicrophone(false);
    if (loudest < SILENCE) return say('test.nothing');
    say('test.listen');
    await playBack(recording);
    return say('test.done');
  } catch (error) {
    return say(stream ? 'test.failed' : `state.${microphone.nameOf(error)}.more`);
  } finally {
    for (const track of stream?.getTracks() ?? []) track.stop();
    onMicrophone(false);
    $('test-level').hidden = true;
    $('test-voice').disabled = false;
  }
}

async function record(stream) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let loudest = 0;
  $('test-level').hidden = false;
  const stop = every(LOOK_MS, () => {
    analyser.getFloatTimeDomainData(samples);
    const level = Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
    loudest = Math.max(loudest, level);
    $('test-level').value = Math.min(1, level * 6); // a voice at arm's length fills half of it
  });
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const done = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  await pause(TEST_MS);
  recorder.stop();
  await done;
  stop();
  context.close();
  return { recording: new Blob(parts, { type: recorder.mimeType }), loudest };
}

async function playBack(recording) {
  const player = new Audio(URL.createObjectURL(recording));
  try {
    if (preferences.voice && player.setSinkId) await player.setSinkId(preferences.voice).catch(() => {});
    const over = new Promise((resolve) => (player.onended = player.onerror = resolve));
    await player.play();
    await Promise.race([over, pause(TEST_MS + 2_000)]);
  } finally {
    URL.revokeObjectURL(player.src);
  }
}
