//! The tools, by their names at Omni; what they take is the fake's own.

use serde_json::{Value, json};

use crate::fake_omni::api::Call;

/// What a run says besides its result.
const STEPS: u32 = 2;
const MAX_STEPS: u32 = 1000;

/// A tool that there is not.
#[derive(Debug, thiserror::Error)]
#[error("Unknown tool: {0}")]
pub(super) struct Unknown(String);

/// How the stream of a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// With the result.
    Whole,
    /// After so many messages, in good order: the client is to ask for the rest.
    Closes(usize),
    /// In the middle of the message after so many.
    Breaks(usize),
}

/// What a client wants of a tool.
#[derive(Debug)]
pub(super) struct ToolCall {
    /// How often it says how far it is.
    steps: u32,
    /// Whether each step waits until the client has reported the one before.
    pub(super) acknowledged: bool,
    /// How the first answer ends.
    pub(super) ends: Ends,
    topic: Option<String>,
    /// The token that the client wants progress reported with.
    token: Value,
}

const TOOLS: [&str; 3] = ["pickModel", "pickTopic", "getData"];

/// All tools, as `tools/list` shows them.
pub(super) fn list() -> Value {
    let number = |says: &str| json!({ "type": "integer", "description": says });
    let schema = json!({
        "type": "object",
        "properties": {
            "steps": number("how often the run says how far it is"),
            "closeAfter": number("after how many messages the answer ends and waits to be resumed"),
            "breakAfter": number("after how many messages the connection breaks"),
            "acknowledged": {
                "type": "boolean",
                "description": "each step waits until the client has reported the one before",
            },
            "topic": { "type": "string", "x-mcp-header": "Topic" },
        },
    });
    let tool = |name| {
        let says = format!("What `{name}` would do at Omni, without Omni.");
        json!({ "name": name, "description": says, "inputSchema": schema })
    };
    json!({ "tools": TOOLS.map(tool) })
}

impl ToolCall {
    /// Reads `params`; where no tool is named, it is `getData`.
    pub(super) fn read(params: &Value) -> Result<Self, Unknown> {
        let name = params["name"].as_str().unwrap_or("getData");
        if !TOOLS.contains(&name) {
            return Err(Unknown(name.to_owned()));
        }
        let arguments = &params["arguments"];
        let number =
            |name: &str| arguments[name].as_u64().and_then(|number| u32::try_from(number).ok());
        let ends = match (number("closeAfter"), number("breakAfter")) {
            (Some(messages), _) => Ends::Closes(messages as usize),
            (None, Some(messages)) => Ends::Breaks(messages as usize),
            (None, None) => Ends::Whole,
        };
        Ok(Self {
            steps: number("steps").unwrap_or(STEPS).min(MAX_STEPS),
            acknowledged: arguments["acknowledged"] == true,
            ends,
            topic: arguments["topic"].as_str().map(str::to_owned),
            token: params["_meta"]["progressToken"].clone(),
        })
    }

    /// What it says as it works, and the result: progress where the client gave a token for it, and
    /// words for its log elsewhere.
    pub(super) fn messages(&self, call: &Call<'_>) -> Vec<Value> {
        let step = |done: u32| match self.token.is_null() {
            false => json!({
                "jsonrpc": "2.0", "method": "notifications/progress",
                "params": { "progressToken": self.token, "progress": done, "total": self.steps },
            }),
            true => json!({
                "jsonrpc": "2.0", "method": "notifications/message",
                "params": { "level": "info", "data": format!("step {done} of {}", self.steps) },
            }),
        };
        (1..=self.steps).map(step).chain([super::reply(call, self.result(call))]).collect()
    }

    fn result(&self, call: &Call<'_>) -> Value {
        let mut found = call.signed(&json!({ "rows": [[42]], "topic": self.topic }));
        let user = call.head.headers.get("x-mcp-user-id").and_then(|user| user.to_str().ok());
        if let Some(user) = user {
            found["actingFor"] = user.into();
        }
        json!({ "content": [{ "type": "text", "text": found.to_string() }], "isError": false })
    }
}
