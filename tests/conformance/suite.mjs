// The two ends of the suite, and its verdict; `run` starts them.
//
//   suite.mjs origin SUITE FILE                the suite's origin, on a free port, written to FILE
//   suite.mjs client SUITE ORIGIN BASE FILE    asks every test of BASE; the results go to FILE
//   suite.mjs report SUITE FOLDER EXPLAINED REPORT
//       writes the REPORT on the results in FOLDER; ends with 1 if omnigate misses its bar
//
// SUITE is the folder of the package `http-cache-tests`. Nothing in it is changed: its own code
// answers, asks and judges. Two things are done otherwise than in its `cli.mjs`, for every server
// alike. What a test tells the origin beforehand and asks it afterwards (`/config`, `/state`) goes
// to the origin directly, since it is no part of the test. And tests with unsafe requests come last
// and one by one, since a cache may drop more than it must, also what another test waits for.

import { readFileSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

// As many tests at once as in the suite's own runner.
const AT_ONCE = 100
const PATIENCE_MS = 20_000

// The servers, as their results are named in the folder: first ours, then those it is held against.
const OURS = 'omnigate'
const PEERS = ['nginx', 'varnish']
// The suite's client and its origin with nothing in between: what passes without any cache.
const CONTROL = 'none'

const [what, suite, ...rest] = process.argv.slice(2)
const part = name => import(pathToFileURL(path.resolve(suite, name)))

async function groups () {
  const all = [...(await part('tests/index.mjs')).default]
  all.push((await part('tests/surrogate-control.mjs')).default)
  const ours = test => test.browser_only !== true
  // Tests share parts that the suite's client writes to; each gets its own.
  const own = test => structuredClone(test)
  return all.map(group => ({ ...group, tests: group.tests.filter(ours).map(own) }))
}

async function origin () {
  const answers = {
    config: (await part('server/handle-config.mjs')).default,
    state: (await part('server/handle-state.mjs')).default,
    test: (await part('server/handle-test.mjs')).default
  }
  // As `server/server.mjs`, which would listen on every address.
  const server = http.createServer((request, response) => {
    const [, first, ...segments] = new URL(request.url, 'http://origin').pathname.split('/')
    if (first in answers) return answers[first](segments, request, response)
    response.writeHead(404).end()
  })
  server.listen(0, '127.0.0.1', () => writeFileSync(rest[0], `${server.address().port}\n`))
}

async function client () {
  const [originAt, base, file] = rest
  const config = await part('client/config.mjs')
  const { makeCacheTest, testResults } = await part('client/test.mjs')
  const require = createRequire(path.resolve(suite, 'cli.mjs'))
  const fetch = require('node-fetch')
  config.setBaseUrl(base)
  config.setFetch((url, init) => {
    const aside = ['/config/', '/state/'].some(start => url.startsWith(base + start))
    const to = aside ? originAt + url.slice(base.length) : url
    return fetch(to, { ...init, timeout: PATIENCE_MS })
  })
  const tests = (await groups()).flatMap(group => group.tests)
  const safe = test => test.requests.every(({ request_method: m }) => !m || m === 'HEAD')
  const crowd = tests.filter(safe)
  while (crowd.length > 0) await Promise.all(crowd.splice(0, AT_ONCE).map(makeCacheTest))
  for (const test of tests) if (!safe(test)) await makeCacheTest(test)
  writeFileSync(file, JSON.stringify(testResults))
}

// How the suite sees a test, in a letter: passed, failed, or not asked, because the way to the
// question failed (setup), because a test that it builds on did (dependency), or because the server
// asked the origin twice (retry).
const LETTERS = {
  '✅': '+',
  '⛔️': '-',
  '⚠️': '-',
  Y: '+',
  N: '-',
  '🔹': 's',
  '⚪️': 'd',
  '↻': 'r',
  '⁉️': 's'
}
const KINDS = ['required', 'optimal', 'check']

async function report () {
  const [folder, explainedFile, reportFile] = rest
  const { determineTestResult } = await part('lib/display.mjs')
  const read = name => readFileSync(path.join(folder, name), 'utf8')
  const servers = [OURS, ...PEERS, CONTROL]
  const results = Object.fromEntries(servers.map(s => [s, JSON.parse(read(`${s}.json`))]))
  const all = await groups()
  const tests = all.flatMap(group => group.tests.map(test => ({
    id: test.id,
    group: group.id,
    kind: test.kind ?? 'required',
    needs: test.depends_on ?? [],
    letters: Object.fromEntries(servers.map(server => {
      const verdict = determineTestResult(all, test.id, results[server])[2]
      if (!(verdict in LETTERS)) throw new Error(`${server} has no result for ${test.id}`)
      return [server, LETTERS[verdict]]
    }))
  })))
  const explained = explanations(readFileSync(explainedFile, 'utf8'))
  const faults = judge(tests, explained)
  const said = id => results[OURS][id] === true ? '' : results[OURS][id][1]
  writeFileSync(reportFile, page(tests, servers, explained, read('about.txt'), said))
  for (const fault of faults) console.error(`tests/conformance/run: ${fault}`)
  process.exitCode = faults.length > 0 ? 1 : 0
}

// Lines of a test's id and a sentence.
function explanations (text) {
  const lines = text.split('\n').filter(line => line.trim() !== '' && !line.startsWith('#'))
  return new Map(lines.map(line => {
    const [, id, why] = /^(\S+)\s+(\S.*)$/.exec(line) ?? []
    if (id === undefined) throw new Error(`no explanation: ${line}`)
    return [id, why]
  }))
}

const count = (tests, server, kind, letters) =>
  tests.filter(test => test.kind === kind && letters.includes(test.letters[server])).length

// What omnigate does not pass for reasons of its own; what only a dependency keeps from being asked
// is its dependency's matter.
const open = test => test.kind === 'required' && !'+d'.includes(test.letters[OURS])

function judge (tests, explained) {
  const faults = tests.filter(test => open(test) && !explained.has(test.id))
    .map(test => `${test.id} is required, not passed and not in explained.txt`)
  for (const id of explained.keys()) {
    const test = tests.find(test => test.id === id)
    if (test?.kind !== 'required') faults.push(`explained.txt: ${id} is no required test`)
    else if (test.letters[OURS] === '+') faults.push(`explained.txt: ${id} passes`)
  }
  for (const kind of ['required', 'optimal']) {
    const ours = count(tests, OURS, kind, '+')
    for (const peer of PEERS) {
      const theirs = count(tests, peer, kind, '+')
      if (ours < theirs) faults.push(`${ours} ${kind} tests passed, and ${theirs} by ${peer}`)
    }
  }
  return faults
}

const row = cells => `| ${cells.join(' | ')} |`
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n')

function page (tests, servers, explained, about, said) {
  const totals = servers.map(server => [server, ...KINDS.map(kind =>
    ['+', '-', 'sdr'].map(letters => count(tests, server, kind, letters)).join(' / '))])
  const names = [...new Set(tests.map(test => test.group))]
  const perGroup = names.map(name => {
    const of = tests.filter(test => test.group === name)
    return [name, ...servers.map(server => KINDS.slice(0, 2).map(kind =>
      `${count(of, server, kind, '+')}/${of.filter(t => t.kind === kind).length}`).join(' '))]
  })
  const letters = test => servers.map(server => test.letters[server]).join(' ')
  const differ = test => new Set([OURS, ...PEERS].map(server => test.letters[server])).size > 1
  const lines = kind => tests.filter(test => test.kind === kind && differ(test))
    .map(test => `${letters(test)}  ${test.id}`).join('\n')
  const opened = tests.filter(open).map(test =>
    [test.id, test.letters[OURS], said(test.id).slice(0, 90), explained.get(test.id) ?? '**none**'])
  const waiting = tests
    .filter(test => test.kind === 'required' && test.letters[OURS] === 'd')
    .map(test => [test.id, test.needs.join(', ')])
  const both = tests.filter(test => test.kind !== 'check' && test.letters[OURS] !== '+' &&
    PEERS.every(peer => test.letters[peer] !== '+')).map(test => test.id)
  return `# The HTTP cache conformance suite

Written by \`tests/conformance/run\`; not by hand.

${about.trim()}

Tests passed / failed / skipped. \`${CONTROL}\` is the suite's client and origin with nothing in
between. A *check* asks how a cache behaves; neither answer is wrong. Skipped: what comes before the
question went otherwise than the test needs it, or a test that it builds on did not pass.

${table(['', ...KINDS], totals)}

## By group

Passed of all: required, optimal.

${table(['', ...servers], perGroup)}

## Required tests that ${OURS} does not pass

${table(['test', '', 'the suite says', 'why'], opened)}

Skipped because of what they build on:

${table(['test', 'builds on'], waiting)}

## Where the three differ

${servers.join(', ')}: \`+\` passed, \`-\` failed; skipped: \`s\` setup, \`d\` dependency, \`r\` the
origin was asked twice.

${KINDS.map(kind => `### ${kind}\n\n\`\`\`\n${lines(kind)}\n\`\`\``).join('\n\n')}

## Passed by none of the three

Required and optimal: ${both.join(', ') || 'none'}.
`
}

const job = { origin, client, report }[what]
if (job === undefined) throw new Error(`no such job: ${what}`)
await job()
