//! Models, and what is suggested for them.

use super::DOCUMENT;
use crate::omni::catalogue::Collection::{Models, Suggestions};
use crate::omni::catalogue::Endpoint;
use crate::omni::catalogue::Paging::{Cursor, Whole};
use crate::omni::catalogue::endpoint::{delete, get, patch, post, put};

pub(super) static ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/models").lists(Models, Cursor).up_to(100),
    post("/api/v1/models").stale(&[Models]),
    patch("/api/v1/models/{modelId}").stale(&[Models]),
    get("/api/v1/models/{modelId}/schemas").lists(Models, Whole),
    get("/api/v1/models/{modelId}/view").lists(Models, Whole),
    patch("/api/v1/models/{modelId}/view/{viewName}").free(&["viewName"]).stale(&[Models]),
    delete("/api/v1/models/{modelId}/view/{viewName}").free(&["viewName"]).stale(&[Models]),
    patch("/api/v1/models/{modelId}/view/{viewName}/field/{fieldName}")
        .free(&["viewName", "fieldName"])
        .stale(&[Models]),
    delete("/api/v1/models/{modelId}/view/{viewName}/field/{fieldName}")
        .free(&["viewName", "fieldName"])
        .stale(&[Models]),
    get("/api/v1/models/{modelId}/topic").lists(Models, Whole),
    get("/api/v1/models/{modelId}/topic/{topicName}").of(Models).free(&["topicName"]),
    patch("/api/v1/models/{modelId}/topic/{topicName}").free(&["topicName"]).stale(&[Models]),
    delete("/api/v1/models/{modelId}/topic/{topicName}").free(&["topicName"]).stale(&[Models]),
    post("/api/v1/models/{modelId}/field").stale(&[Models]),
    post("/api/v1/models/{modelId}/refresh").admin().stale(&[Models]),
    get("/api/v1/models/{modelId}/validate").of(Models),
    post("/api/v1/models/{modelId}/migrate").stale(&[Models]),
    delete("/api/v1/models/{modelId}/branch/{branchName}").free(&["branchName"]).stale(&[Models]),
    get("/api/v1/models/{modelId}/dbt-exposures").lists(Models, Cursor).up_to(100),
    post("/api/v1/models/{modelId}/branch/{branchName}/dbt").free(&["branchName"]).stale(&[Models]),
    post("/api/v1/models/{modelId}/branch/{branchName}/merge")
        .free(&["branchName"])
        .stale(DOCUMENT),
    post("/api/v1/models/{modelId}/git/commit").stale(&[Models]),
    post("/api/v1/models/{modelId}/cache_reset/{policyName}").stale(&[Models]),
    get("/api/v1/models/{modelId}/git").of(Models),
    post("/api/v1/models/{modelId}/git").stale(&[Models]),
    patch("/api/v1/models/{modelId}/git").stale(&[Models]),
    delete("/api/v1/models/{modelId}/git").stale(&[Models]),
    post("/api/v1/models/{modelId}/git/sync").stale(&[Models]),
    get("/api/v1/models/{modelId}/content-validator").of(Models).for_others(),
    post("/api/v1/models/{modelId}/content-validator").for_others().stale(DOCUMENT),
    get("/api/v1/models/{modelId}/yaml").of(Models),
    post("/api/v1/models/{modelId}/yaml").stale(&[Models]),
    delete("/api/v1/models/{modelId}/yaml").stale(&[Models]),
    get("/api/v1/models/{modelId}/suggestions").lists(Suggestions, Cursor).admin(),
    delete("/api/v1/models/{modelId}/suggestions/{suggestionId}").admin().stale(&[Suggestions]),
    get("/api/v1/models/{modelId}/suggestions/runs/latest").of(Suggestions).admin(),
    get("/api/v1/models/{modelId}/suggestions/runs/{runId}").of(Suggestions).admin(),
    post("/api/v1/models/{modelId}/suggestions/generate").admin().stale(&[Suggestions]),
    put("/api/v1/models/{modelId}/suggestions/schedule").admin().stale(&[Suggestions]),
    delete("/api/v1/models/{modelId}/suggestions/schedule").admin().stale(&[Suggestions]),
    post("/api/v1/models/{modelId}/suggestions/{suggestionId}/ignore")
        .admin()
        .stale(&[Suggestions]),
    post("/api/v1/models/{modelId}/suggestions/{suggestionId}/restore")
        .admin()
        .stale(&[Suggestions]),
    get("/api/v1/models/{modelId}/ai-agent-actions").lists(Models, Whole),
];
