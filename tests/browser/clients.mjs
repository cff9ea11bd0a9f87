// Programs that call the gateway as anybody's do, and what other browsers than Chromium send.
import { execFile } from 'node:child_process'
import { request } from 'node:http'
import { connect } from 'node:net'
import { promisify } from 'node:util'

const run = promisify(execFile)
const json = 'content-type: application/json'

/** By name: `(method, path) => …`, which makes the call. */
export const clients = (base, work) => {
  const python = source => async (method, path) =>
    (await run(`${work}/venv/bin/python`, ['-c', source, method, base + path], { timeout: 20000 })).stdout
  return {
    curl: async (method, path) =>
      (await run('curl', ['-sS', '-m', '20', '-X', method, ...(method === 'POST' ? ['-H', json, '-d', '{}'] : []), base + path])).stdout,
    'python urllib': python(`
import sys, urllib.request as r
method, url = sys.argv[1:]
body = b"{}" if method == "POST" else None
print(r.urlopen(r.Request(url, body, {"Content-Type": "application/json"}, method=method), timeout=15).status)`),
    'python requests': python(`
import sys, requests
method, url = sys.argv[1:]
print(requests.request(method, url, json={} if method == "POST" else None, timeout=15).status_code)`),
    'python httpx': python(`
import sys, httpx
method, url = sys.argv[1:]
print(httpx.request(method, url, json={} if method == "POST" else None, timeout=15).status_code)`),
    'node fetch': async (method, path) =>
      (await fetch(base + path, { method, ...(method === 'POST' && { body: '{}', headers: { 'content-type': 'application/json' } }) })).text(),
    'node http': (method, path) =>
      new Promise((done, failed) => {
        const asked = request(base + path, { method, headers: { 'content-type': 'application/json' } }, answer => {
          answer.resume().on('end', () => done(answer.statusCode))
        })
        asked.on('error', failed).end(method === 'POST' ? '{}' : undefined)
      }),
  }
}

/** Sends bytes, gives the status of what comes back. */
const raw = text => port =>
  new Promise(done => {
    const socket = connect(port, '127.0.0.1', () => socket.write(text.replaceAll('PORT', port).replaceAll('\n', '\r\n')))
    socket.setTimeout(5000, () => socket.destroy())
    socket.once('data', data => (done(String(data).slice(9, 12)), socket.destroy()))
    socket.on('error', () => {}).on('close', () => done('---'))
  })
const agent = 'User-Agent: Mozilla/5.0 (Windows NT 10.0; rv:78.0) Gecko/20100101 Firefox/78.0'
const head = (method, fields, body = '') =>
  raw(`${method} /api/v1/documents?old HTTP/1.1\n${agent}\n${fields}\nConnection: close\n\n${body}`)
const here = 'Host: 127.0.0.1:PORT'

/** By name: what a browser sends; `port => status`. Those of old know no Sec-Fetch-Site. */
export const others = {
  'image, script, frame or window': head('GET', `${here}\nAccept: image/webp,*/*\nReferer: http://evil.test/`),
  'the same, no Referer': head('GET', `${here}\nAccept: image/webp,*/*`),
  'fetch with CORS': head('GET', `${here}\nOrigin: http://evil.test`),
  'form, POST': head('POST', `${here}\nOrigin: http://evil.test\nContent-Type: text/plain\nContent-Length: 2`, '{}'),
  'form, POST, Origin null': head('POST', `${here}\nOrigin: null\nContent-Type: text/plain\nContent-Length: 2`, '{}'),
  'form, POST, no Origin (Firefox < 70)': head('POST', `${here}\nReferer: http://evil.test/\nContent-Type: text/plain\nContent-Length: 2`, '{}'),
  'form, POST, neither Origin nor Referer': head('POST', `${here}\nContent-Type: text/plain\nContent-Length: 2`, '{}'),
  'question before a request': head('OPTIONS', `${here}\nOrigin: http://evil.test\nAccess-Control-Request-Method: PUT`),
  'rebound name': head('GET', 'Host: evil.test:PORT'),
  'rebound name, absolute target': raw(`GET http://evil.test/api/v1/documents HTTP/1.1\n${agent}\n${here}\nConnection: close\n\n`),
}
