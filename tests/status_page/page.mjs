// Holds the status page to what it promises, in Chromium: before a stand-in (staged.mjs), and before the
// gateway itself (real.mjs). Makes pictures of it on the way.
//
//   node page.mjs WORK CHROMIUM OMNIGATE SHOTS [staged|real|pictures]
//
// WORK has playwright-core in npm/. Ends with 1 if something does not hold.
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { pictures } from './pictures.mjs'
import { real } from './real.mjs'
import { staged } from './staged.mjs'

const [work, chromium, omnigate, shots, only] = process.argv.slice(2)
const { chromium: driver } = createRequire(`${work}/npm/`)('playwright-core')
for (const end of ['SIGINT', 'SIGTERM']) process.on(end, () => process.exit(1))

const broken = []
let now = ''
const must = (holds, what) => {
  if (holds) return
  broken.push(`${now}: ${what}`)
  console.log(`     ! ${what}`)
}
const fact = async (sentence, check) => {
  now = sentence
  const before = broken.length
  try {
    await check()
  } catch (error) {
    must(false, String(error?.message ?? error).split('\n').slice(0, 6).join(' | '))
  }
  console.log(`  ${broken.length > before ? 'NO' : 'ok'}  ${sentence}`)
}
/** That `holds()` becomes true within so many milliseconds; tells how long it took. */
const within = async (most, what, holds, instead = () => '') => {
  const began = performance.now()
  for (;;) {
    const good = await holds().catch(() => false)
    const took = performance.now() - began
    if (good && took <= most) return took
    if (took > most) {
      must(false, `not within ${most} ms: ${what} ${(await Promise.resolve(instead()).catch(() => '')) ?? ''}`)
      return took
    }
    await sleep(25)
  }
}

const browser = await driver.launch({
  executablePath: chromium, headless: true, chromiumSandbox: false,
  args: ['--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--font-render-hinting=none'],
})
/** An empty tab. Whatever it complains of, and whatever it asks of another host, does not hold. */
const tab = async ({ lost, refused, ...options } = {}) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: 'light', ...options })
  context.setDefaultTimeout(8000)
  const page = await context.newPage()
  // A request that is answered with 401 or with nothing is an error to the browser, and here on purpose.
  const expected = text => (lost || refused) && /^Failed to load resource/.test(text)
  page.on('console', said => ['error', 'warning'].includes(said.type()) && !expected(said.text()) && must(false, `the console says: ${said.text()}`))
  page.on('pageerror', error => must(false, `the page fails: ${error.message}`))
  page.on('request', asked => {
    const url = new URL(asked.url())
    if (url.protocol === 'data:') return
    must(!page.home || url.origin === page.home, `it asks another host: ${asked.url()}`)
    page.home ??= url.origin
  })
  return page
}
const shot = (page, name, whole = false) => page.screenshot({ path: `${shots}/${name}.png`, fullPage: whole, animations: 'disabled' })

const tools = { fact, must, within, tab, shot, work, omnigate }
if (only === 'pictures') await fact('pictures for the README', () => pictures(tools))
if (!only || only === 'staged') {
  console.log('\nBefore a stand-in:\n')
  await staged(tools)
}
if (!only || only === 'real') {
  console.log('\nBefore the gateway:\n')
  await real(tools)
}
await browser.close()
console.log(`\npictures: ${shots}`)
if (broken.length > 0) {
  console.error(`\ntests/status_page: ${broken.length} things do not hold:\n- ${broken.join('\n- ')}`)
  process.exit(1)
}
console.log('tests/status_page: all of it holds.')
process.exit(0)
