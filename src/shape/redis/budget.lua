-- The shared budget: one run of this script is one call of one instance. It hears what the instance
-- has to say, grants what may be sent now, and says when to ask again. Nothing else writes these keys.
--
-- It is made to be quick: what most runs do without is defined inside of what they do without, since each
-- function costs when it is made, and the more the more variables it shares with the body of the script.
--
-- Words. An instance is one omnigate process, a fleet all that share budgets. A meter is one ledger with
-- its bucket and its pause. A head is a waiting call that an instance has told of (its first few). A way
-- is a set of meters that are charged together. A look is when an instance has to ask again. News are
-- opaque texts that every instance hears; the generation is the number of the latest. All times are µs
-- of this server's clock (TIME); nobody can tell the script what time it is.
--
-- Keys, all with one hash tag
--   KEYS[1]   string  the state, by cmsgpack: see `load_state`
--   KEYS[2]   hash    instance -> cmsgpack of { seen, info, its record if it is no longer in the state }
--   KEYS[3]   list    the latest news, JSON of [generation, text]
--   KEYS[3+n] zset    ledger of the n-th meter of the request: grant id -> when it was granted
-- Channels: ARGV[2] .. "all" and ARGV[2] .. "to:" .. instance. No key has a time to live: what a TTL
-- takes away would look like a loss.
--
-- Request (ARGV[1], JSON)
--   i instance, n number of the call, id identity of the server that the instance believes to speak to,
--   expect the time that it predicts for now (or null), tol how far that may be off, turn how long a head
--   keeps its slot, live after what silence an instance is dead, stepped whether the instance saw the
--   clock jump, trust whether an empty store is believed, deaf whether it hears no pushes, info for show,
--   meters [{ name, limit, span, window, reserve, pace, strict }], a pace being null or
--     { burst, each, low_burst, low_each, kept },
--   heads null (as before) or [{ t ticket, c class 0..2, who caller, at arrival, ways [[meter index]] }],
--   returns [grant id], sent [[member, time, [meter index]]],
--   reports [{ k "limited"|"taken"|"lost", m [meter index], g grant number, retry µs or -1, jitter 0..1 }],
--   stops [{ b budget or "*", until µs, -1 without end, 0 resumed }], news [text],
--   applied generation up to which the instance has heard, table whether the table is wanted
--
-- Reply (JSON; a list without entries is [])
--   now [s, µs], status ok|newcomer|mismatch|old, grants [{ t, id, g, w way index }], look µs from now or
--   -1, blocked µs left or 0, why, meters [{ used, waiting [others' heads by class], pause, left, strict }],
--   stops { budget: µs left or -1 }, gen, news [[generation, text]], missed, acked, alive, table
--
-- Whatever an old or a mistaken instance sends, the state stays sound: each field is checked where it is
-- read, each list and name has a longest length, and what makes no sense counts as not said. Writes that
-- take slots come before the state is written, so that a run that fails has at worst taken too many.

local VERSION = 3
local MAX_HEADS, MAX_METERS, MAX_WAYS, MAX_WAY = 32, 64, 64, 8
local MAX_NAME, MAX_ID, MAX_INFO, MAX_NEWS = 256, 64, 4096, 65536
local MAX_LIVE, MAX_KNOWN, MAX_STORED_METERS, MAX_STOPS = 256, 1024, 256, 64
local NEWS_KEPT, NEWS_AT_ONCE, REPORTS, UPLOADS, RETURNS = 1000, 100, 256, 20000, 1000
-- How many grants are foreseen at most to tell an instance when to look.
local FORESEEN = 64
-- Who has kept a slot for so long without coming keeps no second one.
local SLOW = 50000
-- Two times for a look are one and the same within this.
local NEAR = 1000
local SECOND = 1000000
-- A class that was passed over so often is due (src/shape/line.rs).
local DUE_AFTER = 8
-- The first pause without a Retry-After, and how long a probe may be out (src/shape/pause.rs).
local FIRST_PAUSE, PATIENCE, LONGEST_PAUSE = 10 * SECOND, 5 * SECOND, 86400 * SECOND
-- A refusal makes the budget strict for so long (src/shape/meter.rs).
local STRICT_FOR = 3600 * SECOND
-- A dead instance is shown, and a meter that nobody names is kept, for so long.
local SHOWN_DEAD, KEPT_METER = 600 * SECOND, 3600 * SECOND
local CENTURY = 36500 * 86400 * SECOND
local NEVER = math.huge

-- A record of an instance is an array, since there are many: these, and then its heads, each as STRIDE
-- values: ticket, class, caller, arrival, lane. A lane is the ways as text, "1+2|3": ids of meters.
local CALL, SEEN, APPLIED, DEAF, TOLD, KEEPS, GONE, SHOWN, UNHEARD, HEADS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local STRIDE = 5
-- The state of a pause.
local OPEN, CLOSED, PROBING = 0, 1, 2

local floor, ceil, format, call = math.floor, math.ceil, string.format, redis.call

---------------------------------------------------------------------------------------------------
-- What may be believed of a request
---------------------------------------------------------------------------------------------------

-- A whole number within bounds, or the default where there is none.
local function whole(x, least, most, default)
  if type(x) ~= 'number' or x ~= x then return default end
  if x <= least then return least end
  if x >= most then return most end
  return floor(x)
end

local function text(x, longest)
  if type(x) == 'string' and #x > 0 and #x <= longest then return x end
end

-- A list of at most so many entries, and how many it has.
local function list(x, most)
  if type(x) ~= 'table' then return {}, 0 end
  local n = #x
  return x, n < most and n or most
end

-- Whether a list has anything in it.
local function brings(x) return type(x) == 'table' and #x > 0 end

-- All that follows is one function: what is above is then shared with the functions inside of it at no
-- cost, while a variable of the function that makes them has to be looked up in a list for each.
local function run()

local request = cjson.decode(ARGV[1])
local prefix = ARGV[2]
if type(request) ~= 'table' then return redis.error_reply('ERR the request is no object') end
local me = text(request.i, MAX_ID)
local number = whole(request.n, 0, 2 ^ 53, nil)
if not me or not me:find('^[%w_-]+$') or not number or type(prefix) ~= 'string' then
  return redis.error_reply('ERR the request does not say whose it is')
end
local tolerance = whole(request.tol, 0, 3600 * SECOND, SECOND / 2)
local turn = whole(request.turn, 0, 3600 * SECOND, SECOND)
local live = whole(request.live, 1000, 3600 * SECOND, 2 * SECOND)
local identity = text(request.id, MAX_NAME)

local time = call('TIME')
local seconds, micros = tonumber(time[1]), tonumber(time[2])
local now = seconds * SECOND + micros

local function publish(channel, message) return call('PUBLISH', prefix .. channel, message) end

---------------------------------------------------------------------------------------------------
-- The state
---------------------------------------------------------------------------------------------------

-- What is packed is an array, without the mark of its length: it comes back as so many values, of which a
-- table of the right size is made at once.
local function freeze(array)
  local raw = cmsgpack.pack(array)
  local mark = raw:byte(1)
  return raw:sub(mark == 0xdd and 6 or mark == 0xdc and 4 or 2)
end

local function thaw(raw) return { cmsgpack.unpack(raw) } end

-- The state, or nil where there is none that can be read. `save` writes it.
local function load_state()
  local raw = call('GET', KEYS[1])
  if not raw then return nil end
  local fine, s = pcall(thaw, raw)
  if not fine or s[1] ~= VERSION or s[2] ~= #s then return nil end
  local ids, recs, meters = {}, {}, {}
  local p = 24
  for k = 1, s[22] do
    ids[k], recs[k] = s[p], s[p + 1]
    p = p + 2
  end
  for n = 1, s[23] do
    meters[n] = {
      id = s[p], name = s[p + 1], wipe = s[p + 2], n = s[p + 3], score = s[p + 4], keep = s[p + 5],
      keep_until = s[p + 6], seen = s[p + 7], bucket = s[p + 8], low = s[p + 9], pause = s[p + 10],
      at = s[p + 11], since = s[p + 12], refusals = s[p + 13], strict = s[p + 14], full = s[p + 15],
      low_full = s[p + 16], ready = s[p + 17], low_ready = s[p + 18],
    }
    p = p + 19
  end
  return {
    id = s[3], past = s[4], last = s[5], since = s[6], block = s[7], why = s[8], gen = s[9], grants = s[10],
    acked = s[11], turn = s[12], turns = { s[13], s[14], s[15] }, passed = { s[16], s[17], s[18] },
    meter = s[19], stops = s[20], pruned = s[21], ids = ids, recs = recs, meters = meters,
  }
end

local state = load_state()
local was_missing = not state
state = state or {
  id = identity or '', past = {}, last = now,
  -- When and until when nobody is granted anything, and why.
  since = 0, block = 0, why = '',
  -- Both begin at the clock, so that they never come again in a state after this one.
  gen = seconds * 1000 + floor(micros / 1000), grants = seconds * 100, acked = 0,
  -- Turns of callers and grants to others while a class waited, by class.
  turn = 0, turns = { {}, {}, {} }, passed = { 0, 0, 0 },
  meter = 0, meters = {}, stops = {}, pruned = now,
  -- Live instances, and their records, each packed by itself: most are unchanged by a run.
  ids = {}, recs = {},
}

local ids, recs, changed = state.ids, {}, {}
local mine, rec
for k = 1, #ids do
  recs[k] = thaw(state.recs[k])
  if ids[k] == me then mine, rec = k, recs[k] end
end

-- A record as it was when the instance fell silent, or a new one.
if not mine then
  local raw = call('HGET', KEYS[2], me)
  local fine, shown = false, nil
  if raw then fine, shown = pcall(cmsgpack.unpack, raw) end
  if fine and type(shown) == 'table' and type(shown.rec) == 'string' then
    rec = thaw(shown.rec)
  else
    rec = { -1, now, 0, 0, -1, 0, 0, 0, 0 }
  end
end

-- The reply, whatever the status; lists and objects come as JSON.
local function reply(status, grants, look, meters, stops, news, missed, alive, table_of)
  local blocked = state.block > now and state.block - now or 0
  return format(
    '{"now":[%d,%d],"status":"%s","grants":%s,"look":%d,"blocked":%d,"why":"%s","meters":%s,'
      .. '"stops":%s,"gen":%d,"news":%s,"missed":%s,"acked":%d,"alive":%d%s}',
    seconds, micros, status, grants, look, blocked, blocked > 0 and state.why or '', meters, stops,
    state.gen, news, missed and 'true' or 'false', state.acked, alive, table_of)
end

-- Rule 2: a call that was cut off may run after a later one. It changes nothing.
if number <= rec[CALL] then
  return reply('old', '[]', -1, '[]', '{}', '[]', false, #ids, '')
end

---------------------------------------------------------------------------------------------------
-- Rule 1: whether the ledgers tell the truth
---------------------------------------------------------------------------------------------------

-- The meters of the request by index, and those of the state by name. One that makes no sense is false.
local settings, asked = list(request.meters, MAX_METERS)
local gauges, by_id, distinct = {}, {}, {}

local function find_meter(name)
  local meters = state.meters
  for n = 1, #meters do
    if meters[n].name == name then return meters[n] end
  end
  if #meters >= MAX_STORED_METERS then return nil end
  state.meter = state.meter + 1
  -- When the state knows nothing of it, it begins as after a block that began with the state.
  local meter = {
    id = state.meter, name = name, new = true, wipe = false, n = 0, score = 0, keep = 0, keep_until = 0,
    seen = now, bucket = 0, low = 0, pause = OPEN, at = 0, since = 0, refusals = 0, strict = 0,
    full = 0, low_full = 0, ready = 0, low_ready = 0,
  }
  meters[#meters + 1] = meter
  return meter
end

-- A meter as this run sees it: what the request says of it, and what the state does. The second half is
-- what the walk through the line supposes; `version`s say at which of the `changes` something was computed.
local function find_gauge(index)
  local said, key = settings[index], KEYS[3 + index]
  if type(said) ~= 'table' or not key then return false end
  local name = text(said.name, MAX_NAME)
  local limit, span = whole(said.limit, 1, 1000000, nil), whole(said.span, 1, CENTURY, nil)
  local meter = name and limit and span and find_meter(name)
  if not meter then return false end
  if by_id[meter.id] then return by_id[meter.id] end
  local gauge = {
    meter = meter, key = key, said = said, limit = limit, span = span, code = format('%d', meter.id),
    window = whole(said.window, 0, span, span), reserve = whole(said.reserve, 0, limit - 1, 0),
    total = call('ZCARD', key), old = 0, used = 0, plain = nil, pace = nil, granted = {},
    high = 0, normal = 0, batch = 0, met = false, counted = false, is_ahead = false,
    bucket = 0, low = 0, pause = OPEN, refusals = 0, held = 0, paused = 0, at = now, count = 0,
    stamps = {}, extra = {}, changes = 0, version = -1, low_version = -1, ready = 0, low_ready = 0,
    opened = -1, open = 0, low_open = 0,
  }
  by_id[meter.id], distinct[#distinct + 1] = gauge, gauge
  return gauge
end

for index = 1, asked do gauges[index] = find_gauge(index) end

local function lost_members()
  for n = 1, #distinct do
    if distinct[n].total < distinct[n].meter.n then return true end
  end
end

-- Nobody is granted anything for the longest span: what was sent lately is not known.
local function block(why)
  local longest = 0
  for _, gauge in ipairs(distinct) do
    if gauge.span > longest then longest = gauge.span end
  end
  for _, meter in ipairs(state.meters) do
    if meter.keep > longest then longest = meter.keep end
    meter.wipe, meter.n, meter.score = true, 0, 0
    meter.full, meter.low_full, meter.ready, meter.low_ready, meter.keep_until = 0, 0, 0, 0, 0
  end
  state.since, state.block, state.why = now, now + longest, why
  state.last = now
  for k = 1, #ids do
    -- What they wait for they still wait for; only the times may be nonsense.
    local one = recs[k]
    one[SEEN], one[TOLD], one[KEEPS], one[SHOWN], changed[k] = now, -1, 0, 0, true
    for p = HEADS, #one, STRIDE do
      if one[p + 3] > now then one[p + 3] = now end
    end
  end
end

-- A failover gives the server another identity. One that was left behind is only an instance that has not
-- noticed yet, and no second change.
local function is_other_server()
  if not identity or identity == state.id then return false end
  for _, one in ipairs(state.past) do
    if one == identity then return false end
  end
  table.insert(state.past, 1, state.id)
  state.past[9], state.id = nil, identity
  return true
end

local is_other = is_other_server()
if was_missing then
  if request.trust ~= true then block('empty') end
elseif is_other then
  block('server')
elseif now < state.last - tolerance then
  -- The times that were told, and the ends of pauses, are of a clock that has jumped by so much.
  local by = now - state.last
  for name, until_ in pairs(state.stops) do
    if until_ >= 0 then state.stops[name] = until_ + by end
  end
  for _, meter in ipairs(state.meters) do
    if meter.pause ~= OPEN then meter.at = meter.at + by end
    if meter.strict > 0 then meter.strict = meter.strict + by end
    meter.seen = now
  end
  block('clock')
elseif request.stepped == true then
  block('clock')
elseif lost_members() then
  block('loss')
end
if now > state.last then state.last = now end

---------------------------------------------------------------------------------------------------
-- Buckets: the generic cell rate algorithm (src/shape/bucket.rs). A bucket is the time at which it is full.
---------------------------------------------------------------------------------------------------

local function read_pace(said)
  if type(said) ~= 'table' then return nil end
  local each = whole(said.each, 1, CENTURY, nil)
  if not each then return nil end
  each = said.each > each and said.each < CENTURY and said.each or each
  local burst = whole(said.burst, 1, 1000000, 1)
  local low_each = type(said.low_each) == 'number' and said.low_each >= 1 and said.low_each < CENTURY
  low_each = low_each and said.low_each or each
  local low_burst = whole(said.low_burst, 1, 1000000, 1)
  return {
    each = each, full = (burst - 1) * each, burst = burst,
    low_each = low_each, low_full = (low_burst - 1) * low_each,
    kept = whole(said.kept, 0, burst - 1, 0) * each,
  }
end

-- Leaves exactly one token at `at`, unless there are fewer anyway.
local function restart(x, pace, at)
  if x.bucket < at + pace.full then x.bucket = at + pace.full end
end

local function restart_low(x, pace, at)
  if x.low < at + pace.low_full then x.low = at + pace.low_full end
end

-- Begins anew without a token: after a pause sends go at pace.
local function empty(x, pace, at)
  if not pace then return end
  restart(x, pace, at)
  restart_low(x, pace, at)
  x.bucket, x.low = x.bucket + pace.each, x.low + pace.low_each
end

local function take_token(x, pace, at, is_low)
  x.bucket = (x.bucket > at and x.bucket or at) + pace.each
  if is_low then x.low = (x.low > at and x.low or at) + pace.low_each end
end

-- The pace while Omni is known to count otherwise than we do.
local function slow_pace(gauge)
  local plain, slow = gauge.plain, read_pace(gauge.said.strict)
  if not slow or (plain and slow.burst == plain.burst and slow.each == plain.each) then return plain end
  return slow
end

---------------------------------------------------------------------------------------------------
-- Rule 5: meters come up to date
---------------------------------------------------------------------------------------------------

-- A meter that the state knew nothing of is as one whose sends were lost when the state began.
local function begin_meter(gauge, meter)
  local from = meter.new and state.since > 0 and state.since + gauge.span or state.block
  if meter.wipe then
    call('DEL', gauge.key)
    gauge.total = 0
  elseif meter.new and gauge.total > 0 then
    gauge.total = gauge.total - call('ZREMRANGEBYSCORE', gauge.key, '(' .. format('%.0f', now), '+inf')
  end
  meter.bucket, meter.low = 0, 0
  if gauge.pace and state.since > 0 then
    restart(meter, gauge.pace, from)
    restart_low(meter, gauge.pace, from)
  end
  meter.wipe, meter.new = false, nil
end

local function set_pace(gauge, meter)
  local plain = read_pace(gauge.said.pace)
  gauge.plain, gauge.pace = plain, plain
  if meter.strict > now then
    gauge.pace = slow_pace(gauge)
  elseif meter.strict > 0 then
    meter.strict = 0
    if slow_pace(gauge) ~= plain then
      meter.bucket, meter.low = 0, 0
      empty(meter, plain, now)
    end
  end
end

for n = 1, #distinct do
  local gauge = distinct[n]
  local meter, span = gauge.meter, gauge.span
  meter.seen = now
  -- How long a send is kept: as long as any instance counts it that was here lately.
  if span >= meter.keep or meter.keep_until <= now then
    meter.keep, meter.keep_until = span, now + (span > live and span or live)
  end
  set_pace(gauge, meter)
  if meter.new or meter.wipe then begin_meter(gauge, meter) end
  -- A bucket does not refill while the ledger is what blocks (src/shape/schedule.rs).
  local pace = gauge.pace
  if pace and meter.full > 0 and meter.full <= now then restart(meter, pace, meter.full) end
  if pace and meter.low_full > 0 and meter.low_full <= now then restart_low(meter, pace, meter.low_full) end
  if gauge.total > 0 then
    gauge.total = gauge.total - call('ZREMRANGEBYSCORE', gauge.key, '-inf', now - meter.keep)
  end
end

---------------------------------------------------------------------------------------------------
-- What the instance has to say
---------------------------------------------------------------------------------------------------

rec[CALL], rec[SEEN], rec[DEAF] = number, now, request.deaf == true and 1 or 0
local expected = whole(request.expect, 0, 2 ^ 53, nil)
local status = 'ok'
if not expected or not identity or (not mine and #ids >= MAX_LIVE) then
  status = 'newcomer'
elseif expected - now > tolerance or now - expected > tolerance then
  status = 'mismatch'
end

local function end_pause(x, pace, at)
  x.pause, x.refusals = OPEN, 0
  empty(x, pace, at)
end

local applied = whole(request.applied, 0, 2 ^ 53, 0)

-- What few calls bring.
local function hear()
  local function gauges_of(indexes)
    local found, entries, n = {}, list(indexes, MAX_METERS)
    for k = 1, n do
      local index = whole(entries[k], -1, MAX_METERS, -1)
      local gauge = gauges[index + 1]
      if gauge then found[#found + 1] = gauge end
    end
    return found
  end

  -- Rule 4. The id of a grant tells its number, and by a last `u` that it took what is not reserved.
  local function take_back(id)
    local granted, low = id:match('^[^:]*:[^:]*:(%d+)(u?)$')
    if not granted or id:sub(1, #me + 1) ~= me .. ':' then return end
    for _, gauge in ipairs(distinct) do
      if call('ZREM', gauge.key, id) == 1 then
        local meter, pace = gauge.meter, gauge.pace
        gauge.total = gauge.total - 1
        if pace then
          meter.bucket = meter.bucket - pace.each
          if low == 'u' then meter.low = meter.low - pace.low_each end
        end
        if meter.pause == PROBING and tonumber(granted) >= meter.since then
          meter.pause, meter.at = CLOSED, now
        end
      end
    end
  end

  -- More of the newest than these never decide anything.
  local function bound_ledger(gauge)
    local most = 4 * gauge.limit + 1000
    if gauge.total > most then
      call('ZREMRANGEBYRANK', gauge.key, 0, gauge.total - most - 1)
      gauge.total = most
    end
  end

  local function note_sent(entry)
    if type(entry) ~= 'table' then return end
    local member, at = text(entry[1], MAX_NAME), whole(entry[2], 0, now, nil)
    if not member or not at then return end
    for _, gauge in ipairs(gauges_of(entry[3])) do
      if at + gauge.meter.keep > now then
        gauge.total = gauge.total + call('ZADD', gauge.key, 'NX', at, member)
      end
    end
  end

  local function take_returns()
    local returns, n = list(request.returns, RETURNS)
    for k = 1, n do
      local id = text(returns[k], MAX_NAME)
      if id then take_back(id) end
    end
  end

  local function take_sent()
    local sent, n = list(request.sent, UPLOADS)
    for k = 1, n do note_sent(sent[k]) end
    if n == 0 then return end
    for k = 1, #distinct do bound_ledger(distinct[k]) end
  end

  -- Rule 6, as src/shape/pause.rs. Says whether something changed.
  local function refuse(gauge, report, granted)
    local meter = gauge.meter
    local retry = whole(report.retry, -1, LONGEST_PAUSE, -1)
    if meter.pause ~= OPEN and granted < meter.since then
      -- It set out before the pause began; but a Retry-After is a promise, and the longest one counts.
      if meter.pause ~= CLOSED or retry < 0 or now + retry <= meter.at then return false end
      meter.at = now + retry
      return true
    end
    local wait = retry
    if retry < 0 then
      local most = gauge.window > FIRST_PAUSE / 10 and gauge.window or FIRST_PAUSE / 10
      wait = FIRST_PAUSE * 2 ^ (meter.refusals < 16 and meter.refusals or 16)
      if wait > most then wait = most end
      local jitter = type(report.jitter) == 'number' and report.jitter or 0.5
      if not (jitter >= 0 and jitter <= 1) then jitter = 0.5 end
      wait = floor(wait * (0.9 + 0.2 * jitter))
    end
    meter.refusals = meter.refusals < 1000 and meter.refusals + 1 or meter.refusals
    meter.pause, meter.at, meter.since = CLOSED, now + wait, state.grants
    return true
  end

  -- Omni counts otherwise than we do, so sends go more slowly for a while.
  local function turn_strict(gauge)
    local meter = gauge.meter
    if meter.strict == 0 and slow_pace(gauge) ~= gauge.plain then
      gauge.pace = slow_pace(gauge)
      meter.bucket, meter.low = 0, 0
      empty(meter, gauge.pace, now)
    end
    if meter.strict < now + STRICT_FOR then meter.strict = now + STRICT_FOR end
  end

  local function take_report(report, paused)
    if type(report) ~= 'table' then return end
    local granted = whole(report.g, 0, 2 ^ 53, 0)
    for _, gauge in ipairs(gauges_of(report.m)) do
      local meter = gauge.meter
      if report.k == 'limited' then
        if refuse(gauge, report, granted) then paused[gauge] = true end
        turn_strict(gauge)
      elseif meter.pause == PROBING and granted >= meter.since then
        if report.k == 'taken' then end_pause(meter, gauge.pace, now) end
        if report.k == 'lost' then meter.pause, meter.at = CLOSED, now end
      end
    end
  end

  local function take_reports()
    local reports, n = list(request.reports, REPORTS)
    if n == 0 then return end
    local paused, names, left = {}, {}, 0
    for k = 1, n do take_report(reports[k], paused) end
    for k = 1, #distinct do
      local meter = distinct[k].meter
      if paused[distinct[k]] then
        names[#names + 1] = cjson.encode(meter.name)
        if meter.at - now > left then left = meter.at - now end
      end
    end
    if #names > 0 then
      publish('all', format('{"k":"pause","m":[%s],"left":%d,"from":"%s"}',
        table.concat(names, ','), left, me))
    end
  end

  -- Rule 12. Who resumes everything resumes each budget, too.
  local function set_stop(stop)
    local budget = type(stop) == 'table' and text(stop.b, MAX_NAME)
    local until_ = budget and whole(stop['until'], -1, 2 ^ 53, nil)
    if not until_ then return false end
    local changes = false
    if until_ >= 0 and until_ <= now then
      for name in pairs(state.stops) do
        if name == budget or budget == '*' then
          state.stops[name], changes = nil, true
        end
      end
      return changes
    end
    local n = 0
    for _ in pairs(state.stops) do n = n + 1 end
    if state.stops[budget] == until_ or (n >= MAX_STOPS and not state.stops[budget]) then return false end
    state.stops[budget] = until_
    return true
  end

  local function take_stops()
    local stops, n = list(request.stops, MAX_STOPS)
    local changes = false
    for k = 1, n do changes = set_stop(stops[k]) or changes end
    if changes then publish('all', '{"k":"stops"}') end
  end

  -- Rule 11. What an instance tells it knows, if it knew everything before.
  local function take_news()
    local told, n = list(request.news, NEWS_AT_ONCE)
    for k = 1, n do
      local item = text(told[k], MAX_NEWS)
      if item then
        if applied == state.gen then applied = applied + 1 end
        state.gen = state.gen + 1
        local as_json = cjson.encode(item)
        call('RPUSH', KEYS[3], format('[%d,%s]', state.gen, as_json))
        publish('all', format('{"k":"news","gen":%d,"text":%s,"from":"%s"}', state.gen, as_json, me))
      end
    end
    if n > 0 then call('LTRIM', KEYS[3], -NEWS_KEPT, -1) end
  end

  take_returns()
  take_sent()
  take_reports()
  take_stops()
  take_news()
end

for name, until_ in pairs(state.stops) do
  if until_ >= 0 and until_ <= now then state.stops[name] = nil end
end
if brings(request.returns) or brings(request.sent) or brings(request.reports)
  or brings(request.stops) or brings(request.news) then
  hear()
end
-- A number that was never given is of another state: it knows nothing of this one.
rec[APPLIED] = applied <= state.gen and applied or 0

---------------------------------------------------------------------------------------------------
-- Rules 3 and 10: who is there
---------------------------------------------------------------------------------------------------

-- Replaces the heads of the instance, by class, caller and arrival: so they mostly come already.
local function set_heads()
  local function encode_lane(ways)
    local texts, entries, n = {}, list(ways, MAX_WAYS)
    for w = 1, n do
      local way, indexes, count = {}, list(entries[w], MAX_WAY + 1)
      local sound = count >= 1 and count <= MAX_WAY
      local met = {}
      for k = 1, count do
        local index = whole(indexes[k], -1, MAX_METERS, -1)
        local gauge = gauges[index + 1]
        if not gauge then
          sound = false
        elseif not met[gauge] then
          met[gauge] = true
          way[#way + 1] = format('%d', gauge.meter.id)
        end
      end
      -- A way that cannot be understood is never open; the others keep their numbers.
      texts[w] = sound and table.concat(way, '+') or '-'
    end
    return n > 0 and table.concat(texts, '|') or '-'
  end

  -- Most calls have one way that is of one meter.
  local function lane_of(ways)
    local way = type(ways) == 'table' and #ways == 1 and ways[1]
    local gauge = type(way) == 'table' and #way == 1 and type(way[1]) == 'number' and gauges[way[1] + 1]
    if gauge then return gauge.code end
    return encode_lane(ways)
  end

  local function comes_before(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    if a[3] ~= b[3] then return a[3] < b[3] end
    if a[4] ~= b[4] then return a[4] < b[4] end
    return a[6] < b[6]
  end

  local function sort_heads()
    local all = {}
    for p = HEADS, #rec, STRIDE do
      all[#all + 1] = { rec[p], rec[p + 1], rec[p + 2], rec[p + 3], rec[p + 4], p }
    end
    table.sort(all, comes_before)
    for n = 1, #all do
      local head, p = all[n], HEADS + (n - 1) * STRIDE
      rec[p], rec[p + 1], rec[p + 2], rec[p + 3], rec[p + 4] = head[1], head[2], head[3], head[4], head[5]
    end
  end

  local heads, n = list(request.heads, MAX_HEADS)
  local p, is_sorted, last_class, last_who, last_at = HEADS, true, 0, '', 0
  for k = 1, n do
    local head = heads[k]
    local ticket = type(head) == 'table' and (whole(head.t, 0, 2 ^ 53, nil) or text(head.t, MAX_ID))
    if ticket then
      local class, at = whole(head.c, 0, 2, 2) + 1, whole(head.at, 0, now, now)
      local who = type(head.who) == 'string' and head.who or ''
      if #who > MAX_NAME then who = who:sub(1, MAX_NAME) end
      if class ~= last_class then
        is_sorted = is_sorted and class > last_class
      elseif who < last_who or (who == last_who and at < last_at) then
        is_sorted = false
      end
      rec[p], rec[p + 1], rec[p + 2], rec[p + 3], rec[p + 4] = ticket, class, who, at, lane_of(head.ways)
      p, last_class, last_who, last_at = p + STRIDE, class, who, at
    end
  end
  for old = #rec, p, -1 do rec[old] = nil end
  if not is_sorted then sort_heads() end
end

if status == 'newcomer' then
  for p = #rec, HEADS, -1 do rec[p] = nil end
elseif request.heads ~= cjson.null and request.heads ~= nil then
  set_heads()
end
if status ~= 'mismatch' then rec[KEEPS], rec[GONE] = 0, 0 end

-- A dead instance is not waited for. What it said is kept with what is shown of it, should it come back.
local function bury_dead()
  local function bury(k)
    local raw = call('HGET', KEYS[2], ids[k])
    local fine, shown = false, nil
    if raw then fine, shown = pcall(cmsgpack.unpack, raw) end
    local info = fine and type(shown) == 'table' and shown.info or '{}'
    call('HSET', KEYS[2], ids[k],
      cmsgpack.pack({ seen = recs[k][SEEN], info = info, rec = freeze(recs[k]) }))
    table.remove(ids, k)
    table.remove(recs, k)
    table.remove(state.recs, k)
    table.remove(changed, k)
  end

  for k = 1, #ids do changed[k] = changed[k] or false end
  for k = #ids, 1, -1 do
    if k ~= mine and recs[k][SEEN] + live < now then
      bury(k)
      if mine and mine > k then mine = mine - 1 end
    end
  end
end

local is_new = not mine
for k = 1, #ids do
  if k ~= mine and recs[k][SEEN] + live < now then
    bury_dead()
    break
  end
end
local is_full = false
if is_new and #ids < MAX_LIVE then
  mine = #ids + 1
  ids[mine], recs[mine] = me, rec
  is_full = call('HLEN', KEYS[2]) >= MAX_KNOWN
end
if mine then changed[mine] = true end
-- Shows the instance in the table, now and then.
if is_new or request.table == true or now - rec[SHOWN] >= SECOND / 2 then
  rec[SHOWN] = now
  local info = text(request.info, MAX_INFO) or '{}'
  call('HSET', KEYS[2], me, cmsgpack.pack({ seen = now, info = info }))
end
if is_full or now - state.pruned > 60 * SECOND or now < state.pruned then
  -- Forgets the dead of long ago; all of the dead where there are too many.
  local function prune(hard)
    state.pruned = now
    local is_live, all = {}, call('HGETALL', KEYS[2])
    for k = 1, #ids do is_live[ids[k]] = true end
    for k = 1, #all, 2 do
      local fine, shown = pcall(cmsgpack.unpack, all[k + 1])
      local seen = fine and type(shown) == 'table' and whole(shown.seen, 0, 2 ^ 53, 0) or 0
      if not is_live[all[k]] and (hard or seen < now - SHOWN_DEAD or seen > now + SHOWN_DEAD) then
        call('HDEL', KEYS[2], all[k])
      end
    end
  end
  prune(is_full)
end

-- Whoever is new knows nothing of the clock, and is granted nothing yet. Some of the others call
-- meanwhile: if the clock was set, one of them finds out.
if status == 'newcomer' then
  local left = 4
  for k = 1, #ids do
    if left > 0 and k ~= mine and recs[k][DEAF] == 0 then
      left = left - 1
      publish('to:' .. ids[k], '{"k":"call"}')
    end
  end
end

-- What all live instances have heard.
local acked = rec[APPLIED]
for k = 1, #ids do
  if recs[k][APPLIED] < acked then acked = recs[k][APPLIED] end
end
if acked > state.acked then publish('all', format('{"k":"acked","gen":%d}', acked)) end
state.acked = acked

---------------------------------------------------------------------------------------------------
-- When a meter lets the next one go. The run goes through the line with `gauge`, which holds what is
-- granted and what others are waited for; what is granted alone goes to `meter`.
---------------------------------------------------------------------------------------------------

local function stop_of(name)
  local stops = state.stops
  if next(stops) == nil then return 0 end
  local own, all = stops[name:match('^[^/]*')] or 0, stops['*'] or 0
  if own < 0 or all < 0 then return NEVER end
  return own > all and own or all
end

-- From when on the pause lets the next one go.
local function pause_ends(meter)
  if meter.pause == OPEN then return 0 end
  return meter.pause == CLOSED and meter.at or meter.at + PATIENCE
end

-- The time of the nth send that counts, from 0. They are asked for a few at a time.
local function stamp(gauge, nth)
  local at = gauge.stamps[nth]
  if at then return at end
  local first = gauge.old + nth
  local found = call('ZRANGE', gauge.key, first, first + 7, 'WITHSCORES')
  for k = 2, #found, 2 do gauge.stamps[nth + k / 2 - 1] = tonumber(found[k]) end
  return gauge.stamps[nth] or now
end

-- When there are fewer than `limit`, if `later` were sent after those in the ledger.
local function opens(gauge, limit, count, later)
  local nth = count - limit
  if nth < 0 then return 0 end
  if nth < gauge.used then return stamp(gauge, nth) + gauge.span end
  return (later[nth - gauge.used + 1] or now) + gauge.span
end

-- Gets the gauges ready for the walk, after everything that changes the ledgers.
for n = 1, #distinct do
  local gauge = distinct[n]
  local meter = gauge.meter
  if meter.keep > gauge.span and gauge.total > 0 then
    local counts = call('ZCOUNT', gauge.key, '(' .. format('%.0f', now - gauge.span), '+inf')
    gauge.old = gauge.total - counts
  end
  gauge.used = gauge.total - gauge.old
  gauge.count, gauge.bucket, gauge.low, gauge.pause = gauge.used, meter.bucket, meter.low, meter.pause
  local from = stop_of(meter.name)
  if state.block > from then from = state.block end
  if state.since > 0 and state.since + gauge.span > from then from = state.since + gauge.span end
  gauge.held, gauge.paused = from, pause_ends(meter)
end

---------------------------------------------------------------------------------------------------
-- Rules 7 to 9: the walk through the line
---------------------------------------------------------------------------------------------------

local all_lanes, rows = {}, { {}, {}, {} }
local grants, granted_at, keeps = {}, nil, {}
local own_look

local function walk_line()
  local version = 0
  local lanes, unmet = {}, 0

  -- When the ledger has room, for all and for those who leave the reserve; computed once between two sends.
  local function openings(gauge)
    if gauge.opened ~= gauge.changes then
      local open = opens(gauge, gauge.limit, gauge.count, gauge.extra)
      gauge.open, gauge.low_open, gauge.opened = open, open, gauge.changes
      if gauge.reserve > 0 then
        gauge.low_open = opens(gauge, gauge.limit - gauge.reserve, gauge.count, gauge.extra)
      end
    end
    return gauge.open, gauge.low_open
  end

  -- When the next one may go; computed once between two sends.
  local function compute_ready(gauge, is_low)
    local at = gauge.at
    if gauge.held > at then at = gauge.held end
    if gauge.paused > at then at = gauge.paused end
    local open, slot = openings(gauge)
    if not is_low then slot = open end
    if slot > at then at = slot end
    local pace = gauge.pace
    if not pace then return at end
    local full = gauge.bucket
    if open > gauge.at and open + pace.full > full then full = open + pace.full end
    local token = full - pace.full + (is_low and pace.kept or 0)
    if token > at then at = token end
    if is_low then
      full = gauge.low
      if slot > gauge.at and slot + pace.low_full > full then full = slot + pace.low_full end
      if full - pace.low_full > at then at = full - pace.low_full end
    end
    return at
  end

  local function ready_at(gauge, is_low)
    if gauge.unknown then return is_low and gauge.low_ready or gauge.ready end
    if is_low and gauge.reserve > 0 then
      if gauge.low_version ~= gauge.changes then
        gauge.low_ready, gauge.low_version = compute_ready(gauge, true), gauge.changes
      end
      return gauge.low_ready
    end
    if gauge.version ~= gauge.changes then
      gauge.ready, gauge.version = compute_ready(gauge, false), gauge.changes
    end
    return gauge.ready
  end

  -- The walk takes a slot at `at`.
  local function foresee(gauge, at, is_low)
    version = version + 1
    if gauge.unknown then return end
    local pace = gauge.pace
    is_low = is_low and gauge.reserve > 0
    if pace then
      local open, low_open = openings(gauge)
      if open > gauge.at and open <= at then restart(gauge, pace, open) end
      if low_open > gauge.at and low_open <= at then restart_low(gauge, pace, low_open) end
    end
    if gauge.pause == CLOSED then
      gauge.pause, gauge.paused = PROBING, at + PATIENCE
    elseif gauge.pause == PROBING then
      gauge.paused = 0
      end_pause(gauge, pace, at)
    end
    if pace then take_token(gauge, pace, at, is_low) end
    gauge.count = gauge.count + 1
    gauge.extra[#gauge.extra + 1] = at
    gauge.at, gauge.changes = at, gauge.changes + 1
  end

  -- A grant takes it.
  local function spend(gauge, id, is_low)
    local meter = gauge.meter
    if meter.pause == CLOSED then
      meter.pause, meter.at = PROBING, now
    elseif meter.pause == PROBING then
      end_pause(meter, gauge.pace, now)
    end
    if gauge.pace then take_token(meter, gauge.pace, now, is_low and gauge.reserve > 0) end
    -- Strictly growing, so that those of one moment have an order.
    meter.score = now > meter.score and now or meter.score + 1
    call('ZADD', gauge.key, meter.score, id)
    gauge.granted[#gauge.granted + 1] = meter.score
  end

  -- A meter that this instance does not name: what the last one knew who did.
  local function gauge_of(id)
    if by_id[id] then return by_id[id] end
    for _, meter in ipairs(state.meters) do
      if meter.id == id then
        local stop = stop_of(meter.name)
        if state.block > stop then stop = state.block end
        local function from(at) return at > stop and at or stop end
        local gauge = { unknown = true, meter = meter,
          ready = from(meter.ready), low_ready = from(meter.low_ready) }
        by_id[id] = gauge
        return gauge
      end
    end
  end

  local function decode_lane(code)
    local lane = { version = -1, low_version = -1, high = 0, left = 0, waiting = { 0, 0, 0 } }
    for part in code:gmatch('[^|]+') do
      local way = {}
      for id in part:gmatch('[^+]+') do
        local gauge = gauge_of(tonumber(id))
        if not gauge then
          way.never = true
        else
          way[#way + 1] = gauge
        if gauge.unknown then way.is_foreign = true end
          if not gauge.met then gauge.met, unmet = true, unmet + 1 end
        end
      end
      lane[#lane + 1] = way
    end
    lanes[code], all_lanes[#all_lanes + 1] = lane, lane
    return lane
  end

  local function way_at(way, is_low)
    if way.never then return NEVER end
    local at = now
    for n = 1, #way do
      local ready = ready_at(way[n], is_low)
      if ready > at then at = ready end
    end
    return at
  end

  -- When a call of this lane may go, and which way: the one that is open first, or else is preferred.
  local function lane_at(lane, is_low)
    if is_low then
      if lane.low_version == version then return lane.low_at, lane.low_way end
    elseif lane.version == version then
      return lane.at, lane.way
    end
    local at, which = NEVER, 0
    for w = 1, #lane do
      local ready = way_at(lane[w], is_low)
      if ready < at then at, which = ready, w end
    end
    if is_low then
      lane.low_at, lane.low_way, lane.low_version = at, which, version
    else
      lane.at, lane.way, lane.version = at, which, version
    end
    return at, which
  end

  -- Rule 7: the line (src/shape/line.rs).
  -- By class: callers in the order of their turns. A caller is a row of cursors, one per instance.
  local rings, queued, waiting = { {}, {}, {} }, { 0, 0, 0 }, { 0, 0, 0 }
  local own_left = 0

  -- Cursors stand in the order in which their first heads came.
  local function cursors_first(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return ids[a.k] < ids[b.k]
  end

  local function count_head(lane, class, k, by)
    if class == 1 then lane.high = lane.high + by else lane.left = lane.left + by end
    queued[class] = queued[class] + by
    if k == mine then own_left = own_left + by end
  end

  -- A caller's row, with a cursor for this instance where it belongs.
  local function join_row(class, who, cursor)
    local row = rows[class][who]
    if not row then
      local ring = rings[class]
      row = {
        cursor, who = who, class = class, first = cursor.at, left = 0, real = 0,
        turn = state.turns[class][who],
      }
      rows[class][who], ring[#ring + 1] = row, row
      return row
    end
    local n, at, id = #row, cursor.at, ids[cursor.k]
    while n > 0 and (at < row[n].at or (at == row[n].at and id < ids[row[n].k])) do
      row[n + 1], n = row[n], n - 1
    end
    row[n + 1] = cursor
    if at < row.first then row.first = at end
    return row
  end

  -- Puts the heads of an instance in line.
  local function enter(k)
    local one, is_own = recs[k], k == mine
    local class, who, code, row, lane, cursor
    for p = HEADS, #one, STRIDE do
      local its_class, its_who, its_code = one[p + 1], one[p + 2], one[p + 4]
      if its_code ~= code then
        code, lane = its_code, lanes[its_code] or decode_lane(its_code)
      end
      if its_who ~= who or its_class ~= class then
        class, who = its_class, its_who
        cursor = { k = k, p = p, last = p, at = one[p + 3], lane = lane, taken = false }
        row = join_row(class, who, cursor)
      end
      cursor.last = p
      row.left, row.real, queued[class] = row.left + 1, row.real + 1, queued[class] + 1
      if class == 1 then lane.high = lane.high + 1 else lane.left = lane.left + 1 end
      if not is_own then lane.waiting[class] = lane.waiting[class] + 1 end
    end
    if is_own then own_left = (#one - HEADS + 1) / STRIDE end
  end

  -- Who has no turn yet comes after all who have one.
  local function turns_first(a, b)
    if a.turn and b.turn then return a.turn < b.turn end
    if a.turn or b.turn then return a.turn ~= nil end
    if a.first ~= b.first then return a.first < b.first end
    return a.who < b.who
  end

  local function next_turn()
    state.turn = state.turn + 1
    return state.turn
  end

  for k = 1, #ids do
    if recs[k][GONE] == 0 and recs[k][HEADS] then enter(k) end
  end
  for class = 1, 3 do
    local ring = rings[class]
    if #ring > 1 then table.sort(ring, turns_first) end
    for r = 1, #ring do ring[r].turn = ring[r].turn or next_turn() end
    if queued[class] == 0 then state.passed[class] = 0 end
    waiting[class] = queued[class]
  end
  local passed = { state.passed[1], state.passed[2], state.passed[3] }

  -- The classes in the order in which they may be granted: those that are due first, the longest passed
  -- over first, then by priority.
  local function class_order()
    local low, batch = passed[2], passed[3]
    if low < DUE_AFTER and batch < DUE_AFTER then return 1, 2, 3 end
    if low < DUE_AFTER then return 3, 1, 2 end
    if batch < DUE_AFTER then return 2, 1, 3 end
    if batch > low then return 3, 2, 1 end
    return 2, 3, 1
  end

  -- The first of a cursor that may go at `at`.
  local function first_of(cursor, at, is_low)
    local one, taken = recs[cursor.k], cursor.taken
    for p = cursor.p, cursor.last, STRIDE do
      if not (taken and taken[p]) then
        local lane, ready = lanes[one[p + 4]], nil
        if is_low then
          ready = lane.low_version == version and lane.low_at or lane_at(lane, true)
        else
          ready = lane.version == version and lane.at or lane_at(lane, false)
        end
        if ready <= at then return p end
      end
    end
  end

  local function first_of_row(row, at)
    local first = row[1]
    if first and lane_at(first.lane, row.class > 1) <= at then return first, first.p end
    -- It has to wait for something that others need not wait for.
    local is_low = row.class > 1
    local best, best_p, arrived
    for n = 1, #row do
      local cursor = row[n]
      local p = first_of(cursor, at, is_low)
      if p then
        local came = recs[cursor.k][p + 3]
        if not best or came < arrived or (came == arrived and ids[cursor.k] < ids[best.k]) then
          best, best_p, arrived = cursor, p, came
        end
      end
    end
    return best, best_p
  end

  local function first_of_class(class, at)
    local ring = rings[class]
    for r = 1, #ring do
      local cursor, p = first_of_row(ring[r], at)
      if cursor then return ring[r], r, cursor, p end
    end
  end

  -- Who goes next of those who may go at `at`.
  local function pick(at)
    local a, b, c = class_order()
    local row, r, cursor, p
    if queued[a] > 0 then row, r, cursor, p = first_of_class(a, at) end
    if not row and queued[b] > 0 then row, r, cursor, p = first_of_class(b, at) end
    if not row and queued[c] > 0 then row, r, cursor, p = first_of_class(c, at) end
    return row, r, cursor, p
  end

  -- When the next one may go, whoever that is.
  local function earliest()
    local at = NEVER
    for n = 1, #all_lanes do
      local lane = all_lanes[n]
      if lane.high > 0 then
        local ready = lane.version == version and lane.at or lane_at(lane, false)
        if ready < at then at = ready end
      end
      if lane.left > 0 then
        local ready = lane.low_version == version and lane.low_at or lane_at(lane, true)
        if ready < at then at = ready end
      end
    end
    return at
  end

  local function pass_over(counts, class, queue)
    for other = 1, 3 do
      if other == class or queue[other] == 0 then
        counts[other] = 0
      else
        counts[other] = counts[other] + 1
      end
    end
  end

  -- Puts a cursor where its next head belongs, or away if it has none.
  local function advance(row, cursor)
    local n = 1
    while row[n] ~= cursor do n = n + 1 end
    local p = cursor.p
    repeat p = p + STRIDE until not (cursor.taken and cursor.taken[p])
    cursor.p = p
    local one = recs[cursor.k]
    if p > cursor.last then
      table.remove(row, n)
      return
    end
    cursor.at, cursor.lane = one[p + 3], lanes[one[p + 4]]
    while row[n + 1] and cursors_first(row[n + 1], cursor) do
      row[n], row[n + 1], n = row[n + 1], cursor, n + 1
    end
  end

  -- Takes a head out of the walk.
  local function leave(row, r, cursor, p)
    local class = row.class
    count_head(lanes[recs[cursor.k][p + 4]], class, cursor.k, -1)
    row.left = row.left - 1
    if p == cursor.p then
      advance(row, cursor)
    else
      cursor.taken = cursor.taken or {}
      cursor.taken[p] = true
    end
    local ring = rings[class]
    if #ring > 1 or row.left == 0 then
      table.remove(ring, r)
      if row.left > 0 then ring[#ring + 1] = row end
    end
    pass_over(passed, class, queued)
  end

  -- Takes all that an instance still has in line out of the walk; what is gone is not counted any more.
  local function pass_by(k, is_gone)
    for class = 1, 3 do
      local ring = rings[class]
      for r = #ring, 1, -1 do
        local row = ring[r]
        for n = #row, 1, -1 do
          local cursor = row[n]
          if cursor.k == k then
            for p = cursor.p, cursor.last, STRIDE do
              if not (cursor.taken and cursor.taken[p]) then
                count_head(lanes[recs[k][p + 4]], class, k, -1)
                row.left = row.left - 1
                if is_gone then row.real, waiting[class] = row.real - 1, waiting[class] - 1 end
              end
            end
            table.remove(row, n)
          end
        end
        if row.left == 0 then table.remove(ring, r) end
      end
    end
  end

  -- Rule 8: it has missed its turn, and all that it waits for goes until its next call.
  local function send_away(k)
    recs[k][GONE], recs[k][KEEPS], changed[k] = 1, 0, true
    pass_by(k, true)
  end

  -- Whether the caller hears nothing by itself.
  local is_deaf = rec[DEAF] == 1 or rec[UNHEARD] == 1

  -- Tells an instance when to look, unless it was told so, or is on its way anyway. Says whether nobody
  -- was there to hear it.
  local function tell(k, at)
    local one = recs[k]
    local told = one[TOLD]
    if one[DEAF] == 1 then return end
    if told >= 0 then
      local is_coming = told > now - turn and told <= now + (at <= now and NEAR or 0)
      if is_coming or (at > now and told - at <= NEAR and at - told <= NEAR) then return end
    end
    at = ceil(at)
    one[TOLD], changed[k] = at, true
    local push = format('{"k":"look","at":"%d","in":%d}', at, at > now and at - now or 0)
    local is_heard = publish('to:' .. ids[k], push) > 0
    if is_heard then one[UNHEARD] = 0 end
    return not is_heard
  end

  local function grant(row, p, way, which)
    local class = row.class
    local is_low, is_unreserved = class > 1, false
    for n = 1, #way do
      if is_low and way[n].reserve > 0 then is_unreserved = true end
    end
    local id = format('%s:%d:%d%s', me, number, state.grants, is_unreserved and 'u' or '')
    for n = 1, #way do spend(way[n], id, is_low) end
    local ticket = rec[p]
    grants[#grants + 1] = format('{"t":%s,"id":"%s","g":%d,"w":%d}',
      type(ticket) == 'number' and format('%d', ticket) or cjson.encode(ticket),
      id, state.grants, which - 1)
    granted_at = granted_at or {}
    granted_at[p] = true
    state.grants = state.grants + 1
    row.real, row.turn = row.real - 1, next_turn()
    waiting[class] = waiting[class] - 1
    pass_over(state.passed, class, waiting)
  end

  -- A head that could go now: it goes, or keeps its slot, or has missed its turn.
  local function go_now(row, r, cursor, p)
    local k = cursor.k
    local is_low = row.class > 1
    local lane = lanes[recs[k][p + 4]]
    local _, which = lane_at(lane, is_low)
    local way = lane[which]
    -- What it pays it no longer names: it is for its next call to say anew what it waits for.
    if k == mine and way.is_foreign then return send_away(k) end
    if k == mine and status == 'ok' then
      grant(row, p, way, which)
    else
      local since = recs[k][KEEPS]
      if since > 0 and now - since > turn then return send_away(k) end
      -- It is slow, or it has died: it keeps one slot, and others need not wait for the rest.
      if keeps[k] and k ~= mine and since > 0 and now - since > SLOW then return pass_by(k, false) end
      if since == 0 then recs[k][KEEPS], changed[k] = now, true end
      if k == mine then
        own_look = now
      elseif tell(k, now) and recs[k][UNHEARD] == 0 then
        -- Nobody is there to hear it, so it has died, most likely. If it comes all the same it is deaf.
        recs[k][UNHEARD] = 1
        return send_away(k)
      end
      keeps[k] = true
    end
    for n = 1, #way do foresee(way[n], now, is_low) end
    leave(row, r, cursor, p)
  end

  -- How long after the first in line the caller looks by itself: one of the others a turn later, the next
  -- two turns later, and so on, so that somebody comes soon if the first does not.
  local first_k
  local function far()
    local from = first_k or 0
    local rank = mine and (mine - from) % #ids or 0
    if rank < 1 then rank = #ids end
    return rank * turn
  end

  -- A head that will go at `at`: the first of a meter is told so. The others are told when they are the
  -- first, and look by themselves later, should all who come before them stay away.
  local function go_later(row, r, cursor, p, at)
    local k = cursor.k
    local is_low = row.class > 1
    local lane = lanes[recs[k][p + 4]]
    local _, which = lane_at(lane, is_low)
    local way, is_first = lane[which], true
    for n = 1, #way do
      if way[n].is_ahead then is_first = false end
    end
    if is_first and k ~= mine and not keeps[k] and tell(k, at) and recs[k][UNHEARD] == 0 then
      recs[k][UNHEARD] = 1
      return send_away(k)
    end
    if is_first and not first_k then first_k = k end
    for n = 1, #way do
      if way[n].is_ahead then
        is_first = false
      else
        way[n].is_ahead, unmet = true, unmet - 1
      end
    end
    if k == mine and not own_look then own_look = (is_first or is_deaf) and at or at + far() end
    for n = 1, #way do foresee(way[n], at, is_low) end
    leave(row, r, cursor, p)
  end

  local last_look
  local later = 0
  while later < FORESEEN do
    local at = earliest()
    if at == NEVER then break end
    local is_later = at > now
    if is_later and unmet <= 0 then
      if own_look or own_left == 0 then break end
      if not is_deaf then
        own_look = at + far()
        break
      end
    end
    local row, r, cursor, p = pick(at)
    if not row then break end
    if is_later then
      later, last_look = later + 1, at
      go_later(row, r, cursor, p, at)
    else
      go_now(row, r, cursor, p)
    end
  end
  if not own_look and own_left > 0 and last_look and later >= FORESEEN then
    own_look = last_look + turn
  end
end

local is_line = false
for k = 1, #ids do is_line = is_line or (recs[k][GONE] == 0 and recs[k][HEADS] ~= nil) end
if is_line then
  walk_line()
else
  state.passed = { 0, 0, 0 }
end

---------------------------------------------------------------------------------------------------
-- The end of a run
---------------------------------------------------------------------------------------------------

-- Who keeps no slot any more has not missed a turn.
for k = 1, #ids do
  if recs[k][KEEPS] > 0 and not keeps[k] then recs[k][KEEPS], changed[k] = 0, true end
end

-- Writes the state and answers.
local function finish()
  local function close_heads()
    if not granted_at then return end
    local to = HEADS
    for p = HEADS, #rec, STRIDE do
      if not granted_at[p] then
        rec[to], rec[to + 1], rec[to + 2] = rec[p], rec[p + 1], rec[p + 2]
        rec[to + 3], rec[to + 4] = rec[p + 3], rec[p + 4]
        to = to + STRIDE
      end
    end
    for p = #rec, to, -1 do rec[p] = nil end
  end

  local function close_turns()
    for class = 1, 3 do
      local turns = {}
      for who, row in pairs(rows[class]) do
        if row.real > 0 then turns[who] = row.turn end
      end
      state.turns[class] = turns
    end
  end

  -- What the next run has to know of the ledger, and of when the next one may go.
  local function close_meter(gauge)
    local meter, granted, pace = gauge.meter, gauge.granted, gauge.pace
    local count = gauge.used + #granted
    meter.n = gauge.total + #granted
    local full = opens(gauge, gauge.limit, count, granted)
    local low_full = full
    if gauge.reserve > 0 then low_full = opens(gauge, gauge.limit - gauge.reserve, count, granted) end
    meter.full, meter.low_full = full > now and full or 0, low_full > now and low_full or 0
    local ready, paused = now, pause_ends(meter)
    if full > ready then ready = full end
    if paused > ready then ready = paused end
    if pace and meter.bucket - pace.full > ready then ready = meter.bucket - pace.full end
    meter.ready, meter.low_ready = ready, low_full > ready and low_full or ready
  end

  -- A meter that nobody has named for long is forgotten with its ledger.
  local function forget_meters()
    for n = #state.meters, 1, -1 do
      local meter = state.meters[n]
      local kept = meter.keep > KEPT_METER and meter.keep or KEPT_METER
      if meter.seen + kept < now then
        call('DEL', prefix .. 'ledger:' .. meter.name)
        table.remove(state.meters, n)
      end
    end
  end

  local function save()
    close_heads()
    close_turns()
    for n = 1, #distinct do close_meter(distinct[n]) end
    local meters = state.meters
    if #meters > #distinct then forget_meters() end
    local turns, passed = state.turns, state.passed
    -- The order is that of `load_state`.
    local s = {
      VERSION, 0, state.id, state.past, state.last, state.since, state.block, state.why, state.gen,
      state.grants, state.acked, state.turn, turns[1], turns[2], turns[3], passed[1], passed[2], passed[3], state.meter,
      state.stops, state.pruned, #ids, #meters,
    }
    local p = #s
    for k = 1, #ids do
      s[p + 1], s[p + 2] = ids[k], changed[k] and freeze(recs[k]) or state.recs[k]
      p = p + 2
    end
    for n = 1, #meters do
      local m = meters[n]
      s[p + 1], s[p + 2], s[p + 3], s[p + 4], s[p + 5], s[p + 6] = m.id, m.name, m.wipe, m.n, m.score, m.keep
      s[p + 7], s[p + 8], s[p + 9], s[p + 10], s[p + 11] = m.keep_until, m.seen, m.bucket, m.low, m.pause
      s[p + 12], s[p + 13], s[p + 14], s[p + 15] = m.at, m.since, m.refusals, m.strict
      s[p + 16], s[p + 17], s[p + 18], s[p + 19] = m.full, m.low_full, m.ready, m.low_ready
      p = p + 19
    end
    s[2] = p
    call('SET', KEYS[1], freeze(s))
  end

  -- Others' heads, by what they may pay.
  local function count_others()
    for n = 1, #all_lanes do
      local lane = all_lanes[n]
      local high, normal, batch = lane.waiting[1], lane.waiting[2], lane.waiting[3]
      for w = 1, #lane do
        local way = lane[w]
        for g = 1, #way do
          local gauge = way[g]
          if gauge.counted ~= lane and not gauge.unknown then
            gauge.counted = lane
            gauge.high, gauge.normal = gauge.high + high, gauge.normal + normal
            gauge.batch = gauge.batch + batch
          end
        end
      end
    end
  end

  local function show_meter(gauge)
    if not gauge then
      return '{"used":0,"waiting":[0,0,0],"pause":"open","left":0,"strict":0}'
    end
    local meter = gauge.meter
    local left, pause = pause_ends(meter) - now, 'open'
    if meter.pause == CLOSED then pause = 'closed' elseif meter.pause == PROBING then pause = 'probe' end
    return format('{"used":%d,"waiting":[%d,%d,%d],"pause":"%s","left":%d,"strict":%d}',
      gauge.used + #gauge.granted, gauge.high, gauge.normal, gauge.batch, pause,
      pause ~= 'open' and left > 0 and left or 0, meter.strict > now and meter.strict - now or 0)
  end

  local function show_meters()
    count_others()
    local shown = {}
    for index = 1, asked do shown[index] = show_meter(gauges[index]) end
    return '[' .. table.concat(shown, ',') .. ']'
  end

  local function show_stops()
    if next(state.stops) == nil then return '{}' end
    local shown = {}
    for name, until_ in pairs(state.stops) do
      shown[#shown + 1] = format('%s:%d', cjson.encode(name), until_ < 0 and -1 or until_ - now)
    end
    table.sort(shown)
    return '{' .. table.concat(shown, ',') .. '}'
  end

  -- What the instance has not heard, and whether the log no longer reaches back so far.
  local function show_news()
    local applied = rec[APPLIED]
    local behind = state.gen - applied
    if behind <= 0 then return '[]', whole(request.applied, 0, 2 ^ 53, 0) > state.gen end
    if behind > NEWS_KEPT then return '[]', true end
    local found = call('LRANGE', KEYS[3], -behind, behind > NEWS_AT_ONCE and NEWS_AT_ONCE - behind - 1 or -1)
    local begins = format('[%d,', applied + 1)
    if not found[1] or found[1]:sub(1, #begins) ~= begins then return '[]', true end
    return '[' .. table.concat(found, ',') .. ']', false
  end

  local function show_table()
    if request.table ~= true then return '' end
    local seen, shown, all = {}, {}, call('HGETALL', KEYS[2])
    for k = 1, #ids do seen[ids[k]] = recs[k][SEEN] end
    for k = 1, #all, 2 do
      local fine, one = pcall(cmsgpack.unpack, all[k + 1])
      if fine and type(one) == 'table' then
        local ago = now - (seen[all[k]] or whole(one.seen, 0, now, now))
        shown[#shown + 1] = format('{"i":%s,"info":%s,"ago":%d}', cjson.encode(all[k]),
          cjson.encode(text(one.info, MAX_INFO) or '{}'), ago > 0 and ago or 0)
      end
    end
    table.sort(shown)
    return ',"table":[' .. table.concat(shown, ',') .. ']'
  end

  local function look()
    if not own_look or own_look == NEVER then
      rec[TOLD] = -1
      return -1
    end
    local at = ceil(own_look)
    if at < now then at = now end
    rec[TOLD] = at
    return at - now
  end

  local look_in = look()
  save()
  local news, missed = show_news()
  return reply(status, '[' .. table.concat(grants, ',') .. ']', look_in, show_meters(), show_stops(), news,
    missed, #ids, show_table())
end

return finish()

end

return run()
