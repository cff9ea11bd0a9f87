// The page before a stand-in for omnigate that plays scenes: how it looks, and what is hard to drive.
import { faint, foreign, sideways, unnamed } from './look.mjs'
import { mock } from './mock.mjs'

export const staged = async ({ fact, must, tab, shot, within }) => {
  const served = await mock('idle')
  const themes = ['light', 'dark']

  for (const scene of served.scenes) {
    await fact(`"${scene}" fits every screen, can be read in both themes, and has words for all`, async () => {
      for (const colorScheme of themes) {
        const page = await tab({ colorScheme })
        served.play(scene)
        await page.goto(served.url)
        await page.waitForSelector('#facts > *')
        for (const width of [320, 390, 768, 1280, 1920, 3840]) {
          await page.setViewportSize({ width, height: 900 })
          const over = await page.evaluate(sideways)
          must(over <= 0, `${over} pixels to scroll sideways at ${width}, ${colorScheme}`)
        }
        await page.setViewportSize({ width: 1280, height: 900 })
        for (const what of [...(await page.evaluate(faint)), ...(await page.evaluate(unnamed))]) must(false, `${colorScheme}: ${what}`)
        await page.context().close()
      }
    })
  }

  await fact('what the sentence says fits the scene', async () => {
    const page = await tab()
    await page.goto(served.url)
    for (const [scene, said] of Object.entries({
      idle: /^All is quiet/, fine: /^Everything is fine: nobody waits$/, busy: /^12 calls wait, the oldest \d+ s$/, paused: /^Paused by an operator, resumes in \d:\d\d min$/,
      'paused until resumed': /^Paused by an operator, until someone resumes it$/, '429 by Omni': /^Omni said 429: nothing is sent for another [\d.]+ s$/,
      '429, the probe is out': /^Omni said 429: one call asks whether it is over$/, errors: /^Omni answers with 502, 27 times lately$/, 'key refused': /^Omni refuses the key org$/,
      'key missing': /^There is no value for the key org$/, draining: /^omnigate is shutting down$/, slow: /^Omni is slow: it takes 38 s to answer$/,
      'sharing, joining': /^The shared budget was not reached yet$/, 'sharing, lost': /^The shared budget is lost, for \d+ s$/, 'sharing, lost, alone with a share': /^The shared budget is lost, for \d+ s$/,
      'sharing, lost, alone': /^The shared budget is lost, for \d+ s$/, 'sharing, blocked': /^The shared budget is on another server: nothing is sent for another [\d.]+ s$/,
      budgets: /^Omni said 429 for uploads: /,
    })) {
      served.play(scene)
      await within(1000, `"${scene}" says ${said}`, async () => said.test(await page.textContent('h1')), () => page.textContent('h1'))
    }
    await page.context().close()
  })

  await fact('a screen reader meets landmarks, one heading that answers, tables, and pictures in words', async () => {
    served.play('busy')
    const page = await tab()
    await page.goto(served.url)
    await page.waitForSelector('#callers')
    const tree = await page.locator('body').ariaSnapshot()
    for (const part of [
      /^- banner:/m, /- navigation "What you can do":/, /- button "Pause…"/, /^- main:/m, /- heading "12 calls wait, the oldest \d+ s" \[level=1\]/, /- region "Budget omni":/, /- heading "omni" \[level=2\]/,
      /img "58 of 60 taken: crawler 37, sync 13, dashboard 6, in hand 2, free 2"/, /img "539 calls let through in 15 minutes: 63 interactive, 231 normal and 245 batch\./, /- table "Who waits for a turn":/,
      /- rowheader "batch"/, /- table "In the last 15 minutes":/, /- columnheader "Longest wait"/, /- rowheader "crawler"/, /- button "Copy the trace id 4bf92f3577b34da6a3ce929d0e0e4736"/, /^- contentinfo:/m,
    ]) must(part.test(tree), `${part} is not in the tree`)
    await page.setViewportSize({ width: 390, height: 844 })
    const narrow = await page.locator('section[aria-labelledby=callers]').ariaSnapshot()
    for (const part of [/- table "In the last 15 minutes":/, /- rowheader "crawler"/, /cell "Calls 377"/]) must(part.test(narrow), `${part} is not in the tree of a phone: ${narrow.slice(0, 400)}`)
    await page.context().close()
  })

  await fact('markup in any string is shown as text', async () => {
    const page = await tab()
    served.play('hostile')
    await page.goto(served.url)
    await page.waitForSelector('#callers')
    await page.click('[data-act=pause]')
    await page.keyboard.press('Escape')
    await page.click('[data-act=purge]')
    must((await page.evaluate(foreign)).length === 0, `the page has ${await page.evaluate(foreign)}`)
    must(!/HIT/.test((await page.title()).replaceAll(/document\.title='HIT'/g, '')), 'a script ran')
    const body = await page.textContent('main')
    must(body.includes(`<img src=x onerror="document.title='HIT'">`), 'the markup is not shown')
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) must(body.includes(name), `${name} is not shown`)
    must(!(await page.textContent('#said')).includes('does not understand'), 'the page stumbles')
    await page.context().close()
  })

  await fact('the time to the next turn runs smoothly between events', async () => {
    const slow = await mock('busy', { pace: 60000, time: () => 0.02 })
    const page = await tab()
    await page.goto(slow.url)
    await page.waitForSelector('.budget .number b span')
    const seen = await page.evaluate(() => new Promise(done => {
      const all = new Set()
      const watch = setInterval(() => all.add(document.querySelector('.budget .number:nth-child(2) b').textContent), 30)
      setTimeout(() => (clearInterval(watch), done([...all])), 900)
    }))
    const figures = seen.map(parseFloat).filter(it => !Number.isNaN(it))
    must(figures.length >= 4 && figures.every((it, at) => at === 0 || it < figures[at - 1]), `it said ${seen}`)
    await page.context().close()
    slow.close()
  })

  await fact('who asks for less motion gets figures that change once a second', async () => {
    const slow = await mock('busy', { pace: 60000, time: () => 0.02 })
    const page = await tab({ reducedMotion: 'reduce' })
    await page.goto(slow.url)
    await page.waitForSelector('.budget .number b span')
    const changes = await page.evaluate(() => new Promise(done => {
      let n = 0
      new MutationObserver(() => (n += 1)).observe(document.querySelector('.budget .number:nth-child(2) b'), { childList: true, characterData: true, subtree: true })
      setTimeout(() => done(n), 1500)
    }))
    must(changes <= 2, `${changes} changes in 1.5 s`)
    await page.context().close()
    slow.close()
  })

  await fact('when events stop, what is old says so, looks so, can still be read; and all comes back by itself', async () => {
    for (const colorScheme of themes) {
      served.play('busy')
      const page = await tab({ colorScheme, lost: true })
      await page.goto(served.url)
      await page.waitForSelector('#callers')
      served.refuse(503)
      served.cut()
      await within(2000, 'says that there is no news', async () => /^No news from omnigate: last seen .*trying again/.test(await page.textContent('#stale')), () => page.textContent('#stale'))
      must((await page.title()).startsWith('no news'), `the title is ${await page.title()}`)
      await page.waitForTimeout(600)
      for (const what of await page.evaluate(faint)) must(false, `${colorScheme}: ${what}`)
      await within(8000, 'says how long ago', async () => /last seen [3-9] s ago/.test(await page.textContent('#stale')), () => page.textContent('#stale'))
      must((await page.textContent('#stale')).includes('There are too many viewers.'), 'the reason is not told')
      if (colorScheme === 'light') await shot(page, 'stale')
      served.refuse(0)
      await within(20000, 'comes back', async () => !(await page.isVisible('#stale')))
      await page.context().close()
    }
  })

  await fact('a peer that falls silent is noticed, though its connection stands', async () => {
    const silent = await mock('busy')
    const page = await tab({ lost: true })
    await page.goto(silent.url)
    await page.waitForSelector('#callers')
    silent.still()
    await within(6000, 'says so', async () => page.isVisible('#stale'))
    await within(14000, 'asks again', async () => silent.asked.filter(it => it.endsWith('/-/events')).length > 1)
    await page.context().close()
    silent.close()
  })

  await fact('the buttons ask first, do what they say, and Escape does nothing', async () => {
    served.play('budgets')
    const page = await tab()
    await page.goto(served.url)
    await page.waitForSelector('#callers')
    const posts = () => served.asked.filter(it => it.startsWith('POST'))
    const before = posts().length
    await page.click('[data-act=pause]')
    await shot(page, 'question', false)
    for (const what of [...(await page.evaluate(faint)), ...(await page.evaluate(unnamed))]) must(false, what)
    await page.keyboard.press('Escape')
    must(posts().length === before, 'Escape paused')
    must(await page.evaluate(() => document.activeElement.dataset.act === 'pause'), 'the keyboard is lost after Escape')
    await page.click('[data-act=pause]')
    await page.check('input[value=""]')
    await page.selectOption('#which select', 'uploads')
    await page.click('#pausing [type=submit]')
    await within(2000, 'pauses one budget', async () => posts().at(-1) === 'POST /-/pause?budget=uploads')
    await page.click('[data-act=purge]')
    await page.selectOption('#purging select', 'documents')
    await page.click('#purging [type=submit]')
    await within(2000, 'purges one route', async () => posts().at(-1) === 'POST /-/cache/purge?route=documents')
    await within(2000, 'says what came of it', async () => (await page.textContent('#said')) === 'Forgot 412 answers of documents.', () => page.textContent('#said'))
    await page.click('[data-act=test] >> nth=0')
    await within(2000, 'asks about a key', async () => (await page.textContent('#said')) === 'Omni takes the key org.', () => page.textContent('#said'))
    await page.click('[data-act=reload]')
    await within(2000, 'reloads', async () => (await page.textContent('#said')) === 'Secrets were read again: org is ready.', () => page.textContent('#said'))
    must(posts().length === before + 4, `${posts()}`)
    await page.context().close()
  })

  await fact('ids are copied, and focus and selection outlive the events', async () => {
    served.play('errors')
    const page = await tab()
    await page.goto(served.url)
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: served.url })
    await page.focus('[data-copy="4bf92f3577b34da6a3ce929d0e0e4736"] >> nth=0')
    await page.evaluate(() => (window.held = document.activeElement))
    await page.waitForTimeout(2300)
    must(await page.evaluate(() => window.held.isConnected && document.activeElement === window.held), 'the focus is lost')
    await page.keyboard.press('Enter')
    await within(2000, 'copies', async () => (await page.evaluate(() => navigator.clipboard.readText())) === '4bf92f3577b34da6a3ce929d0e0e4736')
    await page.context().close()
  })

  await fact('forty callers stand behind a button, and each has a sign of its own', async () => {
    served.play('crowd')
    const page = await tab()
    await page.goto(served.url)
    await page.click('[data-act=everyone]')
    await within(2000, 'shows all', async () => (await page.locator('section[aria-labelledby=callers] tbody tr').count()) === 40)
    const codes = await page.locator('section[aria-labelledby=callers] tbody .code').allTextContents()
    must(new Set(codes).size === 40, `signs: ${codes}`)
    await page.context().close()
  })

  await fact('with a token, it is asked for, shown as a bearer, and stored nowhere', async () => {
    const guarded = await mock('busy', { token: 'a-token-of-operators' })
    for (const colorScheme of themes) {
      const page = await tab({ colorScheme, refused: true })
      await page.goto(guarded.url)
      await page.waitForSelector('#token')
      must(!(await page.isVisible('#facts')) && !(await page.isVisible('#acts')), 'something is shown before')
      for (const what of [...(await page.evaluate(faint)), ...(await page.evaluate(unnamed))]) if (!what.includes('h1')) must(false, `${colorScheme}: ${what}`)
      if (colorScheme === 'dark') await shot(page, 'token', false)
      await page.keyboard.type('wrong')
      await page.keyboard.press('Enter')
      await within(2000, 'says that it is wrong', async () => (await page.textContent('#said')) === 'This is not the token.', () => page.textContent('#said'))
      await page.keyboard.type('a-token-of-operators')
      await page.keyboard.press('Enter')
      await within(2000, 'shows the facts', async () => page.isVisible('#callers'))
      const kept = await page.evaluate(async () => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href, history.state, document.documentElement.outerHTML, (await indexedDB.databases()).length, document.querySelector('#token').value]))
      must(!kept.includes('a-token'), 'the token is somewhere')
      must(!(await page.textContent('#said')).includes('not the token'), 'it still says that it is wrong')
      await page.context().close()
    }
    must(guarded.asked.every(it => !it.includes('a-token')), 'the token is in a path')
    guarded.close()
  })

  await fact('a page that is left open leaves the machine alone', async () => {
    for (const [scene, most] of [['idle', 3], ['busy', 10]]) {
      served.play(scene)
      const page = await tab()
      await page.goto(served.url)
      await page.waitForSelector('#facts > *')
      await page.waitForTimeout(2000)
      const browser = await page.context().newCDPSession(page)
      // The thread's own time, which others on the machine do not lengthen.
      await browser.send('Performance.enable', { timeDomain: 'threadTicks' })
      const worked = async () => (await browser.send('Performance.getMetrics')).metrics.find(it => it.name === 'TaskDuration').value
      const [before, began] = [await worked(), performance.now()]
      await page.waitForTimeout(10000)
      const share = (100000 * ((await worked()) - before)) / (performance.now() - began)
      console.log(`     ${scene}: ${share.toFixed(1)} % of a core`)
      must(share > 0 && share <= most, `${scene}: ${share.toFixed(1)} % of a core`)
      await page.context().close()
    }
  })

  for (const [name, scene, options, whole = false] of [
    ['light', 'fine', {}], ['dark', 'fine', { colorScheme: 'dark' }], ['busy', 'busy', {}], ['busy-dark', 'busy', { colorScheme: 'dark' }], ['paused', 'paused', {}],
    ['paused-dark', 'paused', { colorScheme: 'dark' }], ['idle', 'idle', {}], ['phone', 'busy', { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 }, true],
    ['phone-dark', 'paused', { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: 'dark' }, true], ['wall', 'busy', { viewport: { width: 1920, height: 1080 } }],
    ['wall-4k-dark', 'fine', { viewport: { width: 3840, height: 2160 }, colorScheme: 'dark' }], ['429', '429 by Omni', {}], ['errors', 'errors', {}, true], ['budgets', 'budgets', {}, true], ['crowd', 'crowd', {}, true],
    ['key-refused', 'key refused', { colorScheme: 'dark' }, true], ['shared-lost', 'sharing, lost', {}, true], ['shared-alone', 'sharing, lost, alone with a share', { colorScheme: 'dark' }, true],
    ['shared-blocked', 'sharing, blocked', { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 }, true],
  ]) {
    await fact(`picture: ${name}`, async () => {
      served.play(scene)
      const page = await tab({ viewport: { width: 1280, height: 1000 }, ...options })
      await page.goto(served.url)
      await page.waitForSelector('#facts > *')
      await page.waitForTimeout(700)
      await shot(page, name, whole)
      await page.context().close()
    })
  }

  served.close()
}
