// Moments of gateways that are hard to drive on purpose: each scene gives the document that the page
// would read at a second `t`. They move, so that pictures and tests see something that lives.
import { readFileSync } from 'node:fs'

const [, version] = readFileSync(new URL('../../Cargo.toml', import.meta.url), 'utf8').match(/^version = "(.*)"/m)

/** A small generator of numbers, the same each time. */
const dice = seed => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const queue = (interactive, normal, batch) =>
  [['interactive', ...interactive], ['normal', ...normal], ['batch', ...batch]].map(([priority, waiting, oldest_s = null]) => ({ priority, waiting, oldest_s }))
const nobody = queue([0], [0], [0])

const admissions = (seed, rates = [0.3, 1.2, 2.6]) => {
  const roll = dice(seed)
  const series = (rate, at) => Array.from({ length: 180 }, (_, step) => {
    // Batch comes in waves, people in bursts, the rest evenly.
    const wave = at === 2 ? Math.max(0, Math.sin(step / 17 + seed) + 0.55) : at === 0 ? (Math.sin(step / 9) > 0.55 ? 2.2 : 0.25) : 1
    return Math.max(0, Math.round(rate * wave + (roll() - 0.5) * 1.3))
  })
  return { step_s: 5, into_step_s: 2.4, interactive: series(rates[0], 0), normal: series(rates[1], 1), batch: series(rates[2], 2) }
}
const still = { step_s: 5, into_step_s: 2.4, interactive: Array(180).fill(0), normal: Array(180).fill(0), batch: Array(180).fill(0) }

/** Sends of the last span, by who and how often; `t` lets them grow old and come anew. */
const cells = (t, span, mix, seed = 7) => {
  const roll = dice(seed)
  const many = mix.reduce((all, [, , n]) => all + n, 0)
  const bag = mix.flatMap(([caller, priority, n]) => Array.from({ length: n }, () => ({ caller, priority, order: roll() }))).sort((a, b) => a.order - b.order)
  return bag.map(({ caller, priority }, at) => ({ ago_s: ((((at + 0.5) * span) / many + t) % span), caller, priority })).sort((a, b) => b.ago_s - a.ago_s)
}

const budget = (name, more) => ({
  budget: name, credential: null, profile: 'smooth', strict_for_now: false, limit: 60, window_s: 60, span_s: 61, used: 0, in_hand: 0,
  next_slot_s: 0, paused: null, limited_within: 0, limited_beyond: 0, cells: [], queue: nobody, admissions: still, ...more,
})
const caller = (name, more) => ({ caller: name, calls: 0, sent: 0, saved: 0, refused: 0, failed: 0, longest_wait_s: 0, waiting: 0, oldest_s: null, seen_s: null, calls_ever: 0, ...more })
const route = (name, more) => ({ route: name, keeps: false, calls: 0, sent: 0, saved: 0, refused: 0, failed: 0, mean_wait_s: null, mean_upstream_s: null, calls_ever: 0, ...more })
const error = (kind, code, ago_s, more) => ({
  ago_s, count: 1, kind, status: code, method: 'GET', route: 'documents', caller: 'sync', request_id: '01JD7Q3V9W0M4T8XKZ2N5R6BHE', trace_id: '4bf92f3577b34da6a3ce929d0e0e4736', ...more,
})

const base = (t, more) => ({
  version, now: new Date().toISOString(), up_s: 275312 + t, ready: true, reasons: [],
  credentials: [{ credential: 'org', state: 'ready', age_s: 275310 + Math.floor(t) }],
  log: 'info', connections: 14, viewers: 2, budgets: [], callers: [], routes: [],
  cache: { bytes: 0, max_bytes: 67108864, entries: 0, calls: 0, saved: 0, saved_ever: 0 }, certificates: [],
  instances: [{ instance: 'gate-1', version, up_s: 275312 + t, heard_s: null, is_this: true }], shared: null,
  traces: { state: 'off', endpoint: null, exported: 0, failed: 0, dropped: 0, why: null }, errors: [], ...more,
})

const people = [
  caller('crawler', { calls: 377, sent: 361, saved: 4, refused: 12, longest_wait_s: 41.2, seen_s: 0.4, calls_ever: 40213 }),
  caller('dashboard', { calls: 224, sent: 41, saved: 181, longest_wait_s: 0.9, seen_s: 2.1, calls_ever: 31870 }),
  caller('reports', { seen_s: 5210, calls_ever: 97 }),
  caller('sync', { calls: 219, sent: 196, saved: 22, failed: 1, longest_wait_s: 12.8, seen_s: 1.3, calls_ever: 18422 }),
]
const roads = [
  route('people', { calls: 63, sent: 63, mean_wait_s: 3.4, mean_upstream_s: 0.41, calls_ever: 5120 }),
  route('documents', { keeps: true, calls: 402, sent: 197, saved: 193, refused: 12, mean_wait_s: 5.1, mean_upstream_s: 0.36, calls_ever: 51377 }),
  route('everything', { calls: 355, sent: 338, saved: 14, failed: 1, mean_wait_s: 6.2, mean_upstream_s: 0.74, calls_ever: 34105 }),
]
const store = { bytes: 18874368, max_bytes: 67108864, entries: 412, calls: 402, saved: 207, saved_ever: 61044 }
const known = ['crawler', 'dashboard', 'sync']
const mix = [['crawler', 'batch', 37], ['sync', 'normal', 13], ['dashboard', 'interactive', 6]]

const busy = (t, more = {}) => base(t, {
  budgets: [budget('omni', {
    used: 58, in_hand: 2, next_slot_s: 1 - (t % 1), cells: cells(t, 61, mix), limited_beyond: 1,
    queue: queue([0], [3, 2.2 + (t % 3)], [9, 31 + (t % 20)]), admissions: admissions(3), ...more,
  })],
  callers: people.map(it => ({ crawler: { ...it, waiting: 9, oldest_s: 31 + (t % 20) }, sync: { ...it, waiting: 3, oldest_s: 2.2 + (t % 3) } }[it.caller] ?? it)),
  routes: roads, cache: store,
  traces: { state: 'on', endpoint: 'http://127.0.0.1:4318', exported: 18220 + Math.floor(t), failed: 0, dropped: 0, why: null },
  certificates: [{ listener: '0.0.0.0:6664', expires_in_s: 4860000 }],
  errors: [
    error('queue-deadline', 503, 141 + t, { count: 12, caller: 'crawler' }),
    error('upstream', 502, 402 + t, { route: 'everything', method: 'POST', request_id: '01JD7Q0A8M6S3C1YVN4E9T2KDW', trace_id: null }),
  ],
})

/** Three instances, the last of which is late; and what else is with what they share. */
const sharing = (t, more = {}) => ({
  instances: ['gate-1', 'gate-2', 'gate-3'].map((instance, at) => ({ instance, version, up_s: 275312 - 4000 * at + t, heard_s: [null, 0.4, 61 + t][at], is_this: at === 0 })),
  shared: { standing: 'joined', lost_s: null, on_lost: 'hold', share_of: null, blocked: null, unshared: 0, ...more },
})

export const scenes = {
  fine: t => {
    const it = busy(t, { used: 18, in_hand: 0, next_slot_s: 0, queue: nobody, cells: cells(t, 61, [['crawler', 'batch', 7], ['sync', 'normal', 7], ['dashboard', 'interactive', 4]]), admissions: admissions(5, [0.4, 0.7, 0.6]), limited_beyond: 0 })
    return { ...it, callers: people.map(one => ({ ...one, refused: 0, failed: 0, longest_wait_s: Math.min(1.4, one.longest_wait_s) })), routes: roads.map(one => ({ ...one, refused: 0, failed: 0, mean_wait_s: 0.08 })), errors: [] }
  },
  idle: t => base(t, { budgets: [budget('omni')], callers: known.map(name => caller(name)), routes: [route('people'), route('documents', { keeps: true }), route('everything')], connections: 0, viewers: 1 }),
  empty: t => base(t, { credentials: [], instances: [], connections: 0, viewers: 1 }),
  busy,
  paused: t => {
    const held = cells(0, 61, mix).filter(one => one.ago_s > 28)
    const it = busy(t, { used: held.length, in_hand: 0, next_slot_s: null, paused: { by: 'operator', ends_in_s: 272 - (t % 270) }, cells: held, queue: queue([1, 4 + (t % 3)], [6, 22 + (t % 9)], [11, 47 + (t % 9)]) })
    const wait = { crawler: [11, 47 + (t % 9)], sync: [6, 22 + (t % 9)], dashboard: [1, 4 + (t % 3)] }
    return { ...it, callers: people.map(one => (wait[one.caller] ? { ...one, waiting: wait[one.caller][0], oldest_s: wait[one.caller][1] } : one)) }
  },
  'paused until resumed': t => busy(t, { next_slot_s: null, paused: { by: 'operator', ends_in_s: null } }),
  '429 by Omni': t => busy(t, { next_slot_s: null, paused: { by: 'omni', ends_in_s: 12 - (t % 12) }, limited_within: 1, strict_for_now: true, profile: 'smooth' }),
  '429, the probe is out': t => busy(t, { next_slot_s: null, paused: { by: 'omni', ends_in_s: null }, limited_within: 1 }),
  errors: t => ({
    ...busy(t, { used: 22, next_slot_s: 0, in_hand: 0, queue: nobody, cells: cells(t, 61, [['crawler', 'batch', 12], ['sync', 'normal', 10]]) }),
    callers: people.map(it => ({ ...it, failed: 7 })),
    errors: [
      error('upstream', 502, 2 + (t % 5), { count: 27, caller: 'crawler', route: 'everything' }), error('upstream-timeout', 504, 22 + t, { count: 3 }), error('upstream-unreachable', 502, 71 + t, { route: 'people', trace_id: null }),
      error('caller-limit', 429, 122 + t, { count: 40, caller: 'crawler' }), error('no-route', 404, 300 + t, { route: null, method: 'DELETE', caller: null, trace_id: null }), error('queue-deadline', 503, 640 + t, { count: 2, caller: 'dashboard' }),
    ],
  }),
  'key refused': t => ({ ...busy(t, { used: 9, next_slot_s: 0, in_hand: 0, queue: nobody, cells: cells(t, 61, [['sync', 'normal', 9]]) }), credentials: [{ credential: 'org', state: 'rejected', age_s: 812, trouble: 'Omni answered 401 to the last three calls' }, { credential: 'reports', state: 'ready', age_s: 90211 }, { credential: 'trial', state: 'stale', age_s: 7300, trouble: 'vault.age: permission denied' }], errors: [error('credential-rejected', 503, 3, { count: 9 })] }),
  'key missing': t => ({ ...scenes.idle(t), ready: false, reasons: [{ reason: 'credential-missing', credential: 'org' }], credentials: [{ credential: 'org', state: 'missing', trouble: 'no secret `org` in vault.age' }] }),
  draining: t => ({ ...busy(t), ready: false, reasons: [{ reason: 'draining' }] }),
  'sharing, joining': t => ({ ...scenes.idle(t), ready: false, reasons: [{ reason: 'shared-budget' }], shared: sharing(t, { standing: 'joining' }).shared }),
  'sharing, lost': t => ({ ...busy(t), ...sharing(t, { standing: 'lost', lost_s: 74 + (t % 20) }), ready: false, reasons: [{ reason: 'shared-budget' }] }),
  'sharing, lost, alone with a share': t => ({ ...busy(t), ...sharing(t, { standing: 'lost', lost_s: 74 + (t % 20), on_lost: 'share', share_of: 3, unshared: 1417 }) }),
  'sharing, lost, alone': t => ({ ...busy(t), ...sharing(t, { standing: 'lost', lost_s: 74 + (t % 20), on_lost: 'local', unshared: 1 }) }),
  'sharing, blocked': t => ({ ...busy(t), ...sharing(t, { blocked: { why: 'server', ends_in_s: 61 - (t % 60) } }) }),
  slow: t => ({ ...scenes.fine(t), routes: roads.map(it => ({ ...it, refused: 0, failed: 0, mean_wait_s: 0.2, mean_upstream_s: 38.4 })) }),
  budgets: t => ({
    ...busy(t),
    callers: busy(t).callers.map(it => (it.caller === 'reports' ? { ...it, calls: 5610, sent: 5602, saved: 8, longest_wait_s: 3.1, seen_s: 0.1 } : it)),
    credentials: ['org', 'reports', 'trial'].map((credential, at) => ({ credential, state: 'ready', age_s: 3600 * (at + 2) })),
    budgets: [
      busy(t).budgets[0],
      budget('reports', { limit: 1000, window_s: 60, span_s: 61, used: 731, in_hand: 4, profile: 'burst', cells: cells(t, 61, [['reports', 'batch', 410], ['crawler', 'batch', 130], ['sync', 'normal', 56]], 9), admissions: admissions(8, [6, 30, 33]), queue: nobody }),
      budget('trial', { credential: 'trial', limit: 5, window_s: 10, span_s: 11, used: 3, profile: 'strict', cells: cells(t, 11, [['dashboard', 'interactive', 3]], 4), admissions: admissions(4, [1, 0, 0]) }),
      budget('uploads', { limit: 20, used: 20, next_slot_s: null, paused: { by: 'omni', ends_in_s: 18 - (t % 18) }, cells: cells(t, 61, [['sync', 'normal', 16], ['omnigate', 'normal', 1], [null, null, 3]], 3), queue: queue([0], [4, 9.3 + (t % 5)], [0]), admissions: admissions(2, [0, 1.6, 0.2]) }),
    ],
    ...sharing(t),
    traces: { state: 'failing', endpoint: 'https://collector.example.internal:4318', exported: 90122, failed: 512, dropped: 20481, why: 'connection refused' },
    certificates: [{ listener: '0.0.0.0:6664', expires_in_s: 4860000 }, { listener: '0.0.0.0:6665', expires_in_s: 390000 }, { listener: '10.0.0.4:443', expires_in_s: -7200 }],
  }),
  crowd: t => {
    const roll = dice(12)
    const crowd = Array.from({ length: 40 }, (_, at) => caller(`team-${['ada', 'bert', 'cleo', 'dora', 'emil', 'finn', 'gwen', 'hugo'][at % 8]}-${String(at + 1).padStart(2, '0')}`, { calls: Math.floor(roll() * 40), sent: Math.floor(roll() * 30), saved: Math.floor(roll() * 9), waiting: at % 7 ? 0 : 2, oldest_s: at % 7 ? null : roll() * 20, longest_wait_s: roll() * 30, seen_s: roll() * 60, calls_ever: 1000 }))
    return { ...busy(t, { cells: cells(t, 61, crowd.slice(0, 28).map(it => [it.caller, 'normal', 2])), used: 58 }), callers: crowd }
  },
  'long names': t => {
    const long = 'W'.repeat(32) + '.' + 'a-very-long-name_of-a-caller.31'.slice(0, 31)
    const it = busy(t, { cells: cells(t, 61, [[long, 'batch', 40], [`${long.slice(0, 62)}.2`, 'normal', 16]]) })
    it.budgets[0].budget = long
    return { ...it, log: `omnigate=debug,${long}=trace`, callers: [caller(long, { calls: 123456789, sent: 123456789, saved: 98765432, refused: 1, failed: 1, longest_wait_s: 7199, waiting: 10000, oldest_s: 3599, seen_s: 1, calls_ever: 1e12 })], routes: [route(long, { keeps: true, calls: 123456789, mean_wait_s: 119, mean_upstream_s: 119 })], credentials: [{ credential: long, state: 'stale', age_s: 9e7, trouble: `/var/lib/${long}/${long}: permission denied` }], instances: [{ instance: `${long}.example.internal`, version, up_s: 1e6, is_this: true }], certificates: [{ listener: `unix:/run/${long}.sock`, expires_in_s: 1e6 }], traces: { state: 'failing', endpoint: `https://${long.toLowerCase()}.example:4318`, exported: 1e12, failed: 1e12, dropped: 1e12, why: long }, errors: [error('upstream', 599, 2, { route: long, caller: long, count: 1e9 })] }
  },
  /** Markup and worse in every string that the document has, whatever the gateway checks. */
  hostile: t => {
    const bad = `"'><img src=x onerror="document.title='HIT'"><script>document.title='HIT'</script>{{7*7}}\u202e`
    const spoil = it => (typeof it === 'string' ? `${it}${bad}` : Array.isArray(it) ? it.map(spoil) : it && typeof it === 'object' ? Object.fromEntries(Object.entries(it).map(([name, value]) => [name, ['priority', 'by', 'version'].includes(name) ? value : spoil(value)])) : it)
    const it = spoil({ ...scenes.budgets(t), errors: scenes.errors(t).errors })
    it.callers.push(...['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', '\u0000'].map(name => caller(name, { calls: 3, sent: 2 })))
    it.credentials.push({ credential: 'constructor', state: 'toString', age_s: 1 })
    it.errors.push(error('constructor', 500, 1, { kind: '__proto__' }))
    return it
  },
}
