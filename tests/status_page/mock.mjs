// Stands for omnigate: serves the page with the policy that omnigate serves it with, and plays scenes
// (scenes.mjs) as events. Notes what it is asked.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { scenes } from './scenes.mjs'

const page = readFileSync(new URL('../../src/admin/page.html', import.meta.url), 'utf8')

const digest = tag => {
  const found = [...page.matchAll(new RegExp(`<${tag}>([^]*?)</${tag}>`, 'g'))]
  if (found.length !== 1) throw Error(`the page has ${found.length} elements <${tag}>, and should have one`)
  return `'sha256-${createHash('sha256').update(found[0][1]).digest('base64')}'`
}
export const policy = [
  "default-src 'none'", `script-src ${digest('script')}`, `style-src ${digest('style')}`, "connect-src 'self'", "img-src data:",
  "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
].join('; ')

/** Plays a scene, with an event each `pace` ms and the seconds that `time` gives. `play(name)` changes the scene at once; `cut()` ends all streams, `refuse(status)` answers no more of them. */
export const mock = async (first = 'idle', { pace = 1000, token = '', time } = {}) => {
  const began = Date.now()
  time ??= () => (Date.now() - began) / 1000
  const streams = new Set()
  const asked = []
  const answers = {
    '/-/pause': {}, '/-/resume': {}, '/-/reload': { credentials: [{ credential: 'org', state: 'ready' }] }, '/-/cache/purge': { route: null, entries: 412 },
    '/-/credentials/org/test': { credential: 'org', accepted: true, refused: false, status: 200 },
  }
  let scene = first
  let refused = 0
  const event = () => `event: status\ndata: ${JSON.stringify(scenes[scene](time()))}\n\n`
  const server = createServer((request, answer) => {
    const { pathname } = new URL(request.url, 'http://x')
    asked.push(`${request.method} ${request.url}`)
    const say = (status, body, media = 'application/json') => (answer.writeHead(status, { 'Content-Type': media, 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff', ...(pathname === '/' && { 'Content-Security-Policy': policy }) }), answer.end(body))
    const problem = (status, detail) => say(status, JSON.stringify({ status, detail }), 'application/problem+json')
    if (pathname === '/') return say(200, page, 'text/html; charset=utf-8')
    if (token && request.headers.authorization !== `Bearer ${token}`) return problem(401, "this listener is for operators; show its token as a bearer in `Authorization`")
    if (pathname === '/-/events') {
      if (refused) return problem(refused, 'There are too many viewers.')
      answer.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
      answer.write(event())
      streams.add(answer)
      return answer.on('close', () => streams.delete(answer))
    }
    if (pathname in answers && request.method === 'POST') return say(200, JSON.stringify(answers[pathname]))
    problem(404, 'There is nothing here.')
  })
  await new Promise(done => server.listen(0, '127.0.0.1', done))
  const all = () => streams.forEach(it => it.write(event()))
  const beat = setInterval(all, pace)
  return {
    url: `http://127.0.0.1:${server.address().port}`, asked, scenes: Object.keys(scenes),
    play: name => ((scene = name), all()),
    cut: () => streams.forEach(it => it.destroy()),
    still: () => clearInterval(beat),
    refuse: status => (refused = status),
    close: () => (clearInterval(beat), server.closeAllConnections(), server.close()),
  }
}
