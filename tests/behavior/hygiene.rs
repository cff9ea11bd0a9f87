//! What upstream sees of a caller, and what a caller sees of upstream.

use crate::harness::{Plan, get};
use http_body_util::Full;

#[tokio::test(start_paused = true)]
async fn upstream_sees_our_bearer_and_nothing_of_the_callers_own() {
    let house = Plan::default().build().await;
    let mut caller = house.caller().await;
    for connection in ["authorization", "close, Authorization", "keep-alive", "x-request-id"] {
        let request = get("/api/v1/labels")
            .header("authorization", "Bearer dummy")
            .header("connection", connection)
            .header("cookie", "session=1")
            .header("x-forwarded-for", "10.1.2.3")
            .header("forwarded", "for=10.1.2.3")
            .header("x-omnigate-caller", "somebody")
            .header("proxy-authorization", "Basic AAAA");
        let mut once = house.caller().await;
        let answer = once.call(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(caller.get("/api/v1/whoami").await.status, 200);
    for arrival in house.omni.arrivals() {
        assert_eq!(arrival.headers.get_all("authorization").iter().count(), 1);
        for gone in [
            "cookie",
            "x-forwarded-for",
            "forwarded",
            "x-omnigate-caller",
            "connection",
            "proxy-authorization",
        ] {
            assert!(!arrival.headers.contains_key(gone), "{gone} reached upstream");
        }
    }
    assert_eq!(house.omni.arrived(), 5);
    assert_eq!(house.omni.distinct_authorizations("org"), 1);
}
