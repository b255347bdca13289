// Drives the official JavaScript client, unchanged: one JSON command per line in, answers and events out.
import readline from 'node:readline'
import { RealtimeClient } from '@supabase/realtime-js'
import WebSocket from 'ws'

const channels = new Map()
let client = null
let apikey = ''

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')
const hex = (buffer) => Buffer.from(buffer).toString('hex')

function listen(name, channel, options) {
  channel.on('broadcast', { event: '*' }, (message) => {
    const isBinary = message.payload instanceof ArrayBuffer
    say({
      event: 'broadcast',
      channel: name,
      name: message.event,
      payload: isBinary ? { hex: hex(message.payload) } : message.payload,
    })
  })
  channel.on('system', {}, (payload) => say({ event: 'system', channel: name, ...payload }))
  if (options.presence) {
    channel.on('presence', { event: 'sync' }, () =>
      say({ event: 'presence', channel: name, state: channel.presenceState() })
    )
  }
}

const commands = {
  async connect({ url, key, vsn }) {
    apikey = key
    client = new RealtimeClient(url, { transport: WebSocket, params: { apikey }, vsn, timeout: 15000 })
    client.connect()
  },
  async set_auth({ token }) {
    await client.setAuth(token)
  },
  subscribe({ name, topic, options }) {
    const channel = client.channel(topic, {
      config: {
        private: options.private,
        broadcast: { ack: options.ack, self: options.echo },
        presence: { key: options.key ?? '' },
      },
    })
    channels.set(name, channel)
    listen(name, channel, options)
    let isFirst = true
    return new Promise((resolve) => {
      channel.subscribe((status, error) => {
        const state = { status, error: error ? String(error.message ?? error) : '' }
        if (isFirst) resolve(state)
        else say({ event: 'status', channel: name, ...state })
        isFirst = false
      })
    })
  },
  async send({ name, event, payload }) {
    return channels.get(name).send({ type: 'broadcast', event, payload })
  },
  async send_binary({ name, event, data }) {
    const bytes = Uint8Array.from(Buffer.from(data, 'hex'))
    return channels.get(name).send({ type: 'broadcast', event, payload: bytes.buffer })
  },
  async http_send({ name, event, payload }) {
    return channels.get(name).httpSend(event, payload)
  },
  async track({ name, payload }) {
    return channels.get(name).track(payload)
  },
  async untrack({ name }) {
    return channels.get(name).untrack()
  },
  async unsubscribe({ name }) {
    return channels.get(name).unsubscribe()
  },
  async join_again({ topic }) {
    const payload = { config: { private: false, broadcast: {}, presence: {} }, access_token: apikey }
    client.push({ topic: `realtime:${topic}`, event: 'phx_join', payload, ref: '900', join_ref: '900' })
  },
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, op, ...args } = JSON.parse(line)
  Promise.resolve()
    .then(() => commands[op](args))
    .then((result) => say({ id, result: result ?? null }))
    .catch((error) => say({ id, error: String(error.message ?? error) }))
}
process.exit(0)
