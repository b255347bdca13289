// What the person at this computer chose, kept in this browser. Rule: nothing about calls is in it, and a browser
// that keeps nothing costs the choice and not the page.

const NAME = 'voicemeet-desk';
const DEFAULTS = {
  language: '', // as the browser
  microphone: '', // device ids; nothing: the system's own
  voice: '',
  ring: '',
  volume: 70, // of the ring, in per cent
  notify: false, // a notification on the desktop
  missed: true, // count missed calls
  duty: null, // {pool, role}: go on duty by itself
  hours: null, // {from, to}, as 08:00: nothing rings outside
};

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(NAME));
    return found && typeof found === 'object' ? found : {};
  } catch {
    return {};
  }
}

export const preferences = { ...DEFAULTS, ...kept() };

/** Take over what was changed, and keep it. */
export function change(fields) {
  Object.assign(preferences, fields);
  try {
    localStorage.setItem(NAME, JSON.stringify(preferences));
  } catch {
    // A private window, or storage is forbidden: it holds until the page is closed.
  }
}
