// The desk page: puts the parts together and turns clicks and keys into what a call does.
// Rule: the only file that knows all the others; whatever happens to a call, the desk is ready again.

import { Call, LIMITS } from './call.js';
import { after, backoff, pause } from './clock.js';
import { Finder } from './finder.js';
import * as keystore from './keystore.js';
import { Realtime } from './realtime.js';
import * as scanner from './scanner.js';
import * as sounds from './sounds.js';
import { Verbs } from './verbs.js';
import { show } from './view.js';

const ENDED_MS = 4_000; // how long the end of a call is shown before the desk is ready again
const SETTLE_MS = 3_000; // a healthy server is reached much sooner
const REPORT_WINDOW_MS = 30_000; // after a call in which it can still be reported
const REPORT_TRIES = 40; // with back-off: about a quarter of an hour of dead network

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const testing = query.get('test') === '1';

const model = {
  state: 'setup',
  pool: query.get('pool') || 'frontdesk',
  role: ['answerer', 'caller', 'either'].includes(query.get('role')) ? query.get('role') : 'answerer',
  keys: [],
  call: null,
  last: null, // the last call, while it can be reported
  report: null, // what became of a report, as a sentence
  get canReport() {
    return Boolean((this.call?.wasInCall) || this.last?.reportable);
  },
};
let desk = null; // realtime, verbs, finder: there while on duty
let reachable = false;

function enter(state) {
  model.state = state;
  sounds.ring(state === 'ringing');
  show(model);
  if (state === 'ringing') $('answer').focus();
}

/** What the state is while there is no call. */
function idleState(code = null) {
  if (code && reachable) return 'refused';
  if (!reachable || !desk.realtime.open) return desk.settled ? 'offline' : 'starting';
  return desk.wanted ? (model.role === 'answerer' ? 'ready' : 'seeking') : 'ready';
}

function showIdle(code) {
  if (desk && !model.call && model.state !== 'ended') enter(idleState(code));
}

async function start() {
  sounds.allow();
  model.pool = $('pool').value.trim();
  model.role = $('role').value;
  if (!isSecureContext || !navigator.mediaDevices) return enter('insecure');
  enter('asking');
  try {
    // Asked now, while somebody looks at the page, and closed again at once.
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    for (const track of stream.getTracks()) track.stop();
  } catch {
    return enter('no_microphone');
  }
  enter('starting');
  const config = await loadConfig();
  await onDuty(config);
}

async function loadConfig() {
  for (const waitMs of backoff()) {
    try {
      const response = await fetch('config.json', { cache: 'no-store' });
      if (response.ok) return await response.json();
    } catch {
      // The server is not there yet: said on the page, tried again.
    }
    enter('offline');
    await pause(waitMs);
  }
}

async function onDuty(config) {
  const socket = new URL(`${config.realtime}/websocket`, location.href);
  socket.protocol = socket.protocol.replace('http', 'ws');
  const policy = query.get('policy') ?? (model.pool === 'public' ? 'relay' : 'direct');
  desk = {
    ...model,
    policy,
    verbs: new Verbs(config.verbs, config.apikey),
    realtime: new Realtime(socket.href, config.apikey, () => showIdle()),
    wanted: model.role === 'answerer',
    settled: false, // connecting for the first time is no failure yet
    onReachable(yes, code) {
      reachable = yes;
      showIdle(code);
    },
    onCall: (call) => {
      if (call.phase === 'arriving') show(model);
      else if (call.phase !== 'ended') enter(call.phase);
    },
    onTrack: (track) => {
      $('voice').srcObject = new MediaStream([track]);
      $('voice').play().catch(() => {});
    },
  };
  desk.finder = new Finder(desk);
  desk.realtime.connect();
  stayAwake();
  reachable = true;
  const mine = desk;
  after(SETTLE_MS, () => {
    mine.settled = true;
    if (mine === desk) showIdle();
  });
  if (desk.wanted) look();
  else showIdle();
}

/** Keep a tablet's screen on while on duty, where the browser can: asleep it does not ring. */
async function stayAwake() {
  if (!desk || document.visibilityState !== 'visible') return;
  try {
    desk.awake = await navigator.wakeLock?.request('screen');
  } catch {
    // Low battery, or not allowed: the desk still works while somebody keeps it awake.
  }
}

/** Look for calls, one after the other, until off duty. */
async function look() {
  const mine = desk;
  do {
    const match = await mine.finder.find();
    if (!match || mine !== desk) break;
    await take(match);
    mine.wanted = mine.role === 'answerer' && mine === desk;
  } while (mine.wanted);
  if (mine === desk) showIdle();
}

async function take(match) {
  const kind = { answerer: 'called', caller: 'calling', either: 'meet' }[model.role];
  const call = new Call(match, kind, { ...desk, keys: model.keys });
  forgetLast();
  model.call = call;
  let talked = false;
  const seen = desk.onCall;
  call.desk.onCall = (changed) => {
    if (!talked && changed.phase === 'talking') sounds.chime(true);
    talked ||= changed.phase === 'talking';
    seen(changed);
  };
  call.start();
  await call.finished;
  model.call = null;
  model.last = Object.assign(call, { reportable: call.phase === 'ended' && call.wasInCall });
  $('voice').srcObject = null;
  if (talked) sounds.chime(false);
  // A caller who left before it rang is nothing to tell the person at the desk.
  if (call.kind === 'called' && !call.rang && (call.byPeer || call.reason === 'peer_absent')) return showIdle();
  after(REPORT_WINDOW_MS, () => model.last === call && forgetLast());
  enter('ended');
  if (call.reportWanted) report(call);
  await pause(ENDED_MS);
  if (model.state === 'ended') model.state = 'starting';
  showIdle();
}

function forgetLast() {
  model.last = null;
  if (!model.call) model.report = null;
  show(model);
}

async function report(call) {
  call.reportable = false;
  model.report = 'Sending the report…';
  show(model);
  const waits = backoff(1_000);
  for (let tries = 0; tries < REPORT_TRIES; tries += 1) {
    try {
      const { receipt } = await call.desk.verbs.ask('report', { reason: 'abuse' }, call.token);
      model.report = `Report sent. Receipt: ${receipt}`;
      return show(model);
    } catch (error) {
      if (!error.retryable) break;
      model.report = 'The report waits until the server answers again.';
      show(model);
      await pause(waits.next().value);
    }
  }
  model.report = 'The report could not be sent.';
  show(model);
}

function offDuty() {
  const old = desk;
  desk = null;
  old?.finder.stop();
  old?.realtime.close();
  old?.awake?.release();
  enter('setup');
}

const actions = {
  answer: () => model.call?.answer(),
  hangup() {
    if (model.call) return model.call.hangup();
    if (!desk || model.role === 'answerer' || !desk.wanted) return null;
    desk.wanted = false;
    desk.finder.stop();
    return showIdle();
  },
  call() {
    if (!desk || desk.wanted || model.call || model.state !== 'ready') return;
    desk.wanted = true;
    showIdle();
    look();
  },
  report() {
    if (!model.canReport) return;
    if (model.call) {
      model.call.reportWanted = true;
      model.call.end('reported');
    } else {
      report(model.last);
    }
  },
  off: offDuty,
};

const KEYS = { Enter: 'answer', ' ': 'answer', Escape: 'hangup', r: 'report', R: 'report' };

function onKey(event) {
  const action = KEYS[event.key];
  if (!action || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest('input, select, textarea, dialog')) return;
  // A button that has the focus takes Enter and Space itself.
  if (action === 'answer' && event.target.closest('button, summary, a')) return;
  if ($(action).hidden) return;
  event.preventDefault();
  actions[action]();
}

async function changeKey(change) {
  try {
    await change();
    model.keys = await keystore.recall();
    $('key').value = '';
    $('key-error').textContent = '';
  } catch (error) {
    $('key-error').textContent = error.message;
  }
  show(model);
}

function wire() {
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener('click', action);
  $('setup').addEventListener('submit', async (event) => {
    event.preventDefault();
    if ($('key').value) await changeKey(() => keystore.remember($('key').value));
    if (!$('key-error').textContent) start();
  });
  $('remember').addEventListener('click', () => changeKey(() => keystore.remember($('key').value)));
  $('forget').addEventListener('click', () => changeKey(() => keystore.forget()));
  $('scan').hidden = !scanner.available();
  $('scan').addEventListener('click', () =>
    changeKey(async () => {
      const found = await scanner.scan($('scanner'), $('camera'));
      if (found) await keystore.remember(found);
    }),
  );
  $('key').addEventListener('input', () => ($('key-error').textContent = ''));
  addEventListener('keydown', onKey);
  document.addEventListener('visibilitychange', stayAwake); // the browser lets go of it when hidden
  addEventListener('online', () => desk?.finder.hint());
  // Taken out of the browser's memory again: what was closed stays closed, so begin anew.
  addEventListener('pageshow', (event) => event.persisted && location.reload());
  addEventListener('pagehide', () => {
    model.call?.endNow();
    if (!model.call) desk?.finder.leave({ keepalive: true });
  });
}

async function main() {
  $('pool').value = model.pool;
  $('role').value = model.role;
  wire();
  if (!isSecureContext) return enter('insecure');
  model.keys = await keystore.recall().catch(() => []);
  enter('setup');
  if (testing) {
    for (const name of Object.keys(LIMITS)) if (query.has(name)) LIMITS[name] = Number(query.get(name));
    window.voicemeet = {
      get state() {
        return document.body.dataset.state;
      },
      model,
      stats: () => model.call?.media?.stats() ?? {},
    };
  }
}

main();
