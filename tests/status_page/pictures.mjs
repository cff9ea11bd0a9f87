// The pictures of the README, of the gateway itself after a quarter of an hour of work: three callers
// with their habits, one that is greedy. In the real time of a real window; so it takes 17 minutes.
import { setTimeout as sleep } from 'node:timers/promises'
import { gateway, upstream } from './real.mjs'

/** How long it works before it is looked at, in seconds. */
const PAST = 900

export const pictures = async ({ tab, shot, must, work, omnigate }) => {
  // Omni takes 0.1 to 0.9 s.
  const omni = await upstream(() => 100 + 800 * Math.random() ** 3)
  const gate = await gateway({
    work, omnigate, omni, name: 'pictures',
    but: it => it.replace('window = "10s"', 'window = "60s"').replace('profile = "burst"', 'profile = "smooth"').replace('[callers.crawler]', '[callers.reports]\n\n[callers.crawler]'),
  })
  const began = performance.now()
  const age = () => (performance.now() - began) / 1000
  const open = new Set()
  const call = (caller, path, fields) => {
    const one = gate.call(path, caller, fields).then(it => it.arrayBuffer()).catch(() => null).finally(() => open.delete(one))
    open.add(one)
  }
  const some = n => Math.floor(Math.random() * n)
  const status = () => fetch(`${gate.url}/-/status.json`).then(it => it.json())
  let n = 0
  const habits = {
    // People look at what others have looked at before.
    dashboard: () => {
      if (Math.random() < 0.09) for (let left = 3 + some(5); left > 0; left--) call('dashboard', `/api/v1/documents?pageSize=${10 + some(24)}`)
      if (Math.random() < 0.05) call('dashboard', `/api/v1/models/${n++}`)
    },
    sync: () => {
      if (Math.random() < 0.22) call('sync', `/api/v1/models/${n++}`)
      if (Math.random() < 0.03) call('sync', `/api/v1/documents?pageSize=${10 + some(24)}`)
    },
    // It takes all it can get, has a rest, and comes back.
    crawler: () => {
      const at = age() % 240
      if (at < 130 && Math.random() < 0.85) call('crawler', `/api/v1/content/${n++}`)
      if (at > 125 && at < 128) call('crawler', `/api/v1/content/${n++}`, { prefer: 'wait=1' })
    },
  }
  const beat = setInterval(() => Object.values(habits).forEach(it => it()), 1000)
  for (const [at, caller] of [[640, 'sync'], [655, 'sync']]) setTimeout(() => call(caller, '/api/v1/broken'), at * 1000)
  await sleep(PAST * 1000)

  /** The page down to the end of the callers. */
  const take = async (page, name) => {
    const height = await page.evaluate(() => Math.ceil(document.querySelector('section[aria-labelledby=callers]').getBoundingClientRect().bottom) + 12)
    await page.setViewportSize({ width: 1280, height })
    await page.waitForTimeout(300)
    await shot(page, name)
    await page.setViewportSize({ width: 1280, height: 2000 })
  }
  const waits = async (most, good) => {
    for (const end = age() + most; age() < end; await sleep(500)) if (good(await status())) return
    must(false, `not as it should look: ${JSON.stringify((await status()).budgets[0].queue)}`)
  }
  // The greedy one comes with more than there is room for.
  for (let left = 66; left > 0; left--) call('crawler', `/api/v1/content/${n++}`)
  const light = await tab({ colorScheme: 'light', viewport: { width: 1280, height: 2000 } })
  await light.goto(gate.url)
  await waits(90, ({ budgets: [{ used, queue }] }) => used > 56 && queue[2].waiting > 0 && queue[2].oldest_s > 22)
  for (let left = 3; left > 0; left--) call('sync', `/api/v1/models/${n++}`)
  await sleep(1200)
  await take(light, 'readme-busy')
  await light.context().close()

  const dark = await tab({ colorScheme: 'dark', viewport: { width: 1280, height: 2000 } })
  await dark.goto(gate.url)
  await dark.waitForSelector('#callers')
  await dark.click('[data-act=pause]')
  await dark.check('input[value="10m"]')
  await dark.click('#pausing [type=submit]')
  await sleep(25000)
  for (let left = 2; left > 0; left--) call('dashboard', `/api/v1/models/${n++}`)
  await sleep(1500)
  await take(dark, 'readme-paused')
  await dark.context().close()
  clearInterval(beat)
  await gate.kill()
  await Promise.all(open)
}
