//! What operators ask the process.

use rustix::process::Signal;

use crate::harness::{Plan, until};

#[tokio::test]
async fn operators_see_whether_it_lives_whether_it_is_ready_and_what_it_counts() {
    // One call a minute: the second one waits as long as the test likes, drain or no drain.
    let budget = "limit = 1\nwindow = \"60s\"\nprofile = \"burst\"".to_owned();
    let server = "drain_timeout = \"120s\"".to_owned();
    let house = Plan { budget, server, ..Plan::default() }.build().await;
    let gateway = house.start().await;
    assert_eq!(gateway.get("/api/v1/labels").await.status, 200);
    let mut waiting = gateway.caller().await;
    let waiting = tokio::spawn(async move { waiting.get("/api/v1/labels").await });
    gateway.queued(1).await;

    assert_eq!(gateway.admin("/livez").await.status, 200);
    let ready = gateway.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["ready"], true);
    for (series, figure) in [
        ("omnigate_budget_limit{budget=\"omni\"}", 1.0),
        ("omnigate_budget_used{budget=\"omni\"}", 1.0),
        ("omnigate_queue_depth{budget=\"omni\"}", 1.0),
        ("omnigate_credential_state{credential=\"org\",state=\"ready\"}", 1.0),
    ] {
        assert_eq!(gateway.figure(series).await, figure, "{series}");
    }
    let page = gateway.admin("/metrics").await;
    assert!(page.header("content-type").starts_with("application/openmetrics-text"));
    assert!(page.text().ends_with("# EOF\n"));
    assert_eq!(gateway.admin("/").await.status, 404);
    // The callers' port shows none of it: these are paths like any other.
    assert_eq!(house.omni.arrived(), 1);

    gateway.signal(Signal::TERM);
    let draining = until(async || {
        let ready = gateway.admin("/readyz").await;
        (ready.status == 503).then_some(ready)
    })
    .await;
    assert_eq!(draining.json()["reasons"][0]["reason"], "draining");
    assert_eq!(gateway.admin("/livez").await.status, 200);
    drop(waiting);
}
