// The encrypted voice path of one call: a new RTCPeerConnection per attempt, one certificate per call.
// Rule: the microphone belongs to the call; this file only carries it while it is given.
//
// Every packet has one size, or whoever watches the network could tell speech from silence. Browsers built on
// libwebrtc do that when told `cbr=1`; Firefox does not, so its packets are padded before they are encrypted.

import { after, every } from './clock.js';
import { addressedOnly, fingerprint, forTheWire, isAddressed, publicCandidate, voiceOnly } from './sdp.js';
import { hex } from './words.js';

const GATHER_MS = 400; // what is not gathered by then follows as trickled candidates
const WATCH_MS = 500; // how often received packets are counted
const SILENT_MS = 5_000; // no packet for so long: the path is gone
const MAX_HELD = 32; // candidates that came before their description

const OBEYS_CBR = !('mozInnerScreenX' in window); // Firefox and its kin

let padder = null;

/** Whether what leaves this browser has one size; see docs/threat-model.md. */
export const hidesSizes = OBEYS_CBR || 'RTCRtpScriptTransform' in window;

/** The other side's description or certificate is not what it must be; end the call. */
export class MediaError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

export class Media {
  /** handlers: onState('connected' | 'lost'), onCandidate(candidate, mid, attempt), onTrack(track). */
  static async make(policy, handlers) {
    const certificate = await RTCPeerConnection.generateCertificate({ name: 'ECDSA', namedCurve: 'P-256' });
    const media = new Media(certificate, policy, handlers);
    const print = certificate.getFingerprints?.().find(({ algorithm }) => algorithm === 'sha-256');
    media.fingerprint = print ? `sha-256 ${print.value}` : fingerprint(await media.probe());
    return media;
  }

  constructor(certificate, policy, handlers) {
    Object.assign(this, { certificate, policy, handlers });
    this.iceServers = [];
    this.track = null;
    this.connection = null;
    this.promised = ''; // the fingerprint in the other side's description
  }

  /** For browsers that do not tell a certificate's fingerprint: a description has it. */
  async probe() {
    const connection = new RTCPeerConnection({ certificates: [this.certificate] });
    connection.addTransceiver('audio');
    const { sdp } = await connection.createOffer();
    connection.close();
    return sdp;
  }

  renew(attempt) {
    this.drop();
    const connection = new RTCPeerConnection({
      certificates: [this.certificate],
      iceServers: this.iceServers,
      iceTransportPolicy: this.policy === 'relay' ? 'relay' : 'all',
      bundlePolicy: 'max-bundle',
    });
    this.connection = connection;
    this.attempt = attempt;
    this.held = [];
    this.described = false; // ours is on the wire: later candidates must be trickled
    // A new path that never comes up would otherwise only be missed by ICE itself, much later.
    if (attempt > 0) this.stopWatch = after(SILENT_MS, () => this.handlers.onState('lost'));
    connection.ontrack = ({ track }) => this.handlers.onTrack(track);
    connection.onicecandidate = ({ candidate }) => {
      if (!this.described || !candidate?.candidate) return;
      const text = publicCandidate(candidate.candidate, this.policy);
      if (text) this.handlers.onCandidate(text, candidate.sdpMid, attempt);
    };
    connection.onconnectionstatechange = () => {
      if (connection !== this.connection) return;
      if (connection.connectionState === 'connected') this.watch();
      if (connection.connectionState === 'failed') this.handlers.onState('lost');
    };
    return connection;
  }

  async makeOffer(attempt) {
    const connection = this.renew(attempt);
    connection.addTransceiver('audio', { direction: 'sendrecv' });
    this.carry(this.track);
    const { sdp } = await connection.createOffer();
    return this.describe(connection, 'offer', sdp);
  }

  async makeAnswer(sdp, attempt) {
    const connection = this.renew(attempt);
    await this.takeRemote(connection, 'offer', sdp);
    connection.getTransceivers()[0].direction = 'sendrecv';
    this.carry(this.track);
    const answer = await connection.createAnswer();
    return this.describe(connection, 'answer', answer.sdp);
  }

  async describe(connection, type, sdp) {
    await connection.setLocalDescription({ type, sdp: voiceOnly(sdp) });
    await gathered(connection);
    this.described = true;
    return forTheWire(connection.localDescription.sdp, this.policy);
  }

  takeAnswer(sdp) {
    return this.takeRemote(this.connection, 'answer', sdp);
  }

  async takeRemote(connection, type, sdp) {
    this.promised = fingerprint(sdp);
    // With two of them the check words could be made of one and the connection of the other.
    if (!this.promised) throw new MediaError('no_fingerprint');
    await connection.setRemoteDescription({ type, sdp: voiceOnly(addressedOnly(sdp)) });
    for (const candidate of this.held.splice(0)) await this.add(connection, candidate);
  }

  async takeCandidate(candidate, mid) {
    if (candidate && !isAddressed(candidate)) return;
    const entry = { candidate: candidate ?? '', sdpMid: mid ?? '0' };
    if (this.connection?.remoteDescription) await this.add(this.connection, entry);
    else if (this.connection && this.held.length < MAX_HELD) this.held.push(entry);
  }

  async add(connection, entry) {
    try {
      await connection.addIceCandidate(entry);
    } catch {
      // A candidate this browser cannot read is one path less, not the end of the call.
    }
  }

  /** The certificate DTLS really saw, or '' while there is none; MediaError when it is not the promised one. */
  async peerFingerprint() {
    const transport = this.connection?.getTransceivers()[0]?.receiver.transport;
    if (transport && transport.state !== 'connected') return '';
    const [certificate] = transport?.getRemoteCertificates?.() ?? [];
    if (!certificate) return this.promised; // a browser that does not tell: it has compared them itself
    const digest = hex(new Uint8Array(await crypto.subtle.digest('SHA-256', certificate)));
    if (digest !== this.promised.toLowerCase().replace(/^sha-256 |:/g, '')) throw new MediaError('fingerprint_mismatch');
    return `sha-256 ${digest}`;
  }

  /** Send this microphone track, or nothing when null. */
  carry(track) {
    this.track = track;
    const sender = this.connection?.getTransceivers()[0]?.sender;
    if (sender && !OBEYS_CBR && hidesSizes && !sender.transform) {
      padder ??= new Worker(new URL('./padding-worker.js', import.meta.url), { type: 'module' });
      sender.transform = new RTCRtpScriptTransform(padder, {});
    }
    sender?.replaceTrack(track);
  }

  /** Send no more than the other side says our line carries; a browser does not notice by itself. */
  async useLine(bitrate, packetMs) {
    this.line = { bitrate, packetMs };
    const sender = this.connection?.getTransceivers()[0]?.sender;
    const parameters = sender?.getParameters();
    if (!parameters?.encodings?.length) return;
    for (const encoding of parameters.encodings) {
      encoding.maxBitrate = bitrate;
      encoding.adaptivePtime = packetMs > 20; // Chromium: longer packets where the rate is low
    }
    try {
      await sender.setParameters(parameters);
    } catch {
      // A browser that knows less of it goes on sending as before; the call stands.
    }
  }

  /** Count what arrives: ICE itself needs half a minute to notice that a path is gone. */
  watch() {
    this.stopWatch?.();
    let packets = -1;
    let since = performance.now();
    const connection = this.connection;
    this.handlers.onState('connected');
    if (this.line) this.useLine(this.line.bitrate, this.line.packetMs); // a new connection forgot it
    // The certificate may be there a moment later than the connection says that it is connected.
    const transport = connection.getTransceivers()[0]?.receiver.transport;
    if (transport) transport.onstatechange = () => connection === this.connection && this.handlers.onState('connected');
    this.stopWatch = every(WATCH_MS, async () => {
      const { packetsReceived = 0 } = await this.stats();
      if (connection !== this.connection) return;
      if (packetsReceived !== packets) {
        packets = packetsReceived;
        since = performance.now();
      } else if (performance.now() - since > SILENT_MS) {
        since = performance.now();
        this.handlers.onState('lost');
      }
    });
  }

  async stats() {
    const found = {};
    const report = (await this.connection?.getStats().catch(() => null)) ?? new Map();
    for (const entry of report.values()) {
      if (entry.type === 'inbound-rtp') {
        found.packetsReceived = entry.packetsReceived;
        found.packetsLost = entry.packetsLost;
        found.jitterMs = Math.round((entry.jitter ?? 0) * 1000);
        found.energy = entry.totalAudioEnergy;
      } else if (entry.type === 'outbound-rtp') {
        found.packetsSent = entry.packetsSent;
        found.bytesSent = entry.bytesSent;
      } else if (entry.type === 'candidate-pair' && entry.nominated) {
        found.roundTripMs = Math.round((entry.currentRoundTripTime ?? 0) * 1000);
        found.path = report.get(entry.localCandidateId)?.candidateType;
      }
    }
    return found;
  }

  drop() {
    this.stopWatch?.();
    if (!this.connection) return;
    const connection = this.connection;
    this.connection = null;
    connection.ontrack = connection.onicecandidate = connection.onconnectionstatechange = null;
    connection.close();
  }
}

function gathered(connection) {
  return new Promise((resolve) => {
    const cancel = after(GATHER_MS, resolve);
    const check = () => {
      if (connection.iceGatheringState !== 'complete') return;
      cancel();
      resolve();
    };
    connection.addEventListener('icegatheringstatechange', check);
    check();
  });
}
