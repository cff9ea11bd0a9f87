//! The AI: questions, jobs, conversations, evaluations, routines and what they may cost.

use crate::omni::catalogue::Collection::{Conversations, CreditControls, Evals, Routines};
use crate::omni::catalogue::Endpoint;
use crate::omni::catalogue::Paging::{Cursor, Whole};
use crate::omni::catalogue::endpoint::{ask, delete, get, patch, post, put};

pub(super) static ENDPOINTS: &[Endpoint] = &[
    ask("/api/v1/ai/generate-query").names_user(),
    ask("/api/v1/ai/pick-topic").names_user(),
    ask("/api/v1/ai/search-omni-docs"),
    post("/api/v1/ai/jobs").for_others().stale(&[Conversations]),
    get("/api/v1/ai/jobs/{jobId}").polled(),
    post("/api/v1/ai/jobs/{jobId}/cancel").stale(&[Conversations]),
    get("/api/v1/ai/jobs/{jobId}/result").streaming(),
    get("/api/v1/ai/jobs/{jobId}/vis"),
    get("/api/v1/ai/branding"),
    get("/api/v1/ai/conversations").lists(Conversations, Cursor).for_others(),
    get("/api/v1/ai/conversations/{conversationId}").of(Conversations),
    get("/api/v1/ai/credit-controls").of(CreditControls).admin(),
    patch("/api/v1/ai/credit-controls").admin().stale(&[CreditControls]),
    get("/api/v1/ai/credit-controls/users").lists(CreditControls, Cursor).admin(),
    patch("/api/v1/ai/credit-controls/users").admin().stale(&[CreditControls]),
    get("/api/v1/ai/eval/prompt-sets").lists(Evals, Whole),
    post("/api/v1/ai/eval/prompt-sets").stale(&[Evals]),
    get("/api/v1/ai/eval/prompt-sets/{promptSetId}").of(Evals),
    patch("/api/v1/ai/eval/prompt-sets/{promptSetId}").stale(&[Evals]),
    delete("/api/v1/ai/eval/prompt-sets/{promptSetId}").stale(&[Evals]),
    post("/api/v1/ai/eval/prompt-sets/{promptSetId}/unarchive").stale(&[Evals]),
    get("/api/v1/ai/eval/runs").lists(Evals, Whole),
    post("/api/v1/ai/eval/runs").stale(&[Evals]),
    get("/api/v1/ai/eval/runs/{runId}").of(Evals),
    delete("/api/v1/ai/eval/runs/{runId}").stale(&[Evals]),
    post("/api/v1/ai/eval/runs/{runId}/cancel").stale(&[Evals]),
    post("/api/v1/ai/eval/runs/{runId}/unarchive").stale(&[Evals]),
    get("/api/v1/ai/routines").lists(Routines, Cursor).for_others(),
    post("/api/v1/ai/routines").for_others().stale(&[Routines]),
    get("/api/v1/ai/routines/{routineId}").of(Routines).for_others(),
    put("/api/v1/ai/routines/{routineId}").for_others().stale(&[Routines]),
    delete("/api/v1/ai/routines/{routineId}").for_others().stale(&[Routines]),
    post("/api/v1/ai/routines/{routineId}/trigger").for_others().stale(&[Routines]),
];
