// QR codes (ISO/IEC 18004), made here because what they hold is never sent. Rule: bytes only, correction level L:
// a code on a screen is not scratched, and fewer dots are read from further away.

const MOST = 25; // versions that are made; version 25 holds 1,273 bytes
const CORRECTION = [0, 7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28, 28, 28, 30, 30, 26];
const BLOCKS = [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8, 8, 9, 9, 10, 12];
const LEVEL_L = 1; // as format information has it
const MASKS = [
  (x, y) => (x + y) % 2,
  (x, y) => y % 2,
  (x) => x % 3,
  (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2,
  (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

/** The code of a text as rows of 0 and 1, without the quiet zone; throws a RangeError for what is too long. */
export function makeQr(text) {
  const bytes = new TextEncoder().encode(text);
  let version = 1;
  while (version <= MOST && bytes.length > dataBytes(version) - (version < 10 ? 2 : 3)) version += 1;
  if (version > MOST) throw new RangeError('too long for a code');
  const blank = frame(version);
  const bits = interleave(codewords(bytes, version), version);
  const codes = MASKS.map((mask, number) => draw(blank, bits, version, mask, number));
  return codes.reduce((best, code) => (penalty(code) < penalty(best) ? code : best));
}

/** The code as an SVG element, black on white in the dark too: readers want it so. */
export function svgOf(rows, label) {
  const name = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(name, 'svg');
  const size = rows.length + 8;
  const path = rows.flatMap((row, y) => row.map((dot, x) => (dot ? `M${x + 4} ${y + 4}h1v1h-1z` : ''))).join('');
  svg.setAttribute('viewBox', `0 0 ${size} ${size}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label);
  for (const [kind, values] of [['rect', { width: size, height: size, fill: '#fff' }], ['path', { d: path, fill: '#000' }]]) {
    const part = document.createElementNS(name, kind);
    for (const [key, value] of Object.entries(values)) part.setAttribute(key, value);
    svg.append(part);
  }
  return svg;
}

function allBytes(version) {
  let modules = (16 * version + 128) * version + 64;
  if (version >= 2) {
    const lines = Math.floor(version / 7) + 2;
    modules -= (25 * lines - 10) * lines - 55;
    if (version >= 7) modules -= 36;
  }
  return Math.floor(modules / 8);
}

const dataBytes = (version) => allBytes(version) - CORRECTION[version] * BLOCKS[version];

/** Mode, length, bytes, end and filling. */
function codewords(bytes, version) {
  const bits = [];
  const put = (value, count) => { for (let at = count - 1; at >= 0; at -= 1) bits.push((value >>> at) & 1); };
  put(4, 4); // byte mode
  put(bytes.length, version < 10 ? 8 : 16);
  for (const byte of bytes) put(byte, 8);
  const room = dataBytes(version) * 8;
  put(0, Math.min(4, room - bits.length));
  put(0, (8 - (bits.length % 8)) % 8);
  for (let filling = 0xec; bits.length < room; filling ^= 0xec ^ 0x11) put(filling, 8);
  const words = [];
  for (let at = 0; at < bits.length; at += 8) words.push(bits.slice(at, at + 8).reduce((sum, bit) => sum * 2 + bit, 0));
  return words;
}

/** Blocks with their correction, mixed so that a blot hurts each a little; as bits. */
function interleave(words, version) {
  const count = BLOCKS[version], extra = CORRECTION[version];
  const long = allBytes(version) % count, length = Math.floor(allBytes(version) / count) - extra;
  const blocks = [];
  for (let number = 0, at = 0; number < count; number += 1) {
    const size = length + (number >= count - long ? 1 : 0);
    blocks.push(words.slice(at, at + size));
    at += size;
  }
  const mixed = (parts, most) => Array.from({ length: most }, (_, at) => parts.filter((part) => at < part.length).map((part) => part[at])).flat();
  const all = [...mixed(blocks, length + 1), ...mixed(blocks.map((block) => remainder(block, extra)), extra)];
  return all.flatMap((word) => Array.from({ length: 8 }, (_, at) => (word >>> (7 - at)) & 1));
}

function times(a, b) {
  let product = 0;
  for (let at = 7; at >= 0; at -= 1) product = (product << 1) ^ ((product >>> 7) * 0x11d) ^ (((b >>> at) & 1) * a);
  return product;
}

/** Reed-Solomon correction of one block. */
function remainder(block, extra) {
  const divisor = Array(extra).fill(0);
  divisor[extra - 1] = 1;
  for (let number = 0, root = 1; number < extra; number += 1, root = times(root, 2)) {
    for (let at = 0; at < extra; at += 1) divisor[at] = times(divisor[at], root) ^ (divisor[at + 1] ?? 0);
  }
  const rest = Array(extra).fill(0);
  for (const word of block) {
    const factor = word ^ rest.shift();
    rest.push(0);
    divisor.forEach((value, at) => { rest[at] ^= times(value, factor); });
  }
  return rest;
}

function alignment(version) {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const step = Math.floor((version * 8 + count * 3 + 5) / (count * 4 - 4)) * 2;
  return [6, ...Array.from({ length: count - 1 }, (_, at) => version * 4 + 10 - (count - 2 - at) * step)];
}

/** What every code of a version shares: finders, alignment, timing, version; null where data goes. */
function frame(version) {
  const size = version * 4 + 17;
  const rows = Array.from({ length: size }, () => Array(size).fill(null));
  const set = (x, y, dot) => { if (x >= 0 && y >= 0 && x < size && y < size) rows[y][x] = Number(dot); };
  for (let at = 0; at < size; at += 1) { set(6, at, at % 2 === 0); set(at, 6, at % 2 === 0); }
  const rings = (cx, cy, reach, dark) => {
    for (let dy = -reach; dy <= reach; dy += 1) {
      for (let dx = -reach; dx <= reach; dx += 1) set(cx + dx, cy + dy, dark(Math.max(Math.abs(dx), Math.abs(dy))));
    }
  };
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) rings(x, y, 4, (ring) => ring !== 2 && ring !== 4);
  const lines = alignment(version);
  for (const x of lines) {
    for (const y of lines) {
      const corner = (x === 6 && y === 6) || (x === 6 && y === size - 7) || (x === size - 7 && y === 6);
      if (!corner) rings(x, y, 2, (ring) => ring !== 1);
    }
  }
  if (version >= 7) {
    let rest = version;
    for (let at = 0; at < 12; at += 1) rest = (rest << 1) ^ ((rest >>> 11) * 0x1f25);
    const bits = (version << 12) | rest;
    for (let at = 0; at < 18; at += 1) {
      const near = size - 11 + (at % 3), far = Math.floor(at / 3);
      set(near, far, (bits >>> at) & 1);
      set(far, near, (bits >>> at) & 1);
    }
  }
  writeFormat(rows, 0);
  return rows;
}

function writeFormat(rows, mask) {
  const size = rows.length, data = (LEVEL_L << 3) | mask;
  let rest = data;
  for (let at = 0; at < 10; at += 1) rest = (rest << 1) ^ ((rest >>> 9) * 0x537);
  const bits = ((data << 10) | rest) ^ 0x5412;
  const bit = (at) => (bits >>> at) & 1;
  for (let at = 0; at <= 5; at += 1) rows[at][8] = bit(at);
  [rows[7][8], rows[8][8], rows[8][7]] = [bit(6), bit(7), bit(8)];
  for (let at = 9; at < 15; at += 1) rows[8][14 - at] = bit(at);
  for (let at = 0; at < 8; at += 1) rows[8][size - 1 - at] = bit(at);
  for (let at = 8; at < 15; at += 1) rows[size - 15 + at][8] = bit(at);
  rows[size - 8][8] = 1;
}

function draw(blank, bits, version, mask, number) {
  const size = blank.length;
  const rows = blank.map((row) => [...row]);
  let next = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step += 1) {
      const y = ((right + 1) & 2) === 0 ? size - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (blank[y][x] !== null) continue;
        rows[y][x] = (bits[next] ?? 0) ^ (mask(x, y) === 0 ? 1 : 0);
        next += 1;
      }
    }
  }
  writeFormat(rows, number);
  return rows;
}

/** How hard a code is to read: long runs, squares, what looks like a finder, too much of one colour. */
function penalty(rows) {
  const size = rows.length;
  const columns = rows.map((_, x) => rows.map((row) => row[x]));
  let sum = 0;
  for (const line of [...rows, ...columns]) {
    const text = line.join('');
    for (const run of text.match(/0{5,}|1{5,}/g) ?? []) sum += run.length - 2;
    sum += 40 * ((text.match(/(?=10111010000|00001011101)/g) ?? []).length);
  }
  for (let y = 1; y < size; y += 1) {
    for (let x = 1; x < size; x += 1) {
      const four = rows[y][x] + rows[y - 1][x] + rows[y][x - 1] + rows[y - 1][x - 1];
      if (four % 4 === 0) sum += 3;
    }
  }
  const dark = rows.flat().reduce((count, dot) => count + dot, 0);
  return sum + 10 * Math.floor((Math.abs(dark * 20 - size * size * 10)) / (size * size));
}
