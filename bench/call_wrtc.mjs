// libwebrtc (npm @roamhq/wrtc) as one end of a call: node call_wrtc.mjs SPEECH.wav HEARD.wav
//
// The same lines in and out as call_stock.py. The simulated card is 20 ms deep: what NetEq hands out each
// 10 ms is heard when the two periods before it are through, and a late period leaves silence behind.
import fs from "node:fs";
import readline from "node:readline";
import wrtc from "@roamhq/wrtc";

const { RTCPeerConnection, nonstandard } = wrtc;
const RATE = 48000;
const PERIOD = 480;
const BUFFER = 2 * PERIOD;

const now = () => Number(process.hrtime.bigint()) / 1e9; // CLOCK_MONOTONIC, as Python's monotonic()
const tell = (event, facts = {}) =>
  process.stdout.write(JSON.stringify({ event, at: now(), ...facts }) + "\n");

const [speechPath, heardPath] = process.argv.slice(2);
const bytes = fs.readFileSync(speechPath);
const data = bytes.indexOf("data") + 8;
const speech = new Int16Array(bytes.buffer.slice(bytes.byteOffset + data, bytes.byteOffset + bytes.length - ((bytes.length - data) % 2)));

const source = new nonstandard.RTCAudioSource();
const track = source.createTrack();
let said = 0;
let position = 0;

function say() {
  if (!said) {
    said = now();
    tell("said", { said_at: said });
  }
  // A period is complete when its last sample was spoken.
  while (now() >= said + (position + PERIOD) / RATE) {
    const samples = new Int16Array(PERIOD);
    for (let i = 0; i < PERIOD; i += 1) samples[i] = speech[(position + i) % speech.length];
    source.onData({ samples, sampleRate: RATE, bitsPerSample: 16, channelCount: 1, numberOfFrames: PERIOD });
    position += PERIOD;
  }
  setTimeout(say, Math.max(0, (said + (position + PERIOD) / RATE - now()) * 1000));
}

const file = fs.openSync(heardPath, "w");
fs.writeSync(file, Buffer.alloc(44));
let mark = 0;
let written = 0;

function put(samples) {
  fs.writeSync(file, Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength));
  written += samples.length;
}

let heard = false;

function hear({ samples, sampleRate, channelCount = 1 }) {
  // Before the first packet the sink hands out silence of another rate.
  const factor = RATE / sampleRate;
  const mono = new Int16Array((samples.length / channelCount) * factor);
  for (let i = 0; i < mono.length; i += 1) mono[i] = samples[Math.floor(i / factor) * channelCount];
  if (!heard && factor === 1 && mono.some((sample) => sample !== 0)) {
    heard = true;
    tell("first_audio");
  }
  if (!mark) {
    mark = now();
    put(new Int16Array(BUFFER));
  }
  const missing = Math.floor((now() - mark) * RATE) - written;
  if (missing > 0) put(new Int16Array(missing + BUFFER));
  put(mono);
}

function finish() {
  const size = written * 2;
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + size, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(RATE, 24);
  header.writeUInt32LE(RATE * 2, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(size, 40);
  fs.writeSync(file, header, 0, 44, 0);
  fs.closeSync(file);
  const marks = mark ? [{ sample: 0, monotonic_s: mark }] : [];
  fs.writeFileSync(heardPath.replace(/\.wav$/, ".marks.json"), JSON.stringify({ rate: RATE, marks }));
}

const connection = new RTCPeerConnection();
connection.addTrack(track);
connection.ontrack = ({ track: remote }) => {
  new nonstandard.RTCAudioSink(remote).ondata = hear;
};
connection.onconnectionstatechange = () => {
  tell(connection.connectionState);
  if (connection.connectionState === "connected" && !said) say();
};

const gathered = () =>
  new Promise((resolve) => {
    if (connection.iceGatheringState === "complete") resolve();
    connection.onicegatheringstatechange = () => {
      if (connection.iceGatheringState === "complete") resolve();
    };
  });

for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line.trim() === "quit") break;
  const order = JSON.parse(line);
  if (order.do === "offer") {
    await connection.setLocalDescription(await connection.createOffer());
    await gathered();
    tell("sdp", { sdp: connection.localDescription.sdp });
  } else if (order.do === "answer") {
    await connection.setRemoteDescription({ type: "offer", sdp: order.sdp });
    await connection.setLocalDescription(await connection.createAnswer());
    await gathered();
    tell("sdp", { sdp: connection.localDescription.sdp });
  } else if (order.do === "accept") {
    await connection.setRemoteDescription({ type: "answer", sdp: order.sdp });
  }
}
finish();
connection.close();
process.exit(0);
