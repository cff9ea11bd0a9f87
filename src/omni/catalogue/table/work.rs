//! What is run: queries, jobs, deliveries, uploads, MCP.

use crate::omni::catalogue::Collection::{Conversations, Models, Schedules, Uploads};
use crate::omni::catalogue::Endpoint;
use crate::omni::catalogue::Paging::{Cursor, Whole};
use crate::omni::catalogue::endpoint::{ask, delete, get, post, put};

pub(super) static ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/jobs/{jobId}/status").polled(),
    ask("/api/v1/query/run").streaming().for_others().names_user(),
    get("/api/v1/query/wait").streaming(),
    get("/api/v1/schedules").lists(Schedules, Cursor).up_to(100),
    post("/api/v1/schedules").for_others().stale(&[Schedules]),
    get("/api/v1/schedules/{scheduleId}").of(Schedules).for_others(),
    put("/api/v1/schedules/{scheduleId}").stale(&[Schedules]),
    delete("/api/v1/schedules/{scheduleId}").stale(&[Schedules]),
    get("/api/v1/schedules/{scheduleId}/recipients").lists(Schedules, Whole),
    put("/api/v1/schedules/{scheduleId}/add-recipients").stale(&[Schedules]),
    put("/api/v1/schedules/{scheduleId}/remove-recipients").stale(&[Schedules]),
    put("/api/v1/schedules/{scheduleId}/pause").stale(&[Schedules]),
    put("/api/v1/schedules/{scheduleId}/resume").stale(&[Schedules]),
    post("/api/v1/schedules/{scheduleId}/trigger").stale(&[Schedules]),
    put("/api/v1/schedules/{scheduleId}/transfer-ownership").names_user().stale(&[Schedules]),
    get("/api/v1/uploads").lists(Uploads, Cursor).up_to(100),
    post("/api/v1/uploads").stale(&[Uploads, Models]),
    delete("/api/v1/uploads/{uploadId}").stale(&[Uploads, Models]),
    get("/openapi.json"),
    post("/mcp/https").streaming().stale(&[Conversations]),
    get("/mcp/https").streaming(),
    delete("/mcp/https").streaming().stale(&[]),
];
