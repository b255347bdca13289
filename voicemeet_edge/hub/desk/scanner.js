// Reading the intercom key from a QR code with the camera, where the browser can.

import { t } from './texts.js';

const EVERY_MS = 200; // between two looks; a hand needs longer to hold still

export function available() {
  return 'BarcodeDetector' in window && Boolean(navigator.mediaDevices);
}

/** Show the camera in a dialog; returns the text of the first QR code, or '' when closed. */
export async function scan(dialog, video) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } }).catch(() => {
    throw new Error(t('key.camera'));
  });
  const detector = new window.BarcodeDetector({ formats: ['qr_code'] });
  video.srcObject = stream;
  dialog.showModal();
  try {
    await video.play();
    while (dialog.open) {
      const [code] = await detector.detect(video).catch(() => []);
      if (code) return code.rawValue;
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
    return '';
  } finally {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
    dialog.close();
  }
}
