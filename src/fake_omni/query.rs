//! Queries: NDJSON as the jobs end, and the long poll for those that take longer.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::api::Call;
use super::holdings::Kind;
use super::{answer, bodies};
use crate::base::Body;

/// Three rows of a status, a count and a total: an Arrow IPC stream, made once by pyarrow.
///
/// `tests/clients/arrow.py` makes it anew, and `tests/clients/sdk.py` reads it.
const TABLE: &[u8] = include_bytes!("orders.arrow");

const NDJSON: HeaderValue = HeaderValue::from_static("text/ndjson; charset=utf-8");

/// Submits a job and streams what comes of it.
pub(super) async fn run(call: &Call<'_>) -> Response<Body> {
    if !call.document.is_object() {
        return answer::detail(StatusCode::BAD_REQUEST, "query: Required");
    }
    let settings = &call.omni.settings;
    let job = call.holdings().fresh(Kind::Job);
    let in_time = settings.query_time <= settings.query_patience;
    if let Some(kind) = call.document["resultType"].as_str() {
        sleep(settings.query_time.min(settings.query_patience)).await;
        return if in_time { document(kind) } else { timed_out(&job) };
    }
    let header = line(&json!({ "jobs_submitted": { job.as_str(): "result-1" } }));
    let start = (Duration::ZERO, header);
    let chunks = if in_time {
        // A line need not arrive in one piece.
        let mut first = line(&finished(call, &job));
        let second = first.split_off(first.len() / 2);
        vec![
            start,
            (settings.query_time, first),
            (settings.pace, second),
            (settings.pace, footer(&[])),
        ]
    } else {
        call.holdings().jobs.insert(job.clone(), Instant::now() + settings.query_time);
        vec![start, (settings.query_patience, footer(&[&job]))]
    };
    answer::streamed(StatusCode::OK, NDJSON, bodies::paced(chunks))
}

/// Holds the call until one of its jobs is done, or for the length of a poll.
///
/// Each job is handed out once. Cancel-safe: a caller who leaves while it waits takes none.
pub(super) async fn wait(call: &Call<'_>) -> Response<Body> {
    let asked = asked_jobs(call);
    let end = Instant::now() + call.omni.settings.long_poll;
    let ready = {
        let holdings = call.holdings();
        asked.iter().filter_map(|job| holdings.jobs.get(job).copied()).min()
    };
    sleep_until(ready.map_or(end, |ready| ready.min(end))).await;
    let now = Instant::now();
    let mut holdings = call.holdings();
    let (done, open): (Vec<&String>, Vec<&String>) =
        asked.iter().partition(|job| holdings.jobs.get(*job).is_some_and(|&ready| ready <= now));
    let pace = call.omni.settings.pace;
    let mut chunks: Vec<_> = done.iter().map(|job| (pace, line(&finished(call, job)))).collect();
    chunks.push((pace, footer(&open)));
    for job in done {
        holdings.jobs.remove(job);
    }
    answer::streamed(StatusCode::OK, NDJSON, bodies::paced(chunks))
}

/// The jobs in any of the spellings in use: `jobIds=a,b`, `job_ids=a,b`, `job_ids=["a","b"]`.
fn asked_jobs(call: &Call<'_>) -> Vec<String> {
    let text = call.query.get("jobIds").or_else(|| call.query.get("job_ids")).unwrap_or_default();
    let listed: Option<Vec<Value>> = serde_json::from_str(text).ok();
    match listed {
        Some(jobs) => jobs.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        None => text.split(',').filter(|job| !job.is_empty()).map(str::to_owned).collect(),
    }
}

fn finished(call: &Call<'_>, job: &str) -> Value {
    call.signed(&json!({
        "job_id": job, "client_result_id": "result-1", "status": "COMPLETE",
        "result": STANDARD.encode(TABLE), "summary": { "row_count": 3, "fields": fields() },
    }))
}

/// The table's columns as Omni describes them.
fn fields() -> Value {
    let field = |name: &str, data_type: &str| {
        json!({
            "view_name": "orders", "field_name": name, "fully_qualified_name": format!("orders.{name}"),
            "data_type": data_type, "is_dimension": data_type == "STRING",
        })
    };
    json!({
        "orders.status": field("status", "STRING"), "orders.count": field("count", "NUMBER"),
        "orders.total": field("total", "NUMBER"),
    })
}

fn footer(open: &[&String]) -> Bytes {
    let timed_out = if open.is_empty() { "false" } else { "true" };
    line(&json!({ "remaining_job_ids": open, "timed_out": timed_out }))
}

fn line(document: &Value) -> Bytes {
    Bytes::from(format!("{document}\n"))
}

fn document(kind: &str) -> Response<Body> {
    match kind {
        "json" => answer::json(StatusCode::OK, &json!([{ "orders.count": 42 }])),
        "csv" => answer::typed(
            StatusCode::OK,
            HeaderValue::from_static("text/csv; charset=utf-8"),
            "orders.count\n42\n",
        ),
        _ => answer::detail(StatusCode::BAD_REQUEST, "resultType: Invalid value"),
    }
}

fn timed_out(job: &str) -> Response<Body> {
    let document = json!({
        "detail": "Query timed out", "remaining_job_ids": [job], "timed_out": true,
    });
    answer::json(StatusCode::REQUEST_TIMEOUT, &document)
}
