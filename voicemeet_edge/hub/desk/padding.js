// Opus packets of one size, where the browser's own encoder does not make them so. Rule: the sound is not
// touched; what is added is Opus' own padding (RFC 6716 section 3.2.5), which every decoder passes over.

const SIZES = [160, 240, 360]; // bytes; Firefox's voice has 3 (silence) to about 150
const MAX_SIZE = 1275; // of an Opus frame, RFC 6716 section 3.1
const VBR = 0x80;
const PADDED = 0x40;

/** A packet with the same sound and one of a few sizes; as it is when it cannot be padded. */
export function pad(packet) {
  const grown = asCode3(packet);
  const size = SIZES.find((one) => one >= grown?.length) ?? MAX_SIZE;
  if (!grown || grown.length > size) return packet;
  return grown.length === size ? grown : withPadding(grown, size);
}

/** The packet with a frame count byte (code 3), without padding; null when it is none, or padded already. */
function asCode3(packet) {
  if (packet.length < 1) return null;
  const code = packet[0] & 3;
  if (code === 3) return packet.length > 1 && !(packet[1] & PADDED) ? packet : null;
  const count = [1, 2, 2 | VBR][code]; // one frame; two of one size; two, the first with its length before it
  const grown = new Uint8Array(packet.length + 1);
  grown[0] = packet[0] | 3;
  grown[1] = count;
  grown.set(packet.subarray(1), 2);
  return grown;
}

function withPadding(packet, size) {
  const room = size - packet.length; // for the length bytes and the padding
  const lengths = [];
  let left = room - 1;
  while (left > 254) {
    lengths.push(255); // 254 bytes, and another length follows
    left -= 255;
  }
  lengths.push(left);
  const padded = new Uint8Array(size);
  padded.set([packet[0], packet[1] | PADDED, ...lengths]);
  padded.set(packet.subarray(2), 2 + lengths.length);
  return padded;
}
