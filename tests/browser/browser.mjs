// Has Chromium show every kind of page (pages.mjs), each doing everything that a page can do (tries.js),
// once to a forwarder without any guard and once to the gateway; prints what arrived, try by try.
//
//   node browser.mjs WORK CHROMIUM OMNIGATE
//
// Ends with 1 if anything arrived through the gateway or was read from it, or if too little arrived
// through the forwarder for that to mean something.
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { kinds, moves, page } from './pages.mjs'
import { forwarder, listen, site as attacker, unguarded, upstream } from './servers.mjs'
import { clients, others } from './clients.mjs'
import { createServer } from 'node:net'

const [work, chromium, omnigate] = process.argv.slice(2)
const { chromium: driver } = createRequire(`${work}/npm/`)('playwright-core')
const tries = readFileSync(new URL('tries.js', import.meta.url), 'utf8')

const omni = await upstream()
const tls = { key: readFileSync(`${work}/key.pem`), cert: readFileSync(`${work}/cert.pem`) }
const site = await attacker(work, tls)

// --- The gateway ----------------------------------------------------------------------------------

const free = async () => {
  const server = createServer()
  const port = await listen(server)
  await new Promise(done => server.close(done))
  return port
}
const ports = { callers: await free(), admin: await free() }
writeFileSync(`${work}/looked`, '')
// Leaves a mark each time that the gateway looks at the key's place: at the start, and at a reload.
writeFileSync(`${work}/key`, `#!/bin/sh\necho looked >>'${work}/looked'\nprintf 'omni_osk_%056d' 0\n`, { mode: 0o700 })
const config = readFileSync(new URL('omnigate.toml', import.meta.url), 'utf8')
  .replace('@CALLERS@', ports.callers).replace('@ADMIN@', ports.admin)
  .replace('@OMNI@', omni.port).replaceAll('@WORK@', work)
writeFileSync(`${work}/omnigate.toml`, config)
const gateway = spawn(omnigate, ['serve', '-c', `${work}/omnigate.toml`], { stdio: ['ignore', 'inherit', 'inherit'] })
process.on('exit', () => gateway.kill('SIGKILL'))
for (const end of ['SIGINT', 'SIGTERM']) process.on(end, () => process.exit(1))
const call = (path, options, port = ports.callers) => fetch(`http://127.0.0.1:${port}${path}`, options)
for (let left = 100; left > 0; left--) {
  if (gateway.exitCode !== null) throw Error('the gateway does not start')
  if (await call('/readyz', {}, ports.admin).then(answer => answer.ok).catch(() => false)) break
  await sleep(100)
}

const broken = []
const must = (holds, what) => holds || broken.push(what)

// --- Programs are not hindered --------------------------------------------------------------------

console.log('\nPrograms, which must get through:\n')
for (const [name, ask] of Object.entries(clients(`http://127.0.0.1:${ports.callers}`, work))) {
  for (const method of ['GET', 'POST']) {
    const mark = encodeURIComponent(`${name} ${method}`)
    const said = await ask(method, `/api/v1/documents?program=${mark}`).catch(error => String(error))
    const came = omni.arrived.filter(line => line.startsWith(`${method} `) && line.includes(mark))
    const good = came.length === 1 && came[0].endsWith(`Bearer omni_osk_${'0'.repeat(56)}`)
    must(good, `${name} does not get through with ${method}: ${said}`)
    console.log(`  ${name.padEnd(18)} ${method.padEnd(5)} ${good ? 'arrives' : 'IS HINDERED'}`)
  }
}

// --- The browser ----------------------------------------------------------------------------------

const flags = [
  '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-popup-blocking', '--host-resolver-rules=MAP evil.test 127.0.0.1,MAP gateway.test 127.0.0.1',
  // What this browser does of its own to keep pages from loopback is not what is tried here.
  '--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights,HttpsUpgrades,HttpsFirstBalancedModeAutoEnable',
]
const browser = await driver.launch({ executablePath: chromium, headless: true, chromiumSandbox: false, args: flags })
console.log(`\nPages, which must not, in Chromium ${browser.version()}:\n`)

/** Shows one page, waits until it did what it can, and gives what it could read. */
const shown = async (go, wait = 2500) => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true })
  const reads = []
  context.on('console', said => said.text().startsWith('READ ') && reads.push(said.text().slice(5)))
  try {
    const tab = await context.newPage()
    await go(tab).catch(() => {})
    await sleep(wait)
  } finally {
    await context.close()
  }
  return reads
}
const home = `http://evil.test:${site.port}`
/** Which tries `log` comes from; what a browser asks of its own (an icon, for what it shows) has its path. */
const names = log =>
  new Set(log.map(line => new URL(line.split(' ')[1], 'http://x')).map(url => url.searchParams.get('try') ?? url.pathname))

/** All pages against one callers' port: for each try, the kinds of pages from which it arrived. */
const callers = async port => {
  const arrived = new Map()
  const read = []
  const note = (kind, log) => {
    for (const name of names(log)) arrived.set(name, [...new Set(arrived.get(name)).add(kind)])
  }
  for (const [kind, { show, target = it => it }] of Object.entries(kinds)) {
    const base = target(`http://127.0.0.1:${port}`)
    const html = page(tries, [`${base}/api/v1/documents?try={try}`], home)
    const before = omni.arrived.length
    const reads = await shown(tab => show(tab, site, html, base))
    note(kind, omni.arrived.slice(before))
    read.push(...reads.map(name => `${name} from ${kind}`))
  }
  for (const [name, html] of Object.entries(moves)) {
    const before = omni.arrived.length
    const at = `http://127.0.0.1:${port}/api/v1/documents?try=${name}`
    await shown(tab => tab.goto(`${home}${site.give(html(at, home))}`), 1000)
    note('window', omni.arrived.slice(before))
  }
  // Who types the attacker's address, or follows a link in a letter, is led here: no page asks for it.
  const before = omni.arrived.length
  const at = `http://127.0.0.1:${port}/api/v1/documents?try=typed-and-redirected`
  await shown(tab => tab.goto(`${home}/to?status=302&url=${encodeURIComponent(at)}`), 1000)
  note('window', omni.arrived.slice(before))
  return { arrived, read }
}
const through = { forwarder: await callers(await forwarder(omni.port)), gateway: await callers(ports.callers) }

const source = tries.matchAll(/^ +tries\['([^']+)'\] =/gm)
const rows = new Set([...source].map(([, name]) => name))
for (const { arrived } of Object.values(through)) for (const name of arrived.keys()) rows.add(name)
for (const name of [...Object.keys(moves), 'typed-and-redirected']) rows.add(name)
const pages = Object.keys(kinds).length
const count = (arm, name) => through[arm].arrived.get(name)?.length ?? 0
console.log(`  ${'try'.padEnd(28)} forwarder  gateway   (pages of ${pages} kinds from which it arrived)`)
for (const name of rows) {
  const holes = through.gateway.arrived.get(name) ?? []
  console.log(`  ${name.padEnd(28)} ${String(count('forwarder', name)).padStart(9)}  ${String(holes.length).padStart(7)}   ${holes.length < pages ? holes.join('; ') : 'all'}`)
}
const effective = [...rows].filter(name => count('forwarder', name) > 0).length
const open = [...rows].filter(name => count('gateway', name) > 0)
console.log(`\n  tries that arrive from some page: forwarder ${effective} of ${rows.size}, gateway ${open.length}`)
console.log(`  answers that a page could read:   forwarder ${through.forwarder.read.length}, gateway ${through.gateway.read.length}`)
must(effective >= 60, `only ${effective} tries arrive through the forwarder: what does not arrive proves nothing`)
for (const kind of Object.keys(kinds)) {
  must([...through.forwarder.arrived.values()].some(them => them.includes(kind)), `nothing arrives through the forwarder from a page of the kind "${kind}"`)
}
must(through.forwarder.read.length > 0, 'no page could read anything through the forwarder')
must(open.length === 0, `through the gateway arrive: ${open.join(', ')}`)
must(through.gateway.read.length === 0, `pages read from the gateway: ${through.gateway.read.join(', ')}`)

// --- The operators' port --------------------------------------------------------------------------

const lists = '/api/v1/folders?kept'
/** All pages against one operators' port: how often what was done there. */
const operators = async port => {
  const done = { reload: 0, purge: 0, test: 0, pause: 0, resume: 0, log: 0, read: 0 }
  const told = async path => {
    const { ok, status } = await call(path, { method: 'POST' }, ports.admin)
    if (!ok) throw Error(`an operator cannot ${path}: ${status}`)
  }
  for (const { show, target = it => it } of Object.values(kinds)) {
    await call(lists)
    for (const path of ['/-/resume', '/-/pause?budget=paused', '/-/log']) await told(path)
    const before = { looked: readFileSync(`${work}/looked`).length, arrived: omni.arrived.length }
    const base = target(`http://127.0.0.1:${port}`)
    // The events last: they keep a browser's few connections to one host busy.
    const urls = [
      '/-/reload', '/-/cache/purge', '/-/credentials/org/test', '/-/pause?budget=omni&for=24h', '/-/resume?budget=paused',
      '/-/log?filter=off', '/metrics', '/-/status.json', '/', '/-/events',
    ].map(path => base + path)
    done.read += (await shown(tab => show(tab, site, page(tries, urls, home), base))).length
    done.reload += readFileSync(`${work}/looked`).length - before.looked > 0
    const now = await (await call('/-/status.json', {}, ports.admin)).json()
    const isPaused = name => now.budgets.find(({ budget }) => budget === name).paused !== null
    done.pause += isPaused('omni')
    done.resume += !isPaused('paused')
    done.log += now.log !== 'error'
    done.test += omni.arrived.slice(before.arrived).some(line => !line.includes('/folders'))
    const kept = (await call(lists)).headers.get('cache-status') ?? ''
    done.purge += !kept.includes('hit')
  }
  return done
}
const guarded = { open: await operators(await unguarded(ports.admin)), gateway: await operators(ports.admin) }
console.log('\n  on the operators\' port: pages that did it')
console.log(`  ${''.padEnd(28)} forwarder  gateway`)
for (const what of Object.keys(guarded.open)) {
  console.log(`  ${what.padEnd(28)} ${String(guarded.open[what]).padStart(9)}  ${String(guarded.gateway[what]).padStart(7)}`)
  must(guarded.open[what] > 0, `no page does "${what}" even without the guard`)
  must(guarded.gateway[what] === 0, `pages did "${what}" on the operators' port`)
}
await browser.close()

// --- What other browsers send ---------------------------------------------------------------------

console.log('\nWhat browsers send that say nothing of the page that asks (Sec-Fetch-Site), and what they ask of their own:\n')
for (const [name, ask] of Object.entries(others)) {
  const before = omni.arrived.length
  const status = await ask(ports.callers)
  const came = omni.arrived.length > before
  must(!came && ['400', '403'].includes(status), `not refused but answered with ${status}: ${name}`)
  console.log(`  ${name.padEnd(48)} ${status}  ${came ? 'ARRIVES' : 'stays out'}`)
}

gateway.kill('SIGTERM')
if (broken.length > 0) {
  console.error(`\ntests/browser: ${broken.length} things do not hold:\n- ${broken.join('\n- ')}`)
  process.exit(1)
}
console.log('\ntests/browser: no page reaches anything.')
process.exit(0)
