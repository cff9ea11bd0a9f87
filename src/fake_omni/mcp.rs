//! The MCP endpoint: JSON-RPC over streamable HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::api::Call;
use super::{answer, bodies};
use crate::base::Body;

const SSE: HeaderValue = HeaderValue::from_static("text/event-stream");
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// How often a stream without news shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Answers at `/mcp/https`.
pub(super) fn answer(call: &Call<'_>, method: &Method) -> Response<Body> {
    match *method {
        Method::POST => post(call),
        Method::GET => {
            let body = bodies::heartbeat(b": still here\n\n", HEARTBEAT);
            answer::streamed(StatusCode::OK, SSE, body)
        }
        Method::DELETE => answer::empty(StatusCode::NO_CONTENT),
        _ => answer::empty(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn post(call: &Call<'_>) -> Response<Body> {
    let request = &call.document;
    let Some(method) = request["method"].as_str() else {
        let error = json!({ "code": -32600, "message": "Invalid Request" });
        let document = json!({ "jsonrpc": "2.0", "id": null, "error": error });
        return answer::json(StatusCode::BAD_REQUEST, &document);
    };
    let id = &request["id"];
    if id.is_null() {
        return answer::empty(StatusCode::ACCEPTED);
    }
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
    match method {
        "initialize" => {
            let greeting = result(json!({
                "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
                "serverInfo": { "name": "fake-omni", "version": "1" },
            }));
            let mut answer = messages(call, vec![greeting]);
            let session = format!("session-{:08x}", crc32fast::hash(call.key.owner().as_bytes()));
            let session = HeaderValue::try_from(session);
            answer.headers_mut().extend(session.ok().map(|value| (SESSION, value)));
            answer
        }
        "tools/list" => {
            let tool = |name| json!({ "name": name, "inputSchema": { "type": "object" } });
            let tools = ["pickModel", "pickTopic", "getData"].map(tool);
            messages(call, vec![result(json!({ "tools": tools }))])
        }
        "tools/call" => {
            let progress = |done: u8| {
                json!({
                    "jsonrpc": "2.0", "method": "notifications/progress",
                    "params": { "progressToken": id, "progress": done, "total": 3 },
                })
            };
            let text = call.signed(&json!({ "rows": [[42]] })).to_string();
            let done = result(json!({ "content": [{ "type": "text", "text": text }] }));
            messages(call, vec![progress(1), progress(2), done])
        }
        _ => {
            let error = json!({ "code": -32601, "message": "Method not found" });
            messages(call, vec![json!({ "jsonrpc": "2.0", "id": id, "error": error })])
        }
    }
}

/// Sends messages as events where the client reads them, else the last one as JSON.
fn messages(call: &Call<'_>, messages: Vec<Value>) -> Response<Body> {
    let accept = call.head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    if !accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        let last = messages.into_iter().last().unwrap_or_default();
        return answer::json(StatusCode::OK, &last);
    }
    let pace = call.omni.settings.pace;
    let event = |message: Value| (pace, Bytes::from(format!("data: {message}\n\n")));
    let body = bodies::paced(messages.into_iter().map(event));
    answer::streamed(StatusCode::OK, SSE, body)
}
