// What the page shows. Rule: one function of the state; nothing here decides anything.

const $ = (id) => document.getElementById(id);

/** state: [headline, sentence, icon]. */
const STATES = {
  setup: ['VoiceMeet desk', 'Say where this desk answers, then go on duty.', 'door'],
  starting: ['One moment', 'Connecting to the server.', 'dots'],
  asking: ['Allow the microphone', 'The browser asks for the microphone now. It is opened only while you talk.', 'microphone'],
  insecure: ['This page needs https', 'Browsers give the microphone only to pages that came over https or from this machine.', 'warning'],
  no_microphone: ['No microphone', 'Allow the microphone for this page in the browser, plug one in if there is none, then try again.', 'warning'],
  offline: ['Not connected', 'The server does not answer. This desk keeps trying; nobody can reach it meanwhile.', 'cloud'],
  ready: ['Ready', 'Somebody who presses call will ring here.', 'bell'],
  ready_caller: ['Ready', 'Press Call to talk.', 'phone'],
  refused: ['Not admitted', 'The server does not let this desk in just now. It tries again by itself.', 'warning'],
  seeking: ['Looking', 'Looking for somebody who answers.', 'dots'],
  calling: ['Calling', 'Found somebody. Waiting until it rings there.', 'dots'],
  rings_there: ['Ringing there', 'It rings at the other side.', 'bell'],
  ringing: ['Somebody is calling', 'Your microphone is closed until you answer.', 'bell'],
  connecting: ['Connecting', 'Setting up the encrypted line.', 'dots'],
  talking: ['Talking', 'The line is encrypted from end to end.', 'phone'],
  reconnecting: ['Line lost', 'Trying to bring the line back. You are not heard just now.', 'cloud'],
  ended: ['Call ended', '', 'door'],
};

/** Why a call ended; by our word or the other side's. */
const REASONS = {
  hung_up: ['You hung up.', 'The other side hung up.'],
  declined: ['You declined the call.', 'The other side declined the call.'],
  reported: ['You reported the call.', 'The other side ended the call.'],
  no_answer: ['Nobody answered in time.', 'The other side did not wait any longer.'],
  cancelled: ['You stopped the call.', 'The other side stopped calling.'],
  peer_absent: ['The other side did not appear.', 'The other side gave up waiting.'],
  shutdown: ['This desk was closed.', 'The other side was switched off.'],
  busy: ['This desk is busy.', 'The other side is busy.'],
  time_limit: ['The longest call length was reached.', 'The longest call length was reached.'],
  microphone_refused: ['The browser did not give the microphone.', 'The other side has no microphone.'],
  microphone_lost: ['The microphone is gone. Is it still plugged in?', 'The other side lost its microphone.'],
  connect_timeout: ['No line could be set up between the two sides.', 'The other side could not set up the line.'],
  path_lost: ['The line did not come back.', 'The line did not come back.'],
  peer_not_sealed: ['The other side has no intercom key. This desk only speaks sealed.', 'The other side refused: the intercom keys do not fit.'],
  peer_sealed: ['The other side speaks sealed, and this desk has no intercom key.', 'The other side refused: the intercom keys do not fit.'],
  wrong_key: ['The other side has a different intercom key.', 'The other side refused: the intercom keys do not fit.'],
  distrust: ['Somebody may be sitting in the middle. Do not trust this connection.', 'The other side does not trust this connection.'],
};
const DISTRUST = new Set([
  'peer_not_sealed', 'peer_sealed', 'wrong_key', 'distrust', 'bad_commitment', 'words_changed', 'words_order',
  'fingerprint_mismatch', 'fingerprint_changed', 'no_fingerprint', 'not_encrypted',
]);

const ROLES = { answerer: 'answers calls', caller: 'calls', either: 'talks with whoever calls' };

export function reasonText({ reason, byPeer }) {
  const known = REASONS[reason] ?? (DISTRUST.has(reason) ? REASONS.distrust : null);
  return known ? known[byPeer ? 1 : 0] : byPeer ? 'The other side ended the call.' : 'The call did not work.';
}

let announced = '';

/** Show a model: {state, pool, role, keys, call, last, report}. */
export function show(model) {
  const { state, call } = model;
  const looks = state === 'calling' && call?.peerRings ? 'rings_there' : state === 'ready' && model.role !== 'answerer' ? 'ready_caller' : state;
  const [headline, sentence, icon] = STATES[looks];
  const distrust = state === 'ended' && DISTRUST.has(model.last?.reason);
  document.body.dataset.state = distrust ? 'distrust' : state;
  document.title = `${state === 'ringing' ? '(1) ' : ''}${headline} · VoiceMeet desk`;
  $('headline').textContent = distrust ? 'Not trusted' : headline;
  $('sentence').textContent = state === 'ended' ? reasonText(model.last) : sentence;
  $('icon').setAttribute('href', `#icon-${distrust ? 'warning' : icon}`);
  $('setup').hidden = !['setup', 'insecure', 'no_microphone'].includes(state);
  $('start').textContent = state === 'no_microphone' ? 'Try again' : 'Go on duty';
  showButtons(model);
  showDetails(model);
  announce(state, `${$('headline').textContent}. ${$('sentence').textContent}`);
}

function showButtons({ state, role, call, canReport }) {
  const inCall = Boolean(call) && call.phase !== 'arriving';
  $('answer').hidden = state !== 'ringing';
  $('call').hidden = !(state === 'ready' && role !== 'answerer');
  $('hangup').hidden = !inCall && state !== 'seeking';
  $('hangup').querySelector('span').textContent = { ringing: 'Decline', seeking: 'Stop looking', calling: 'Stop calling' }[state] ?? 'Hang up';
  $('report').hidden = !canReport;
  $('off').hidden = inCall || !['ready', 'offline', 'refused', 'starting'].includes(state);
}

function showDetails({ state, pool, role, keys, call, last, report }) {
  $('where').textContent = state === 'setup' ? '' : `${pool} · ${ROLES[role]}`;
  $('microphone').hidden = !call?.microphoneOpen;
  const talking = ['connecting', 'talking', 'reconnecting'].includes(state);
  const sealed = keys.length > 0;
  $('seal').dataset.sealed = sealed;
  $('seal').textContent = sealed ? `Sealed with key “${keys[0].check}”` : 'No intercom key';
  $('words').hidden = !(talking && call?.words);
  $('words-list').textContent = call?.words?.join(' · ') ?? '';
  $('words-help').textContent = sealed
    ? 'Sealed and checked: these words only confirm it.'
    : 'If the other side sees or hears the same words, nobody sits in between.';
  $('warning').hidden = !call?.warned;
  $('notice').hidden = !report;
  $('notice').textContent = report ?? '';
  $('key-state').textContent = sealed
    ? `In use: “${keys[0].check}”.${keys[1] ? ` Also accepted: “${keys[1].check}”.` : ''}`
    : 'None on this browser. Calls are encrypted; compare the check words to be sure of it.';
  $('forget').hidden = !sealed;
}

/** Screen readers hear each state once; a call is worth an interruption. */
function announce(state, text) {
  if (text === announced) return;
  announced = text;
  const urgent = ['ringing', 'ended', 'reconnecting', 'offline'].includes(state);
  $(urgent ? 'say-now' : 'say').textContent = text;
}
