// The three servers of the check: what stands for Omni, the attacker's site, and the forwarder that
// takes the gateway's place to show that the pages do get through where nobody stops them.
import { createServer } from 'node:http'
import { createServer as createTls } from 'node:https'
import { connect, createServer as createPlain } from 'node:net'
import { request } from 'node:http'

export const listen = (server, port = 0) =>
  new Promise(done => server.listen(port, '127.0.0.1', () => done(server.address().port)))

const grants = (origin = '*') => ({
  'Access-Control-Allow-Origin': origin,
  'Access-Control-Allow-Credentials': 'true',
  'Access-Control-Allow-Headers': 'authorization, content-type, x-omnigate-caller',
  'Access-Control-Allow-Methods': 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS',
  'Access-Control-Allow-Private-Network': 'true',
})

/** Stands for Omni: keeps `METHOD url authorization` of all that arrives, lets every page read all. */
export const upstream = async () => {
  const arrived = []
  const keep = asked => arrived.push(`${asked.method} ${asked.url} ${asked.headers.authorization ?? '-'}`)
  const server = createServer((asked, answer) => {
    keep(asked)
    asked.resume()
    answer.writeHead(200, { ...grants(asked.headers.origin), 'Content-Type': 'application/json' })
    answer.end('{"records":"what-nobody-may-read"}')
  })
  server.on('upgrade', (asked, socket) => (keep(asked), socket.end()))
  return { arrived, port: await listen(server) }
}

/** The attacker's site: pages that were given to it, redirects to wherever, and a few more. */
export const site = async (work, tls) => {
  const pages = []
  const serve = (asked, answer) => {
    const { pathname, searchParams } = new URL(asked.url, 'http://x')
    const url = searchParams.get('url')
    const html = (text, fields = {}) => (answer.writeHead(200, { 'Content-Type': 'text/html', ...fields }), answer.end(text))
    asked.resume()
    if (pathname === '/to') {
      answer.writeHead(Number(searchParams.get('status')), { ...grants(asked.headers.origin), Location: url })
      return answer.end()
    }
    if (pathname === '/csp') {
      return html('<img src="/x">', { 'Content-Security-Policy': `img-src 'none'; report-uri ${url}` })
    }
    if (pathname === '/worker.js') {
      answer.writeHead(200, { 'Content-Type': 'text/javascript' })
      return answer.end(`fetch(${JSON.stringify(url)}, { mode: 'no-cors' })`)
    }
    html(pages[Number(pathname.slice(1))] ?? '')
  }
  const port = await listen(createServer(serve))
  return { work, port, tls: await listen(createTls(tls, serve)), give: html => `/${pages.push(html) - 1}` }
}

/** Passes bytes on to `port`, and looks at none of them. */
export const forwarder = port =>
  listen(
    createPlain(from => {
      const to = connect(port, '127.0.0.1')
      for (const [a, b] of [[from, to], [to, from]]) a.pipe(b).on('error', () => b.destroy()), a.on('error', () => b.destroy())
    }),
  )

/**
 * Passes requests on to `port` without what tells that a page makes them, and without their bodies, which
 * operators' pages take none of: a gateway without a guard.
 */
export const unguarded = port =>
  listen(
    createServer((asked, answer) => {
      if (asked.method === 'OPTIONS') return answer.writeHead(204, grants(asked.headers.origin)).end()
      const headers = Object.fromEntries(Object.entries(asked.headers).filter(([name]) => !/^(sec-|origin$|referer$|user-agent$|content-|transfer-)/.test(name)))
      // Without what a form adds.
      const path = asked.url.replace(/[?&]try=[^&]*/, '')
      const onward = request({ port, host: '127.0.0.1', method: asked.method, path, headers: { ...headers, host: `127.0.0.1:${port}` } }, got => {
        answer.writeHead(got.statusCode, { ...got.headers, ...grants(asked.headers.origin) })
        got.pipe(answer)
      })
      onward.on('error', () => answer.destroy())
      asked.resume()
      onward.end()
    }),
  )
