// Pads what the microphone's encoder made, before it is encrypted (WebRTC Encoded Transform).

import { pad } from './padding.js';

self.onrtctransform = ({ transformer }) => {
  const padding = new TransformStream({
    transform(frame, controller) {
      const bytes = pad(new Uint8Array(frame.data));
      frame.data = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
      controller.enqueue(frame);
    },
  });
  transformer.readable.pipeThrough(padding).pipeTo(transformer.writable).catch(() => {});
};
