//! The MCP endpoint: JSON-RPC over streamable HTTP.
//!
//! By the letter of its revisions 2025-03-26, 2025-06-18 and 2025-11-25, which begin with
//! `initialize`, or of 2026-07-28, which does not; [`Mcp`] says which, and whether there are sessions.

mod session;
mod stateless;
mod tools;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::Call;
use super::settings::Mcp;
use super::{answer, bodies, hold};
use crate::base::Body;

pub(super) use session::Sessions;
use session::{Event, Stream};
use tools::ToolCall;

const SSE: HeaderValue = HeaderValue::from_static("text/event-stream");
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// The revisions with a handshake, oldest first.
const VERSIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

/// How often a stream without news shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
const STILL_HERE: &[u8] = b": still here\n\n";

const INVALID_REQUEST: i32 = -32600;
const NO_METHOD: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
/// What servers use where the specification names no code.
const BAD_REQUEST: i32 = -32000;
const NO_SESSION: i32 = -32001;

/// Answers at `/mcp/https`.
pub(super) fn answer(call: &Call<'_>, method: &Method) -> Response<Body> {
    let mcp = call.omni.settings.mcp;
    if mcp == Mcp::Stateless {
        return stateless::answer(call, method);
    }
    if field(call, &VERSION).is_some_and(|version| !VERSIONS.contains(&version)) {
        let message = format!("Unsupported protocol version (supported: {})", VERSIONS.join(", "));
        return refused(call, StatusCode::BAD_REQUEST, BAD_REQUEST, &message);
    }
    match *method {
        Method::POST => post(call),
        Method::GET | Method::DELETE if mcp == Mcp::NoSessions => not_allowed("POST"),
        Method::GET => listen(call),
        Method::DELETE => end(call),
        _ => not_allowed("POST, GET, DELETE"),
    }
}

/// Why a call is not served in the session that it names, or fails to name.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Stray {
    #[error("Bad Request: Mcp-Session-Id header is required")]
    Nameless,
    #[error("Session not found")]
    Unknown,
}

impl Stray {
    fn answer(self, call: &Call<'_>) -> Response<Body> {
        let (status, code) = match self {
            Self::Nameless => (StatusCode::BAD_REQUEST, BAD_REQUEST),
            Self::Unknown => (StatusCode::NOT_FOUND, NO_SESSION),
        };
        refused(call, status, code, &self.to_string())
    }
}

/// The id of the caller's session, where there is one.
fn session<'a>(call: &'a Call<'_>) -> Result<Option<&'a str>, Stray> {
    let named = field(call, &SESSION);
    match (call.omni.settings.mcp, named) {
        (Mcp::NoSessions | Mcp::Stateless, _) | (Mcp::Sessions, None) => Ok(None),
        (Mcp::SessionsRequired, None) => Err(Stray::Nameless),
        (Mcp::Sessions | Mcp::SessionsRequired, Some(id)) => {
            let known = hold(&call.omni.sessions).find(id, call.key.owner()).is_some();
            if known { Ok(named) } else { Err(Stray::Unknown) }
        }
    }
}

fn post(call: &Call<'_>) -> Response<Body> {
    let message = call.document;
    let id = &message["id"];
    let method = message["method"].as_str();
    // What a client answers to a request of ours has no method.
    let is_answer = message.get("result").or(message.get("error")).is_some() && !id.is_null();
    if method.is_none() && !is_answer {
        return refused(call, StatusCode::BAD_REQUEST, INVALID_REQUEST, "Invalid Request");
    }
    if method == Some("initialize") {
        return initialize(call);
    }
    let session = match session(call) {
        Ok(session) => session,
        Err(stray) => return stray.answer(call),
    };
    let Some(method) = method.filter(|_| !id.is_null()) else {
        if method == Some("notifications/progress")
            && let Some(session) = session
            && let Some(open) = hold(&call.omni.sessions).find(session, call.key.owner())
        {
            open.acknowledge();
        }
        return answer::empty(StatusCode::ACCEPTED);
    };
    match method {
        "ping" | "logging/setLevel" => at_once(call, &reply(call, json!({}))),
        "tools/list" => at_once(call, &reply(call, tools::list())),
        "tools/call" => match ToolCall::read(&message["params"]) {
            Ok(tool) => run(call, session, &tool),
            Err(unknown) => at_once(call, &error(call, INVALID_PARAMS, &unknown.to_string())),
        },
        _ => at_once(call, &error(call, NO_METHOD, "Method not found")),
    }
}

fn initialize(call: &Call<'_>) -> Response<Body> {
    let offered = call.document["params"]["protocolVersion"].as_str();
    let ours = VERSIONS.into_iter().find(|version| Some(*version) == offered);
    let version = ours.unwrap_or(VERSIONS[VERSIONS.len() - 1]);
    let greeting = json!({
        "protocolVersion": version, "capabilities": { "logging": {}, "tools": {} },
        "serverInfo": { "name": "fake-omni", "version": "1" },
    });
    let mut answer = at_once(call, &reply(call, greeting));
    match call.omni.settings.mcp {
        Mcp::Sessions | Mcp::SessionsRequired => {
            let id = hold(&call.omni.sessions).open(call.key.owner(), version);
            answer.headers_mut().extend(HeaderValue::try_from(id).ok().map(|id| (SESSION, id)));
        }
        Mcp::NoSessions | Mcp::Stateless => {}
    }
    answer
}

/// Streams what a tool says as it works, and in the end its result.
fn run(call: &Call<'_>, session: Option<&str>, tool: &ToolCall) -> Response<Body> {
    let messages = tool.messages(call);
    if !wants_events(call) {
        let last = messages.into_iter().last().unwrap_or_default();
        return answer::json(StatusCode::OK, &last);
    }
    let (start, pace) = (Instant::now(), call.omni.settings.pace);
    let event = |(number, message): (u32, Value)| Event {
        due: start + pace * number,
        acknowledged: if tool.acknowledged { number as usize } else { 0 },
        data: message.to_string(),
    };
    let events = (0..).zip(messages).map(event).collect();
    let mut sessions = hold(&call.omni.sessions);
    let open = session.and_then(|session| sessions.find(session, call.key.owner()));
    let stream = match open {
        Some(session) => session.add(events, false),
        None => Stream::nameless(events),
    };
    answer::streamed(StatusCode::OK, SSE, stream.body(0, tool.ends))
}

/// The stream of a session on which the server speaks first, or one that goes on where it broke off.
fn listen(call: &Call<'_>) -> Response<Body> {
    let session = match session(call) {
        Ok(session) => session,
        Err(stray) => return stray.answer(call),
    };
    let mut sessions = hold(&call.omni.sessions);
    let open = session.and_then(|session| sessions.find(session, call.key.owner()));
    let Some(open) = open else {
        return answer::streamed(StatusCode::OK, SSE, bodies::heartbeat(STILL_HERE, HEARTBEAT));
    };
    if let Some(last) = field(call, &LAST_EVENT) {
        let Some((stream, next)) = open.after(last) else {
            return refused(call, StatusCode::BAD_REQUEST, BAD_REQUEST, "Invalid event ID");
        };
        return answer::streamed(StatusCode::OK, SSE, stream.body(next, tools::Ends::Whole));
    }
    let (now, pace) = (Instant::now(), call.omni.settings.pace);
    let words = json!({
        "jsonrpc": "2.0", "method": "notifications/message",
        "params": { "level": "info", "logger": "fake-omni", "data": "the stream is open" },
    });
    let ping = json!({ "jsonrpc": "2.0", "id": "are-you-there", "method": "ping" });
    let event = |(number, message): (u32, Value)| Event {
        due: now + pace * number,
        acknowledged: 0,
        data: message.to_string(),
    };
    let events = (1..).zip([words, ping]).map(event).collect();
    let stream = open.add(events, true);
    answer::streamed(StatusCode::OK, SSE, stream.body(0, tools::Ends::Whole))
}

fn end(call: &Call<'_>) -> Response<Body> {
    match session(call) {
        Ok(session) => {
            let mut sessions = hold(&call.omni.sessions);
            session.into_iter().for_each(|id| sessions.close(id));
            answer::empty(StatusCode::NO_CONTENT)
        }
        Err(stray) => stray.answer(call),
    }
}

fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut answer = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn field<'a>(call: &'a Call<'_>, name: &HeaderName) -> Option<&'a str> {
    call.head.headers.get(name)?.to_str().ok()
}

fn reply(call: &Call<'_>, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": call.document["id"], "result": result })
}

fn error(call: &Call<'_>, code: i32, message: &str) -> Value {
    let error = json!({ "code": code, "message": message });
    json!({ "jsonrpc": "2.0", "id": call.document["id"], "error": error })
}

/// An error of JSON-RPC under a status of its own.
fn refused(call: &Call<'_>, status: StatusCode, code: i32, message: &str) -> Response<Body> {
    answer::json(status, &error(call, code, message))
}

fn wants_events(call: &Call<'_>) -> bool {
    field(call, &ACCEPT).is_some_and(|accept| accept.contains("text/event-stream"))
}

/// Sends a message as an event where the client reads them, else as JSON.
fn at_once(call: &Call<'_>, message: &Value) -> Response<Body> {
    if !wants_events(call) {
        return answer::json(StatusCode::OK, message);
    }
    let event = Bytes::from(format!("data: {message}\n\n"));
    answer::streamed(StatusCode::OK, SSE, bodies::paced([(call.omni.settings.pace, event)]))
}
