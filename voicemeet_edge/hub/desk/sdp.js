// Session descriptions of the browser, cut down to what we chose: Opus alone, constant bit rate, no
// header extension, no address the policy keeps. Rule: applied to everything that comes in or goes out.

const OPUS_FMTP = 'minptime=10;useinbandfec=1;stereo=0;sprop-stereo=0;cbr=1'; // RFC 7587 6.1
const FEEDBACK = /^a=(?:rtcp-fb|extmap|extmap-allow-mixed|rtcp-rsize)/; // extmap: audio level shows speech

/** The one SHA-256 fingerprint in a description, or '' when there is none, another, or more than one. */
export function fingerprint(sdp) {
  const said = sdp.split(/\r?\n/).filter((line) => /^a=fingerprint:/i.test(line));
  const [one, ...others] = new Set(said.map((line) => line.slice(14).trim().toUpperCase()));
  const value = /^SHA-256 ((?:[0-9A-F]{2}:){31}[0-9A-F]{2})$/.exec(one ?? '')?.[1];
  return value && !others.length ? `sha-256 ${value}` : '';
}

/** Keep Opus only and our parameters; leaves every other line alone. */
export function voiceOnly(sdp) {
  const lines = sdp.split(/\r?\n/).filter((line) => line && !FEEDBACK.test(line));
  const opus = lines.map((line) => /^a=rtpmap:(\d+) opus\/48000\/2$/i.exec(line)?.[1]).find(Boolean);
  if (!opus) throw new Error('no_opus');
  const kept = [];
  for (const line of lines) {
    const type = /^a=(?:rtpmap|fmtp):(\d+) /.exec(line)?.[1];
    if (type && type !== opus) continue;
    if (line.startsWith(`a=fmtp:${opus} `)) continue;
    if (line.startsWith('m=audio ')) kept.push(line.split(' ').slice(0, 3).concat(opus).join(' '));
    else kept.push(line);
    if (type === opus) kept.push(`a=fmtp:${opus} ${OPUS_FMTP}`);
  }
  return kept.join('\r\n') + '\r\n';
}

/** The candidate as it may go out under the policy, or null when it may not. */
export function publicCandidate(candidate, policy) {
  const fields = candidate.split(' ');
  if (fields[2]?.toLowerCase() !== 'udp') return null; // TCP host candidates only ever cost time
  if (policy === 'relay' && fields[7] !== 'relay') return null;
  return candidate.replace(/ raddr \S+ rport \d+/, ' raddr 0.0.0.0 rport 9');
}

/** What we send: candidates by policy, and no address anywhere else. */
export function forTheWire(sdp, policy) {
  const lines = [];
  for (const line of sdp.split(/\r?\n/)) {
    if (!line) continue;
    if (line.startsWith('a=candidate:')) {
      const candidate = publicCandidate(line.slice(2), policy);
      if (candidate) lines.push(`a=${candidate}`);
    } else {
      lines.push(
        line
          .replace(/^c=IN IP[46] .*/, 'c=IN IP4 0.0.0.0')
          .replace(/^a=rtcp:\d+ .*/, 'a=rtcp:9 IN IP4 0.0.0.0')
          .replace(/^(o=\S+ \d+ \d+) .*/, '$1 IN IP4 127.0.0.1')
          .replace(/^m=audio \d+ /, 'm=audio 9 '),
      );
    }
  }
  return lines.join('\r\n') + '\r\n';
}
