//! Revision 2026-07-28: each request says all about itself, part of it in fields for whoever stands
//! between, and the server holds the fields to the body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::session::{Event, Stream};
use super::tools::{self, Ends, ToolCall};
use super::{INVALID_PARAMS, INVALID_REQUEST, NO_METHOD, SSE, VERSION};
use crate::base::Body;
use crate::fake_omni::answer;
use crate::fake_omni::api::Call;

const REVISION: &str = "2026-07-28";
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const TOPIC: HeaderName = HeaderName::from_static("mcp-param-topic");

const MISMATCH: i32 = -32020;
const UNSUPPORTED: i32 = -32022;

/// Answers at `/mcp/https`.
pub(super) fn answer(call: &Call<'_>, method: &Method) -> Response<Body> {
    if method != Method::POST {
        return super::not_allowed("POST");
    }
    let message = call.document;
    let Some(method) = message["method"].as_str() else {
        let status = StatusCode::BAD_REQUEST;
        return super::refused(call, status, INVALID_REQUEST, "Invalid Request");
    };
    if message["id"].is_null() {
        return answer::empty(StatusCode::ACCEPTED);
    }
    if let Some(refusal) = refusal(call, method) {
        return refusal;
    }
    let mut result = match method {
        "server/discover" => json!({
            "supportedVersions": [REVISION], "capabilities": { "tools": {} },
        }),
        "tools/list" => tools::list(),
        "tools/call" => {
            return match ToolCall::read(&message["params"]) {
                Ok(tool) => run(call, &tool),
                Err(unknown) => {
                    let status = StatusCode::BAD_REQUEST;
                    super::refused(call, status, INVALID_PARAMS, &unknown.to_string())
                }
            };
        }
        _ => return super::refused(call, StatusCode::NOT_FOUND, NO_METHOD, "Method not found"),
    };
    result["resultType"] = "complete".into();
    result["ttlMs"] = 0.into();
    result["cacheScope"] = "private".into();
    answer::json(StatusCode::OK, &super::reply(call, result))
}

/// What is said to a request that does not say enough of itself, or not the same twice.
fn refusal(call: &Call<'_>, method: &str) -> Option<Response<Body>> {
    let refused =
        |code, message: &str| Some(super::refused(call, StatusCode::BAD_REQUEST, code, message));
    let params = &call.document["params"];
    let meta = &params["_meta"];
    if meta[META_VERSION].is_null() || meta[META_CAPABILITIES].is_null() {
        return refused(INVALID_PARAMS, "params._meta does not say enough");
    }
    let named = match method {
        "tools/call" => params["name"].as_str(),
        _ => None,
    };
    let topic = params["arguments"]["topic"].as_str();
    for (field, said) in [
        (VERSION, meta[META_VERSION].as_str()),
        (METHOD, Some(method)),
        (NAME, named),
        (TOPIC, topic),
    ] {
        let mut values = call.head.headers.get_all(&field).iter();
        let value = values.next().and_then(|value| value.to_str().ok()).map(plain);
        if values.next().is_some() || value.as_deref() != said {
            return refused(MISMATCH, &format!("{field} does not match the body"));
        }
    }
    let requested = meta[META_VERSION].as_str();
    (requested != Some(REVISION)).then(|| {
        let mut error = super::error(call, UNSUPPORTED, "Unsupported protocol version");
        error["error"]["data"] = json!({ "supported": [REVISION], "requested": requested });
        answer::json(StatusCode::BAD_REQUEST, &error)
    })
}

/// A field's value without the coding that other than ASCII comes in.
fn plain(value: &str) -> String {
    let coded = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    let decoded = coded.and_then(|coded| STANDARD.decode(coded).ok());
    decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| value.to_owned())
}

fn run(call: &Call<'_>, tool: &ToolCall) -> Response<Body> {
    let (start, pace) = (Instant::now(), call.omni.settings.pace);
    let mut messages = tool.messages(call);
    if let Some(last) = messages.last_mut() {
        last["result"]["resultType"] = "complete".into();
    }
    let event = |(number, message): (u32, Value)| Event {
        due: start + pace * number,
        acknowledged: 0,
        data: message.to_string(),
    };
    let events = (1..).zip(messages).map(event).collect();
    answer::streamed(StatusCode::OK, SSE, Stream::nameless(events).body(0, Ends::Whole))
}
