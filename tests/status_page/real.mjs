// The page before the gateway itself: three callers, a cache hit, an error, a queue, a pause by the
// page's own button and the keyboard alone, a purge, a gateway that dies and comes back, and its token.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { faint, settled, sideways, unnamed } from './look.mjs'

/** What is done is shown so soon, in milliseconds. */
const SOON = 2000

const listen = server => new Promise(done => server.listen(0, '127.0.0.1', () => done(server.address().port)))
const free = async () => {
  const server = createServer()
  const port = await listen(server)
  await new Promise(done => server.close(done))
  return port
}

/** Stands for Omni: keeps what arrives; answers `/broken` with 500, everything else with a list. `takes()` says how many ms that takes. */
export const upstream = async (takes = () => 0) => {
  const arrived = []
  const server = createServer(async (asked, answer) => {
    arrived.push(asked.url)
    asked.resume()
    if (takes() > 0) await sleep(takes())
    answer.writeHead(asked.url.includes('broken') ? 500 : 200, { 'Content-Type': 'application/json' })
    answer.end('{"records":[]}')
  })
  return { arrived, port: await listen(server) }
}

/** `kill()` ends the gateway without a word, `start()` starts it again in the same place. `but` changes its config. */
export const gateway = async ({ work, omnigate, omni, name, token = '', but = it => it }) => {
  const folder = `${work}/${name}`
  mkdirSync(`${folder}/keys`, { recursive: true, mode: 0o700 })
  writeFileSync(`${folder}/keys/org`, `omni_osk_${'0'.repeat(56)}`, { mode: 0o600 })
  const ports = { callers: await free(), admin: await free() }
  const digest = token && `token_sha256 = "${createHash('sha256').update(token).digest('hex')}"`
  const config = readFileSync(new URL('omnigate.toml', import.meta.url), 'utf8')
    .replace('@CALLERS@', ports.callers).replace('@ADMIN@', ports.admin).replace('@TOKEN@', digest)
    .replace('@OMNI@', omni.port).replaceAll('@WORK@', folder)
  writeFileSync(`${folder}/omnigate.toml`, but(config))
  const one = {
    url: `http://127.0.0.1:${ports.admin}`,
    call: (path, caller, fields = {}) => fetch(`http://127.0.0.1:${ports.callers}${path}`, { headers: { 'x-omnigate-caller': caller, ...fields } }),
    start: async () => {
      one.child = spawn(omnigate, ['serve', '-c', `${folder}/omnigate.toml`], { stdio: ['ignore', 'ignore', 'inherit'] })
      for (let left = 200; left > 0; left--) {
        if (one.child.exitCode !== null) throw Error('the gateway does not start')
        if (await fetch(`${one.url}/readyz`).then(it => it.ok).catch(() => false)) return
        await sleep(50)
      }
      throw Error('the gateway is not ready')
    },
    kill: () => new Promise(done => (one.child.once('exit', done), one.child.kill('SIGKILL'))),
  }
  process.on('exit', () => one.child?.kill('SIGKILL'))
  await one.start()
  return one
}

export const real = async ({ fact, must, within, tab, shot, work, omnigate }) => {
  const omni = await upstream()
  const gate = await gateway({ work, omnigate, omni, name: 'open' })
  const page = await tab({ lost: true })
  const h1 = () => page.textContent('h1')
  const said = () => page.textContent('#said')
  const spent = async () => parseInt(await page.textContent('.budget .number b'))
  /** A caller's cell under a title of its table. */
  const cell = (of, name, title) => page.evaluate(([of, name, title]) => {
    const row = [...document.querySelectorAll(`section[aria-labelledby=${of}] tbody tr`)].find(it => it.cells[0].textContent.includes(name))
    return [...(row?.cells ?? [])].find(it => it.dataset.label === title)?.textContent ?? ''
  }, [of, name, title])
  const waiting = async () => (await page.locator('.queue tbody b').allTextContents()).map(Number).reduce((all, n) => all + n, 0)
  const calls = (n, path, caller) => Array.from({ length: n }, (_, at) => gate.call(`${path}?n=${at}`, caller).catch(() => null))
  const timings = []
  const soon = async (what, holds, instead) => timings.push([what, await within(SOON, what, holds, instead)])
  const tabTo = async selector => {
    for (let left = 40; left > 0; left--) {
      if (await page.evaluate(it => document.activeElement.matches(it), selector)) return
      await page.keyboard.press('Tab')
    }
    must(false, `the keyboard does not reach ${selector}`)
  }
  const looks = async () => {
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme })
      await page.evaluate(settled)
      for (const what of [...(await page.evaluate(faint)), ...(await page.evaluate(unnamed))]) must(false, `${colorScheme}: ${what}`)
    }
    await page.emulateMedia({ colorScheme: 'light' })
    for (const width of [390, 1920, 1280]) {
      await page.setViewportSize({ width, height: 900 })
      must((await page.evaluate(sideways)) <= 0, `it can be scrolled sideways at ${width}`)
    }
  }

  await fact('an idle gateway is calm, and has something to try', async () => {
    const answer = await page.goto(gate.url)
    const policy = answer.headers()['content-security-policy'] ?? ''
    for (const part of ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) must(policy.includes(part), `the policy has no ${part}: ${policy}`)
    must(!policy.includes('unsafe'), policy)
    await soon('the first facts', async () => (await h1()).startsWith('All is quiet'), h1)
    must((await page.textContent('.hint code')).startsWith('curl '), 'there is no hint')
    must((await page.title()) === '0/60 · omnigate', `the title is ${await page.title()}`)
    await looks()
    await shot(page, 'real-idle')
  })

  await fact('what three callers spend is shown by name, in cells', async () => {
    await Promise.all([...calls(4, '/api/v1/models', 'crawler'), ...calls(2, '/api/v1/models', 'sync'), ...calls(1, '/api/v1/models', 'dashboard')])
    await soon('the cells', async () => (await spent()) >= 7, async () => `${await spent()}`)
    const told = await page.getAttribute('.cells', 'aria-label')
    for (const part of ['crawler 4', 'sync 2', 'dashboard 1']) must(told.includes(part), `${part} is not in: ${told}`)
    must((await page.locator('.cell.of').count()) === 7, `${await page.locator('.cell.of').count()} cells`)
    await soon('the callers', async () => (await cell('callers', 'crawler', 'Calls')) === '4' && (await cell('callers', 'sync', 'Sent')) === '2' && (await cell('callers', 'dashboard', 'Spent now')) === '1')
    await soon('the route', async () => (await cell('routes', 'everything', 'Calls')) === '7', () => cell('routes', 'everything', 'Calls'))
    must(/^7 calls let through/.test(await page.textContent('.past h3')), await page.textContent('.past h3'))
    must((await h1()).startsWith('Everything is fine'), await h1())
  })

  await fact('a cache hit is shown as saved, and costs no cell', async () => {
    await gate.call('/api/v1/documents', 'dashboard')
    const hit = await gate.call('/api/v1/documents', 'dashboard')
    must(/hit/.test(hit.headers.get('cache-status')), hit.headers.get('cache-status'))
    await soon('the saved call', async () => (await cell('callers', 'dashboard', 'Saved')) === '1' && (await cell('routes', 'documents', 'Saved')) === '1')
    must(/1 of 2 calls/.test(await page.textContent('.tiles')), await page.textContent('.tiles'))
    must(omni.arrived.filter(it => it.includes('documents')).length === 1, 'it cost a request')
  })

  await fact('an error is shown with the ids that the caller has', async () => {
    const failed = await gate.call('/api/v1/broken', 'sync')
    const id = failed.headers.get('x-request-id')
    await failed.text()
    await soon('the error', async () => (await page.textContent('section[aria-labelledby=errors]')).includes(id), () => page.textContent('section[aria-labelledby=errors]'))
    const text = await page.textContent('section[aria-labelledby=errors] tbody')
    for (const part of ['Omni answered with an error', '500', 'GET', 'everything', 'sync']) must(text.includes(part), `${part} is not in: ${text}`)
    must(/Errors1/.test(await page.textContent('.tiles')), await page.textContent('.tiles'))
    must((await cell('callers', 'sync', 'Failed')) === '1', 'the caller has no failed call')
  })

  await fact('a route that nobody has is refused, and shown', async () => {
    await gate.call('/api/v1/documents', 'sync', { 'if-none-match': '*', 'cache-control': 'only-if-cached, no-cache' }).then(it => it.text())
    const no = await fetch(`${gate.url}/-/pause?bugdet=omni`, { method: 'POST' })
    must(no.status === 400, `a slip is answered with ${no.status}`)
  })

  let queued = []
  await fact('with the keyboard alone: a pause, which holds everything but what is kept', async () => {
    await page.reload()
    await page.waitForSelector('#callers')
    await tabTo('[data-act=pause]')
    await page.keyboard.press('Enter')
    must(await page.isVisible('#pausing'), 'it does not ask')
    await tabTo('input[type=radio]')
    await page.keyboard.press('ArrowDown')
    await tabTo('#pausing [type=submit]')
    await page.keyboard.press('Enter')
    await soon('the pause', async () => /^Paused by an operator, resumes in (9:5\d|10:00) min$/.test(await h1()), h1)
    await soon('what came of it', async () => (await said()) === 'Everything is paused for 10 minutes.', said)
    must(await page.evaluate(() => document.activeElement.matches('[data-act=resume]')), 'the keyboard is not on Resume')
    const before = omni.arrived.length
    queued = [...calls(3, '/api/v1/held', 'sync'), ...calls(2, '/api/v1/held', 'dashboard'), ...calls(5, '/api/v1/held', 'crawler')]
    await soon('who waits', async () => (await waiting()) === 10, async () => `${await waiting()}`)
    must((await page.title()).startsWith('paused · ') && (await page.title()).includes('10 wait'), `the title is ${await page.title()}`)
    const late = await gate.call('/api/v1/held', 'sync', { prefer: 'wait=30' })
    must(late.status === 503 && Number(late.headers.get('retry-after')) > 500 && /paused/.test(await late.text()), `who can wait for 30 s is not told at once: ${late.status}`)
    const kept = await gate.call('/api/v1/documents', 'crawler')
    must(kept.status === 200 && /hit/.test(kept.headers.get('cache-status')), 'what is kept is not served')
    must(omni.arrived.length === before, 'something was sent')
    await looks()
    await shot(page, 'real-paused')
    await page.emulateMedia({ colorScheme: 'dark' })
    await shot(page, 'real-paused-dark')
    await page.emulateMedia({ colorScheme: 'light' })
  })

  await fact('with the keyboard alone: it goes on', async () => {
    await tabTo('[data-act=resume]')
    await page.keyboard.press('Enter')
    await soon('it goes on', async () => !(await h1()).startsWith('Paused') && (await waiting()) === 0, h1)
    const all = await Promise.all(queued)
    must(all.every(it => it?.status === 200), 'those who waited were not served')
    must(await page.evaluate(() => document.activeElement.matches('[data-act=pause]')), 'the keyboard is not on Pause')
  })

  let crowd = []
  await fact('a queue: how many wait, for how long, and who spent the window', async () => {
    crowd = [...calls(110, '/api/v1/all', 'crawler'), ...calls(9, '/api/v1/all', 'sync'), ...calls(2, '/api/v1/all', 'dashboard')]
    // In one moment, since between two events slots come free and are taken.
    const seen = () => page.evaluate(() => [document.querySelector('#headline').textContent, document.title, `${document.querySelectorAll('.cell.free').length} free`].join(' | '))
    await soon('the queue', async () => /^\d+ calls wait, the oldest [\d.]+ s\s*crawler has spent \d+ of the 60.* \| 60\/60 · \d+ wait · omnigate \| 0 free$/.test(await seen()), seen)
    await soon('who waits, by priority', async () => Number((await page.locator('.queue tbody b').allTextContents())[2]) > 20)
    await looks()
    await page.waitForTimeout(2500)
    await shot(page, 'real-busy')
    await page.emulateMedia({ colorScheme: 'dark' })
    await shot(page, 'real-busy-dark')
    await page.setViewportSize({ width: 390, height: 844 })
    await page.emulateMedia({ colorScheme: 'light' })
    await shot(page, 'real-phone', true)
    await page.setViewportSize({ width: 1920, height: 1080 })
    await shot(page, 'real-wall')
    await page.setViewportSize({ width: 1280, height: 900 })
    const all = await Promise.all(crowd)
    must(all.every(it => it?.status === 200), 'not all were served')
    await soon('the end of the queue', async () => (await waiting()) === 0)
    must(/[1-9]/.test(await cell('callers', 'crawler', 'Longest wait')), 'the longest wait is not told')
  })

  await fact('a purge of one route, by its button', async () => {
    const before = omni.arrived.filter(it => it.includes('documents')).length
    await page.click('[data-act=purge]')
    await page.selectOption('#purging select', 'documents')
    await page.click('#purging [type=submit]')
    await soon('what came of it', async () => /^Forgot .*answer.* of documents\.$/.test(await said()), said)
    await gate.call('/api/v1/documents', 'dashboard')
    must(omni.arrived.filter(it => it.includes('documents')).length === before + 1, 'it was still kept')
  })

  await fact('secrets are read again, by their button', async () => {
    await page.click('[data-act=reload]')
    await soon('what came of it', async () => (await said()) === 'Secrets were read again: org is ready.', said)
  })

  await fact('a gateway that dies is missed at once, and found again by itself', async () => {
    await gate.kill()
    await soon('no news', async () => (await page.isVisible('#stale')) && (await page.title()).startsWith('no news'))
    await shot(page, 'real-stale')
    await gate.start()
    await within(20000, 'it comes back', async () => !(await page.isVisible('#stale')))
    must(!(await page.title()).startsWith('no news'), await page.title())
    must((await spent()) >= 0, 'no figures')
  })
  await page.context().close()
  await gate.kill()

  await fact('with a token: nothing without it, everything with it', async () => {
    const token = 'a-token-of-operators-0123456789abcdef'
    const guarded = await gateway({ work, omnigate, omni, name: 'guarded', token })
    const page = await tab({ refused: true })
    await page.goto(guarded.url)
    await page.waitForSelector('#token')
    for (const path of ['/-/status.json', '/-/events', '/metrics']) must((await fetch(guarded.url + path)).status === 401, `${path} without a token`)
    await page.keyboard.type('not-this-one')
    await page.keyboard.press('Enter')
    await within(SOON, 'says that it is wrong', async () => (await page.textContent('#said')) === 'This is not the token.')
    await page.keyboard.type(token)
    await page.keyboard.press('Enter')
    await within(SOON, 'shows the facts', async () => (await page.textContent('h1')).startsWith('All is quiet'), () => page.textContent('h1'))
    await page.click('[data-act=pause]')
    await page.click('#pausing [type=submit]')
    await within(SOON, 'pauses', async () => (await page.textContent('h1')).startsWith('Paused by an operator'))
    await page.context().close()
    await guarded.kill()
  })

  console.log('\n  how soon it was shown, in ms:')
  for (const [what, took] of timings) console.log(`  ${what.padEnd(30)} ${String(Math.round(took)).padStart(6)}`)
}
