//! Connections to warehouses, with their environments, dbt settings and schedules.

use super::CONNECTION;
use crate::omni::catalogue::Collection::Connections;
use crate::omni::catalogue::Endpoint;
use crate::omni::catalogue::Paging::{Cursor, Whole};
use crate::omni::catalogue::endpoint::{delete, get, patch, post, put};

pub(super) static ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/connections").lists(Connections, Whole).admin(),
    post("/api/v1/connections").admin().stale(CONNECTION),
    patch("/api/v1/connections/{id}").admin().stale(CONNECTION),
    get("/api/v1/connections/{connectionId}/dbt").of(Connections).admin(),
    put("/api/v1/connections/{connectionId}/dbt").admin().stale(CONNECTION),
    delete("/api/v1/connections/{connectionId}/dbt").admin().stale(CONNECTION),
    get("/api/v1/connections/{connectionId}/dbt/environments")
        .lists(Connections, Cursor)
        .up_to(100),
    post("/api/v1/connections/{connectionId}/dbt/environments").stale(CONNECTION),
    put("/api/v1/connections/{connectionId}/dbt/environments/{environmentId}").stale(CONNECTION),
    delete("/api/v1/connections/{connectionId}/dbt/environments/{environmentId}").stale(CONNECTION),
    get("/api/v1/connections/{connectionId}/schedules").lists(Connections, Whole).admin(),
    post("/api/v1/connections/{connectionId}/schedules").admin().stale(CONNECTION),
    get("/api/v1/connections/{connectionId}/schedules/{scheduleId}").of(Connections).admin(),
    put("/api/v1/connections/{connectionId}/schedules/{scheduleId}").admin().stale(CONNECTION),
    delete("/api/v1/connections/{connectionId}/schedules/{scheduleId}").admin().stale(CONNECTION),
    get("/api/v1/connection-environments").lists(Connections, Whole).admin(),
    post("/api/v1/connection-environments").admin().stale(CONNECTION),
    put("/api/v1/connection-environments/{id}").admin().stale(CONNECTION),
    delete("/api/v1/connection-environments/{id}").admin().stale(CONNECTION),
    get("/api/v1/connections/{connectionId}").of(Connections),
    delete("/api/v1/connections/{connectionId}").admin(),
];
