// Who says what in one call's channel: pure, as in call/negotiation.py.
// Rule: everything is said again after a rejoin and understood once, because Realtime delivers at most
// once. Each method returns a list of commands: ['send', event, fields], ['makeOffer', attempt],
// ['makeAnswer', sdp, attempt], ['takeAnswer', sdp], ['takeCandidate', candidate, mid], ['rings'],
// ['accepted'], ['line', bitrate, packetMs], ['door', what it said], ['left', reason].

const MAX_ATTEMPTS = 2_000; // media restarts in one call: an hour of trying every two seconds

export class Negotiation {
  /** kind: 'meet' (both pressed call), 'calling' (we asked), 'called' (somebody asks us). */
  /** announce: our call plays at a door whose microphone stays closed; said in each hello. */
  constructor(kind, offerer, words, announce = false) {
    Object.assign(this, { kind, offerer, wordsExchange: words, announce });
    this.accepted = kind === 'meet';
    this.attempt = 0;
    this.peerPresent = false;
    this.repeatDue = false;
    this.revealDue = false;
    this.offer = null; // ours, of the current attempt
    this.offerSent = false;
    this.answered = false;
    this.remoteOffer = null; // theirs, of the current attempt
    this.answering = false;
    this.answer = null;
  }

  start() {
    return this.offerer ? [['makeOffer', 0]] : [];
  }

  joined() {
    this.repeatDue = true;
    return [this.hello(true)];
  }

  accept() {
    if (this.kind !== 'called' || this.accepted) return [];
    this.accepted = true;
    return [['send', 'accept', {}], ...this.offerIfPossible(), ...this.answerIfPossible()];
  }

  offerReady(sdp, attempt) {
    if (attempt !== this.attempt || !this.offerer) return [];
    this.offer = { sdp, attempt };
    this.offerSent = false;
    return this.offerIfPossible();
  }

  answerReady(sdp, attempt) {
    if (attempt !== this.remoteOffer?.attempt) return [];
    this.answer = { sdp, attempt };
    return [['send', 'answer', this.answer]];
  }

  restart() {
    if (!this.offerer) return [['send', 'restart', { attempt: this.attempt + 1 }]];
    if (this.attempt >= MAX_ATTEMPTS) return [];
    this.attempt += 1;
    this.offer = null;
    this.answered = false;
    return [['makeOffer', this.attempt]];
  }

  receive(message) {
    switch (message.event) {
      case 'hello':
        return this.onHello(message);
      case 'reveal':
        this.wordsExchange.onReveal(message.nonce);
        return [];
      case 'offer':
        return this.onOffer(message);
      case 'answer':
        if (!this.offerSent || this.answered || message.attempt !== this.attempt) return [];
        this.answered = true;
        return [['takeAnswer', message.sdp]];
      case 'candidate':
        return message.attempt === this.attempt ? [['takeCandidate', message.candidate, message.mid]] : [];
      case 'restart':
        return this.offerer && this.answered && message.attempt === this.attempt + 1 ? this.restart() : [];
      case 'line':
        return [['line', message.bitrate, message.packet_ms]];
      case 'ring':
        return this.kind === 'calling' && !this.accepted ? [['rings']] : [];
      case 'accept':
        if (this.kind !== 'calling' || this.accepted) return [];
        this.accepted = true;
        return [['accepted'], ...this.offerIfPossible(), ...this.answerIfPossible()];
      case 'door':
        return [['door', message]];
      case 'bye':
        return [['left', message.reason]];
      default:
        return [];
    }
  }

  onHello({ reply, nonce, commitment }) {
    this.peerPresent = true;
    const step = this.wordsExchange.onHello(nonce, commitment);
    const commands = [];
    if (reply || step === 'hello') commands.push(this.hello(false));
    if (reply || this.repeatDue) {
      this.repeatDue = false;
      commands.push(...this.repeat());
    }
    if (step === 'reveal') this.revealDue = true;
    if (this.revealDue && (step === 'reveal' || reply)) {
      commands.push(['send', 'reveal', { nonce: this.wordsExchange.revealNonce() }]);
    }
    return commands;
  }

  repeat() {
    const commands = [];
    if (this.kind === 'called') commands.push(['send', this.accepted ? 'accept' : 'ring', {}]);
    if (this.offerer) {
      this.offerSent = false;
      commands.push(...this.offerIfPossible());
    } else if (this.answer) {
      commands.push(['send', 'answer', this.answer]);
    }
    return commands;
  }

  onOffer({ sdp, attempt }) {
    if (this.offerer || attempt > MAX_ATTEMPTS) return [];
    const known = this.remoteOffer;
    if (known && attempt <= known.attempt) {
      const again = attempt === known.attempt && sdp === known.sdp && this.answer;
      return again ? [['send', 'answer', this.answer]] : [];
    }
    this.remoteOffer = { sdp, attempt };
    this.attempt = attempt;
    this.answer = null;
    this.answering = false;
    return this.answerIfPossible();
  }

  answerIfPossible() {
    if (!this.remoteOffer || !this.accepted || this.answering) return [];
    this.answering = true;
    return [['makeAnswer', this.remoteOffer.sdp, this.remoteOffer.attempt]];
  }

  offerIfPossible() {
    if (!this.offer || !this.accepted || !this.peerPresent || this.answered || this.offerSent) return [];
    this.offerSent = true;
    return [['send', 'offer', this.offer]];
  }

  hello(reply) {
    const announce = this.announce ? { announce: true } : {};
    return ['send', 'hello', { reply, ...announce, ...this.wordsExchange.helloFields() }];
  }
}
