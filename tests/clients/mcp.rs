//! MCP clients: the official SDKs in Python and for Node, and the bridge for agents that start programs.

use std::path::Path;

use http::Method;
use omnigate::fake_omni::{Arrival, Mcp, Settings};
use tokio::process::Command;

use crate::stage::{Plan, Stage, beside, install};

/// Nobody whom the fake knows.
const MEMBER: &str = "9f1c2d3e-0a1b-4c5d-8e9f-001122334455";

async fn stage(mcp: Mcp, route: &str) -> Stage {
    let fake = Settings { mcp, ..Settings::default() };
    Plan { fake, route: route.to_owned() }.start().await
}

async fn python(stage: &Stage, scene: &str) -> Vec<Arrival> {
    let mut client = Command::new(install("mcp").await.join("bin/python"));
    client.arg(beside("mcp_client.py")).args([&stage.url(), scene, MEMBER]);
    let said = stage.play(client).await;
    assert!(said.contains("all of it holds"), "{said}");
    stage.judge(&format!("mcp in Python, {scene}"))
}

async fn node(stage: &Stage, scene: &str) -> Vec<Arrival> {
    let folder = install("node").await;
    let mut client = Command::new("node");
    client.arg(beside("mcp.mjs")).args([&folder, Path::new(&stage.url()), Path::new(scene)]);
    let said = stage.play(client).await;
    assert!(said.contains("all of it holds"), "{said}");
    stage.judge(&format!("mcp for Node, {scene}"))
}

fn count(arrivals: &[Arrival], method: Method, field: &str) -> usize {
    let bears = |one: &&Arrival| one.method == method && one.headers.contains_key(field);
    arrivals.iter().filter(bears).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs a client; tests/run --all"]
async fn an_agent_in_python_works_in_a_session() {
    let stage = stage(Mcp::SessionsRequired, "").await;
    let arrivals = python(&stage, "sessions").await;
    // One stream to listen on, and two that were taken up again.
    assert_eq!(count(&arrivals, Method::GET, "mcp-session-id"), 3);
    assert_eq!(count(&arrivals, Method::GET, "last-event-id"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs a client; tests/run --all"]
async fn an_agent_in_python_works_without_a_session() {
    let stage = stage(Mcp::NoSessions, "").await;
    let arrivals = python(&stage, "without_sessions").await;
    assert_eq!(count(&arrivals, Method::POST, "mcp-session-id"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs a client; tests/run --all"]
async fn an_agent_in_python_works_by_the_newest_revision() {
    let stage = stage(Mcp::Stateless, "").await;
    let arrivals = python(&stage, "stateless").await;
    assert_eq!(count(&arrivals, Method::POST, "mcp-method"), arrivals.len());
    assert_eq!(count(&arrivals, Method::POST, "mcp-param-topic"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs a client; tests/run --all"]
async fn an_agent_acts_for_nobody_else_unless_its_route_says_for_whom() {
    let denying = stage(Mcp::SessionsRequired, "").await;
    let mut client = Command::new(install("mcp").await.join("bin/python"));
    client.arg(beside("mcp_client.py")).args([&denying.url(), "denied", MEMBER]);
    let said = denying.play(client).await;
    assert!(said.contains("all of it holds"), "{said}");
    assert_eq!(denying.omni.arrived(), 0);

    let pin = format!("impersonation = {{ pin = \"{MEMBER}\" }}");
    let arrivals = python(&stage(Mcp::SessionsRequired, &pin).await, "pinned").await;
    assert!(arrivals.iter().all(|one| one.headers["x-mcp-user-id"] == MEMBER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs a client; tests/run --all"]
async fn an_agent_for_node_works_in_a_session() {
    let stage = stage(Mcp::SessionsRequired, "").await;
    let arrivals = node(&stage, "direct").await;
    // Once more, perhaps, when its session has ended and its stream with it.
    assert!(count(&arrivals, Method::GET, "last-event-id") >= 2);
    assert_eq!(count(&arrivals, Method::DELETE, "mcp-session-id"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs a client; tests/run --all"]
async fn an_agent_that_starts_programs_works_by_way_of_a_bridge() {
    let stage = stage(Mcp::SessionsRequired, "").await;
    let arrivals = node(&stage, "bridge").await;
    assert!(count(&arrivals, Method::GET, "last-event-id") >= 2);
}
