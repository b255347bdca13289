// Session descriptions of the browser, cut down to what we chose: Opus alone, constant bit rate, no
// header extension, no address the policy keeps. Rule: applied to everything that comes in or goes out.

const OPUS_FMTP = 'minptime=10;useinbandfec=1;stereo=0;sprop-stereo=0;cbr=1'; // RFC 7587 6.1
const MAX_CANDIDATES = 32; // of a description; each costs the other side a check
const RESERVED = 4; // of them for each kind and address family
const FEEDBACK = /^a=(?:rtcp-fb|extmap|extmap-allow-mixed|rtcp-rsize)/; // extmap: audio level shows speech

/** The one SHA-256 fingerprint in a description, or '' when there is none, another, or more than one. */
export function fingerprint(sdp) {
  const said = sdp.split(/\r?\n/).filter((line) => /^a=fingerprint:/i.test(line));
  const [one, ...others] = new Set(said.map((line) => line.slice(14).trim().toUpperCase()));
  const value = /^SHA-256 ((?:[0-9A-F]{2}:){31}[0-9A-F]{2})$/.exec(one ?? '')?.[1];
  return value && !others.length ? `sha-256 ${value}` : '';
}

/**
 * Whether a candidate names an address, or an .local name that only this network resolves (RFC 8828). Any
 * other name the browser would look up, and so tell the peer's own name server who and where we are.
 */
export function isAddressed(candidate) {
  const address = candidate.split(' ')[4] ?? '';
  return /^(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f:.]*:[0-9a-f:.]*|[a-z0-9-]{1,63}\.local)$/i.test(address);
}

/** The description without candidates that would have to be looked up. */
export function addressedOnly(sdp) {
  const lines = sdp.split(/\r?\n/).filter((line) => !/^a=candidate:/i.test(line) || isAddressed(line));
  return lines.join('\r\n');
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

/**
 * The best of many candidate lines, in their order: by priority, but some of every kind and address family. A
 * laptop with containers and VPNs tells dozens before the relay that works, and a description has its limit.
 */
export function best(lines, limit = MAX_CANDIDATES) {
  if (lines.length <= limit) return lines;
  const ranked = [...lines].sort((one, other) => other.split(' ')[3] - one.split(' ')[3]);
  const groups = new Map();
  for (const line of ranked) {
    const fields = line.split(' ');
    const group = `${fields[7]} ${fields[4].includes(':')}`;
    groups.set(group, [...(groups.get(group) ?? []), line]);
  }
  const kept = new Set([...groups.values()].flatMap((group) => group.slice(0, RESERVED)));
  for (const line of ranked) if (kept.size < limit) kept.add(line);
  return lines.filter((line) => kept.has(line));
}

/** What we send: the best candidates the policy allows, and no address anywhere else. */
export function forTheWire(sdp, policy) {
  const candidates = sdp.split(/\r?\n/).filter((line) => line.startsWith('a=candidate:'));
  const kept = new Set(best(candidates.filter((line) => publicCandidate(line.slice(2), policy))));
  const lines = [];
  for (const line of sdp.split(/\r?\n/)) {
    if (!line) continue;
    if (line.startsWith('a=candidate:')) {
      if (kept.has(line)) lines.push(`a=${publicCandidate(line.slice(2), policy)}`);
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
