//! A call and its answer, as JSON. The words are explained in `budget.lua`.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::shape::fleet::call::{
    Answer, Generation, GrantId, Granted, Head, MeterTold, PauseTold, Report, Said, Sent, SentId,
    StopTold, StopUntil,
};
use crate::shape::fleet::handle::Blocked;
use crate::shape::fleet::store::StoreError;
use crate::shape::fleet::timing::{StoreTime, Timing, micros};
use crate::shape::settings::{BudgetSettings, Profile};

/// The number of a grant that the store did not make: it is newer than any.
const NEWEST: u64 = 1 << 52;

/// More than these are not counted: what is shown of them is added up.
const MOST_COUNTED: u64 = 1_000_000;

/// What a call says beside what the queue has to say.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) instance: &'a str,
    pub(super) number: u64,
    pub(super) identity: &'a str,
    pub(super) expect: Option<StoreTime>,
    pub(super) tolerance: Duration,
    pub(super) turn: Duration,
    pub(super) live: Duration,
    pub(super) stepped: bool,
    pub(super) trust: bool,
    pub(super) deaf: bool,
    pub(super) info: String,
    pub(super) meters: &'a [Value],
    pub(super) uploads: Vec<Sent>,
    pub(super) news: &'a [&'a str],
    pub(super) applied: Generation,
    pub(super) table: bool,
}

/// An answer, whole.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) now: StoreTime,
    pub(super) status: Status,
    pub(super) answer: Answer,
    pub(super) generation: Generation,
    pub(super) news: Vec<(Generation, String)>,
    pub(super) missed: bool,
    pub(super) acked: Generation,
    pub(super) table: Option<Vec<Seat>>,
}

/// An instance in the table.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) id: String,
    pub(super) info: String,
    pub(super) ago: Duration,
}

/// How the store took a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Status {
    #[default]
    Taken,
    /// The instance has to get to know the store's clock first.
    Newcomer,
    /// It was later, or earlier, than the instance thought.
    Mismatch,
    /// A later call was there first.
    Old,
}

/// What the store tells by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Push {
    /// At that time, which is so far off by the store's own clock.
    Look(StoreTime, Duration),
    News {
        generation: Generation,
        text: String,
        from: String,
    },
    Acked(Generation),
    Pause {
        meters: Vec<String>,
        left: Duration,
        from: String,
    },
    /// Something has changed; or somebody new has to be sure of the clock.
    Call,
}

/// What the store has to know of a meter.
pub(crate) fn meter(name: &str, settings: &BudgetSettings) -> Value {
    let span = settings.window + settings.guard;
    let (limit, reserve) = (settings.limit.get(), settings.reserve);
    let paced = |burst: u32, sends: u32| {
        let each = |sends: u32| micros(span / sends.max(1)) + 1;
        json!({
            "burst": burst, "each": each(sends), "low_each": each(limit.saturating_sub(reserve)),
            "low_burst": burst.saturating_sub(reserve).max(1), "kept": reserve.min(burst.saturating_sub(1)),
        })
    };
    let pace = match settings.profile {
        Profile::Burst => Value::Null,
        Profile::Smooth { burst } => paced(burst.get(), limit),
        Profile::Strict { burst } => paced(burst.get(), limit.saturating_sub(1)),
    };
    let strict = match settings.profile {
        Profile::Strict { burst } => paced(burst.get(), limit.saturating_sub(1)),
        Profile::Burst | Profile::Smooth { .. } => paced(2, limit.saturating_sub(1)),
    };
    json!({
        "name": name, "limit": limit, "span": micros(span), "window": micros(settings.window),
        "reserve": reserve, "pace": pace, "strict": strict,
    })
}

/// A call, as the script reads it.
pub(super) fn request(
    envelope: &Envelope<'_>,
    said: &Said,
    timing: &Timing,
    now: Instant,
) -> String {
    let store = |at: Instant| timing.store_at(at).unwrap_or_default();
    let clock_known = timing.is_known(now);
    let uploads = envelope.uploads.iter().filter(|_| clock_known);
    let stops = said.stops.iter().filter(|_| clock_known);
    let mut request = json!({
        "i": envelope.instance, "n": envelope.number, "id": envelope.identity,
        "expect": envelope.expect, "tol": micros(envelope.tolerance), "turn": micros(envelope.turn),
        "live": micros(envelope.live), "info": envelope.info, "meters": envelope.meters,
        "heads": said.heads.iter().map(|one| head(one, store(one.arrived))).collect::<Vec<Value>>(),
        "applied": envelope.applied,
    });
    // What is not there costs the script nothing.
    let lists = [
        (
            "returns",
            said.returns.iter().map(|&id| json!(grant_id(envelope.instance, id))).collect(),
        ),
        ("sent", uploads.map(|one| sent(envelope.instance, one, store(one.at))).collect()),
        ("reports", said.reports.iter().map(report).collect()),
        ("stops", stops.map(|one| stop(one, store)).collect()),
        ("news", envelope.news.iter().map(|one| json!(one)).collect::<Vec<Value>>()),
    ];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        request[key] = Value::Array(list);
    }
    let words = [
        ("stepped", envelope.stepped),
        ("trust", envelope.trust),
        ("deaf", envelope.deaf),
        ("table", envelope.table),
    ];
    for (key, _) in words.into_iter().filter(|(_, is_said)| *is_said) {
        request[key] = Value::Bool(true);
    }
    request.to_string()
}

fn head(head: &Head, at: StoreTime) -> Value {
    json!({ "t": head.ticket, "c": head.class as u8, "who": head.caller, "at": at, "ways": head.ways })
}

fn grant_id(instance: &str, id: GrantId) -> String {
    let unreserved = if id.unreserved { "u" } else { "" };
    format!("{instance}:{}:{}{unreserved}", id.call, id.number)
}

fn sent(instance: &str, sent: &Sent, at: StoreTime) -> Value {
    let member = match sent.id {
        SentId::Granted(id) => grant_id(instance, id),
        SentId::Own(number) => format!("{instance}:own:{number}"),
    };
    json!([member, at, sent.meters])
}

fn report(report: &Report) -> Value {
    let number = |number: &Option<u64>| number.unwrap_or(NEWEST);
    match report {
        Report::Limited { meters, number: grant, retry_after, jitter } => json!({
            "k": "limited", "m": meters, "g": number(grant), "jitter": jitter,
            "retry": retry_after.map_or(-1, |wait| i64::try_from(micros(wait)).unwrap_or(i64::MAX)),
        }),
        Report::Taken { meters, number: grant } => {
            json!({ "k": "taken", "m": meters, "g": number(grant) })
        }
        Report::Lost { meters, number: grant } => {
            json!({ "k": "lost", "m": meters, "g": number(grant) })
        }
    }
}

fn stop(stop: &StopTold, store: impl Fn(Instant) -> StoreTime) -> Value {
    let until = match stop.until {
        StopUntil::Resumed => json!(0),
        StopUntil::At(at) => json!(store(at)),
        StopUntil::WhenResumed => json!(-1),
    };
    json!({ "b": stop.budget.as_deref().unwrap_or("*"), "until": until })
}

/// Reads an answer.
///
/// # Errors
/// [`StoreError::Unusable`], where it is not in the form that the script gives.
pub(super) fn reply(text: &str, instance: &str) -> Result<Reply, StoreError> {
    let unusable = || StoreError::Unusable("its answer to the script is not understood".to_owned());
    let value: Value = serde_json::from_str(text).map_err(|_| unusable())?;
    read_reply(&value, instance).ok_or_else(unusable)
}

fn read_reply(value: &Value, instance: &str) -> Option<Reply> {
    let now = list(value.get("now")?)?;
    let [seconds, rest] = now.as_slice() else { return None };
    let status = match value.get("status")?.as_str()? {
        "ok" => Status::Taken,
        "newcomer" => Status::Newcomer,
        "mismatch" => Status::Mismatch,
        "old" => Status::Old,
        _ => return None,
    };
    let now = whole(seconds)?.checked_mul(1_000_000)?.checked_add(whole(rest)?)?;
    if status == Status::Old {
        return Some(Reply { now, status, ..Reply::default() });
    }
    let each = |key: &str| value.get(key).and_then(list).unwrap_or_default();
    let grants = each("grants").iter().map(|one| granted(one, instance)).collect::<Option<_>>()?;
    let meters = each("meters").iter().map(meter_told).collect::<Option<_>>()?;
    let news = each("news").iter().map(news_told).collect::<Option<_>>()?;
    let blocked = time(value.get("blocked")?)?.filter(|left| !left.is_zero());
    let answer = Answer {
        grants,
        look: time(value.get("look")?)?,
        blocked: blocked.zip(value.get("why").and_then(Value::as_str).and_then(why)),
        meters,
        stops: stops(value.get("stops")),
    };
    let table = value.get("table").and_then(list);
    let table = table.map(|all| all.iter().filter_map(seat).collect());
    Some(Reply {
        now,
        status,
        answer,
        generation: whole(value.get("gen")?)?,
        news,
        missed: value.get("missed").and_then(Value::as_bool).unwrap_or(false),
        acked: whole(value.get("acked")?)?,
        table,
    })
}

/// A list; Lua's empty table is written as an object.
fn list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(all) => Some(all.clone()),
        Value::Object(none) if none.is_empty() => Some(Vec::new()),
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            None
        }
    }
}

/// A whole number; Lua may write it as `1e+06`.
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_f64().filter(|number| (0.0..9e15).contains(number));
    // It is in the range, and has no fraction that matters.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    value.as_u64().or(number.map(|number| number as u64))
}

/// A length of time in microseconds; there is none where it is negative.
fn time(value: &Value) -> Option<Option<Duration>> {
    let number = value.as_f64()?;
    if number < 0.0 {
        return Some(None);
    }
    Some(Some(Duration::from_micros(whole(value)?)))
}

fn why(word: &str) -> Option<Blocked> {
    match word {
        "empty" => Some(Blocked::Empty),
        "server" => Some(Blocked::Server),
        "clock" => Some(Blocked::Clock),
        "loss" => Some(Blocked::Loss),
        _ => None,
    }
}

fn granted(value: &Value, instance: &str) -> Option<Granted> {
    let id = value.get("id")?.as_str()?.strip_prefix(instance)?.strip_prefix(':')?;
    let (call, number) = id.split_once(':')?;
    let (number, unreserved) = number.strip_suffix('u').map_or((number, false), |one| (one, true));
    let (call, number) = (call.parse().ok()?, number.parse().ok()?);
    Some(Granted {
        ticket: whole(value.get("t")?)?,
        id: GrantId { call, number, unreserved },
        way: usize::try_from(whole(value.get("w")?)?).ok()?,
    })
}

fn meter_told(value: &Value) -> Option<MeterTold> {
    let count = |value: &Value| usize::try_from(whole(value)?.min(MOST_COUNTED)).ok();
    let others: Vec<usize> =
        list(value.get("waiting")?)?.iter().map(count).collect::<Option<_>>()?;
    let left = time(value.get("left")?)?.unwrap_or_default();
    Some(MeterTold {
        used: count(value.get("used")?)?,
        others: others.try_into().ok()?,
        pause: match value.get("pause")?.as_str()? {
            "open" => PauseTold::Open,
            "closed" => PauseTold::Closed(left),
            "probe" => PauseTold::Probe(left),
            _ => return None,
        },
        strict: time(value.get("strict")?)?.unwrap_or_default(),
    })
}

fn news_told(value: &Value) -> Option<(Generation, String)> {
    let pair = list(value)?;
    let [generation, text] = pair.as_slice() else { return None };
    Some((whole(generation)?, text.as_str()?.to_owned()))
}

fn stops(value: Option<&Value>) -> Vec<(Option<String>, Option<Duration>)> {
    let none = Map::new();
    let all = value.and_then(Value::as_object).unwrap_or(&none);
    let read = |(budget, left): (&String, &Value)| {
        let budget = (budget != "*").then(|| budget.clone());
        Some((budget, time(left)?))
    };
    all.iter().filter_map(read).collect()
}

fn seat(value: &Value) -> Option<Seat> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let ago = time(value.get("ago")?)?.unwrap_or_default();
    Some(Seat { id: text("i")?, info: text("info").unwrap_or_default(), ago })
}

/// Reads what the store tells by itself; `None` where it is not for us.
pub(super) fn push(text: &str) -> Option<Push> {
    let value: Value = serde_json::from_str(text).ok()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    match value.get("k")?.as_str()? {
        "look" => Some(Push::Look(text("at")?.parse().ok()?, time(value.get("in")?)??)),
        "news" => Some(Push::News {
            generation: whole(value.get("gen")?)?,
            text: text("text")?,
            from: text("from")?,
        }),
        "acked" => Some(Push::Acked(whole(value.get("gen")?)?)),
        "pause" => Some(Push::Pause {
            meters: list(value.get("m")?)?
                .iter()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect(),
            left: time(value.get("left")?)??,
            from: text("from")?,
        }),
        "stops" | "call" => Some(Push::Call),
        _ => None,
    }
}
