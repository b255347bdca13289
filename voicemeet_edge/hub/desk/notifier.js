// A notification on the desktop while somebody calls. Rule: it is there while it rings and not a moment longer, so
// that it never becomes a list of calls.

let shown = null;

export const possible = () => 'Notification' in window;
export const isDenied = () => possible() && Notification.permission === 'denied';

/** To be called in a click; resolves to whether notifications will be shown. */
export async function allow() {
  return possible() && (await Notification.requestPermission()) === 'granted';
}

export function show(title, body) {
  if (shown || !possible() || Notification.permission !== 'granted') return;
  try {
    shown = new Notification(title, { body, tag: 'ring', requireInteraction: true, icon: 'icon-192.png' });
    shown.onclick = () => {
      window.focus();
      hide();
    };
  } catch {
    // Browsers on phones give them to service workers only: the page rings all the same.
  }
}

export function hide() {
  shown?.close();
  shown = null;
}
