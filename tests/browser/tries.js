// What a page can do to an address that is not its own. Runs in the page itself, in every kind of page
// (tests/browser/pages.mjs); says in the console what it could read. Written so that each try stands
// for itself: one that throws shall not hinder the next.
//
//   at(name)    the address to attack, marked with the name of the try
//   home        the attacker's own server: /to?url=… redirects, /worker.js attacks from a worker
const attack = (at, home) => {
  const via = (name, status = 302) => `${home}/to?status=${status}&url=${encodeURIComponent(at(name))}`
  const read = name => text => /what-nobody-may-read|omnigate_|"credential"/.test(text) && console.log(`READ ${name}`)
  const text = answer => answer.text()
  const ask = (name, options = {}, url = at(name)) => fetch(url, options).then(text).then(read(name))
  const add = (tag, fields, parent = document.body) => {
    const element = document.createElement(tag)
    for (const [key, value] of Object.entries(fields)) {
      key in element && typeof value !== 'string' ? (element[key] = value) : element.setAttribute(key, value)
    }
    return parent.appendChild(element)
  }
  const link = (rel, name, more = {}) => add('link', { rel, href: at(name), ...more }, document.head)
  const frame = html => add('iframe', { srcdoc: html })
  const style = css => add('style', {}).append(css)
  const form = (name, method, enctype) => {
    add('iframe', { name })
    const it = add('form', { action: at(name), method, enctype, target: name })
    add('input', { name: 'try', value: name }, it)
    it.submit()
  }
  const xhr = (name, method, fields = {}, body = null) => {
    const it = new XMLHttpRequest()
    it.open(method, at(name))
    it.withCredentials = name.includes('credentials')
    for (const [key, value] of Object.entries(fields)) it.setRequestHeader(key, value)
    it.onload = () => read(name)(it.responseText)
    it.send(body)
  }
  const worker = (name, source) =>
    new Worker(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })), { name })

  const json = { 'Content-Type': 'application/json' }
  const tries = {}
  // fetch: each mode, method and content type.
  tries['fetch'] = n => ask(n)
  tries['fetch-same-origin'] = n => ask(n, { mode: 'same-origin' })
  for (const method of ['GET', 'HEAD', 'POST']) {
    tries[`fetch-no-cors-${method}`] = n => ask(n, { mode: 'no-cors', method })
  }
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
    tries[`fetch-json-${method}`] = n => ask(n, { method, headers: json, body: '{}' })
  }
  tries['fetch-text'] = n => ask(n, { method: 'POST', body: '{}' })
  tries['fetch-form'] = n => ask(n, { method: 'POST', body: new URLSearchParams({ a: 1 }) })
  tries['fetch-multipart'] = n => {
    const body = new FormData()
    body.set('a', '1')
    return ask(n, { method: 'POST', body })
  }
  tries['fetch-bare-body'] = n => ask(n, { method: 'POST', body: new Blob(['{}']) })
  tries['fetch-no-cors-credentials'] = n => ask(n, { mode: 'no-cors', credentials: 'include' })
  tries['fetch-credentials'] = n => ask(n, { credentials: 'include' })
  tries['fetch-own-field'] = n => ask(n, { headers: { 'X-Omnigate-Caller': 'nightly' } })
  tries['fetch-own-authorization'] = n => ask(n, { headers: { Authorization: 'Bearer x' } })
  tries['fetch-no-referrer'] = n => ask(n, { mode: 'no-cors', method: 'POST', referrerPolicy: 'no-referrer' })
  tries['fetch-unsafe-referrer'] = n => ask(n, { mode: 'no-cors', referrerPolicy: 'unsafe-url' })
  tries['fetch-keepalive'] = n => ask(n, { mode: 'no-cors', keepalive: true, method: 'POST', body: 'x' })
  tries['fetch-no-store'] = n => ask(n, { mode: 'no-cors', cache: 'no-store' })
  tries['fetch-redirected-302'] = n => ask(n, { mode: 'no-cors' }, via(n))
  tries['fetch-redirected-307-POST'] = n => ask(n, { mode: 'no-cors', method: 'POST', body: 'x' }, via(n, 307))
  tries['fetch-redirected-cors'] = n => ask(n, {}, via(n))
  tries['beacon'] = n => navigator.sendBeacon(at(n), 'x')
  tries['beacon-json'] = n => navigator.sendBeacon(at(n), new Blob(['{}'], { type: 'application/json' }))
  tries['beacon-form'] = n => navigator.sendBeacon(at(n), new URLSearchParams({ a: 1 }))
  tries['xhr'] = n => xhr(n, 'GET')
  tries['xhr-POST'] = n => xhr(n, 'POST', {}, 'x')
  tries['xhr-json'] = n => xhr(n, 'POST', json, '{}')
  tries['xhr-credentials'] = n => xhr(n, 'GET')
  tries['eventsource'] = n => (new EventSource(at(n)).onerror = event => event.target.close())
  tries['eventsource-status'] = n => {
    const events = new EventSource(at(n))
    events.addEventListener('status', event => read(n)(event.data) || events.close())
    events.onerror = () => events.close()
  }
  tries['websocket'] = n => new WebSocket(at(n).replace(/^http/, 'ws'))
  // What elements load.
  tries['img'] = n => add('img', { src: at(n) })
  tries['img-crossorigin'] = n => add('img', { crossorigin: 'use-credentials', src: at(n) })
  tries['img-redirected'] = n => add('img', { src: via(n) })
  tries['img-no-referrer'] = n => add('img', { referrerpolicy: 'no-referrer', src: at(n) })
  tries['srcset'] = n => add('img', { srcset: `${at(n)} 1x` })
  tries['input-image'] = n => add('input', { type: 'image', src: at(n) })
  tries['svg-image'] = n => add('div', {}).insertAdjacentHTML('beforeend', `<svg><image href="${at(n)}"/></svg>`)
  tries['script'] = n => add('script', { src: at(n) })
  tries['script-module'] = n => add('script', { type: 'module', src: at(n) })
  tries['script-import'] = n => import(at(n))
  tries['script-redirected'] = n => add('script', { src: via(n) })
  tries['video'] = n => add('video', { src: at(n), preload: 'auto' }).load()
  tries['video-poster'] = n => add('video', { poster: at(n) })
  tries['audio'] = n => add('audio', { src: at(n), preload: 'auto' }).load()
  tries['iframe'] = n => add('iframe', { src: at(n) })
  tries['iframe-no-referrer'] = n => add('iframe', { referrerpolicy: 'no-referrer', src: at(n) })
  tries['iframe-sandbox'] = n => add('iframe', { sandbox: '', src: at(n) })
  tries['iframe-redirected'] = n => add('iframe', { src: via(n) })
  tries['iframe-meta-refresh'] = n => frame(`<meta http-equiv=refresh content="0;url=${at(n)}">`)
  tries['iframe-location'] = n => frame(`<script>location = ${JSON.stringify(at(n))}</script>`)
  tries['object'] = n => add('object', { data: at(n), type: 'text/html' })
  tries['embed'] = n => add('embed', { src: at(n), type: 'text/html' })
  tries['stylesheet'] = n => link('stylesheet', n)
  tries['prefetch'] = n => link('prefetch', n)
  tries['preload-fetch'] = n => link('preload', n, { as: 'fetch', crossorigin: 'anonymous' })
  tries['preload-image'] = n => link('preload', n, { as: 'image' })
  tries['modulepreload'] = n => link('modulepreload', n)
  tries['preconnect'] = n => link('preconnect', n)
  tries['prerender'] = n => link('prerender', n)
  tries['speculation-prefetch'] = n =>
    add('script', { type: 'speculationrules' }).append(JSON.stringify({ prefetch: [{ source: 'list', urls: [at(n)] }] }))
  tries['css-url'] = n => add('div', { style: `background: url("${at(n)}"); width: 9px; height: 9px` })
  tries['css-import'] = n => style(`@import "${at(n)}";`)
  tries['css-font'] = n => {
    style(`@font-face { font-family: "${n}"; src: url("${at(n)}") }`)
    add('p', { style: `font-family: "${n}"` }).append('x')
  }
  // What moves a frame or a window.
  for (const method of ['get', 'post']) tries[`form-${method}`] = n => form(n, method, '')
  tries['form-text'] = n => form(n, 'post', 'text/plain')
  tries['form-multipart'] = n => form(n, 'post', 'multipart/form-data')
  tries['window-open'] = n => setTimeout(window.close, 500, window.open(at(n)))
  tries['ping'] = n => add('a', { ping: at(n), href: '#', target: '_self' }).click()
  tries['csp-report'] = n =>
    frame(`<meta http-equiv=Content-Security-Policy content="img-src 'none'"><iframe src="${home}/csp?url=${encodeURIComponent(at(n))}"></iframe>`)
  // Workers have a network of their own.
  tries['worker-fetch'] = n => worker(n, `fetch(${JSON.stringify(at(n))}, { mode: 'no-cors' })`)
  tries['worker-import'] = n => worker(n, `importScripts(${JSON.stringify(at(n))})`)
  tries['service-worker'] = async n => {
    await navigator.serviceWorker.register(`${location.origin}/worker.js?url=${encodeURIComponent(at(n))}`)
  }
  for (const [name, go] of Object.entries(tries)) {
    try {
      Promise.resolve(go(name)).catch(() => {})
    } catch {}
  }
}
