//! SIGTERM and SIGINT: what fits into the drain is finished, the rest is told at once.

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::harness::{Caller, Gateway, Origin, Plan, SECOND, get, pattern, soon, until};

/// A slot each half second, one at the start.
const PACED: &str =
    "limit = 6\nwindow = \"2900ms\"\nguard = \"100ms\"\nprofile = \"smooth\"\nburst = 1";
const QUEUED: usize = 12;

async fn refuses_connections(gateway: &Gateway) {
    let address = gateway.address();
    until(async || TcpStream::connect(address).await.is_err().then_some(())).await;
}

async fn drained_by(signal: Signal) {
    let server = "drain_timeout = \"2s\"".to_owned();
    let house = Plan { server, budget: PACED.to_owned(), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    assert_eq!(gateway.get("/api/v1/labels?serial=first").await.status, 200);
    let mut calls = JoinSet::new();
    for serial in 0..QUEUED {
        let mut caller = match serial % 2 {
            0 => gateway.caller().await,
            _ => Caller::connect_h2(gateway.address()).await,
        };
        calls.spawn(async move {
            let answer = caller.get(&format!("/api/v1/labels?serial={serial}")).await;
            (serial, answer, Instant::now())
        });
        // Each takes its place before the next one comes; on a slow machine the first go meanwhile.
        until(async || {
            let queued = gateway.figure("omnigate_queue_depth{budget=\"omni\"}").await as usize;
            (queued + house.omni.arrived() >= serial + 2).then_some(())
        })
        .await;
    }
    let gone = house.omni.arrived() - 1;
    let told = Instant::now();
    gateway.signal(signal);
    refuses_connections(&gateway).await;
    let mut served = Vec::new();
    let mut refused = Vec::new();
    while let Some(call) = calls.join_next().await {
        let (serial, answer, at) = call.unwrap();
        let took = at - told;
        if answer.status == 200 {
            served.push((serial, took));
            continue;
        }
        assert_eq!(answer.status, 503);
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:omnigate:problem:draining");
        let estimate = problem["estimated_wait_s"].as_f64().unwrap();
        let retry_after: f64 = answer.header("retry-after").parse().unwrap();
        assert!(estimate > 2.0 && retry_after >= estimate, "{problem}, again in {retry_after}");
        refused.push((serial, took));
    }
    let ended = gateway.ends().await;
    let took = told.elapsed();
    println!("{signal:?}: served {served:.0?}, refused {refused:.0?}, ended after {took:.1?}");
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    // Two seconds, and what a loaded machine adds.
    assert!(took < 8 * SECOND);
    // Four or so fit; they are the first in the queue, and every other one was told at once.
    assert!((2..=5).contains(&(served.len() - gone)));
    assert!(served.iter().enumerate().all(|(nth, (serial, _))| nth == *serial));
    assert_eq!(refused.len(), QUEUED - served.len());
    let last_served = served.last().unwrap().1;
    assert!(refused.iter().all(|(_, took)| *took < last_served));
    assert_eq!(house.omni.arrived(), 1 + served.len());
}

#[tokio::test]
async fn at_sigterm_calls_that_fit_are_served_and_the_rest_is_told_at_once() {
    drained_by(Signal::TERM).await;
}

#[tokio::test]
async fn at_sigint_calls_that_fit_are_served_and_the_rest_is_told_at_once() {
    drained_by(Signal::INT).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let server = "drain_timeout = \"300s\"".to_owned();
    let budget = "limit = 1\nwindow = \"60s\"\nprofile = \"burst\"".to_owned();
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let (server, budget) = (server.clone(), budget.clone());
        let house = Plan { server, budget, ..Plan::default() }.build().await;
        let gateway = house.start().await;
        assert_eq!(gateway.get("/api/v1/labels").await.status, 200);
        let mut waiting = gateway.caller().await;
        let waiting = tokio::spawn(async move { waiting.call(get("/api/v1/labels")).await });
        gateway.queued(1).await;
        gateway.signal(first);
        refuses_connections(&gateway).await;
        // It waits for the call, which has a minute to go.
        gateway.queued(1).await;
        let told = Instant::now();
        gateway.signal(second);
        let ended = gateway.ends().await;
        println!("{first:?}, {second:?}: ended {:.0?} after the second", told.elapsed());
        assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
        assert!(told.elapsed() < 5 * SECOND);
        assert!(soon(waiting).await.unwrap().is_err());
        assert_eq!(house.omni.arrived(), 1);
    }
}

#[tokio::test]
async fn a_download_that_is_under_way_is_finished_before_the_process_ends() {
    let origin = Origin::open();
    let house = Plan { origin: Some(origin.address()), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    let mut caller = gateway.caller().await;
    let asked = tokio::spawn(async move { caller.call(get("/file")).await.unwrap() });
    let mut call = origin.call().await;
    let half = pattern::piece(0, 100_000);
    call.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n").await.unwrap();
    call.stream.write_all(&half).await.unwrap();
    gateway.signal(Signal::TERM);
    refuses_connections(&gateway).await;
    assert_eq!(gateway.admin("/readyz").await.status, 503);
    call.stream.write_all(&pattern::piece(100_000, 100_000)).await.unwrap();
    let answer = soon(asked).await.unwrap();
    assert_eq!(answer.body.len(), 200_000);
    pattern::check(0, &answer.body);
    assert_eq!(gateway.ends().await.status.code(), Some(0));
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    // Connections without a call do not keep it.
    let _silent = TcpStream::connect(gateway.address()).await.unwrap();
    let mut one = Caller::connect(gateway.address()).await;
    assert_eq!(one.get("/api/v1/labels").await.status, 200);
    let mut two = Caller::connect_h2(gateway.address()).await;
    assert_eq!(two.get("/api/v1/labels").await.status, 200);
    let told = Instant::now();
    gateway.signal(Signal::TERM);
    let ended = gateway.ends().await;
    println!("ended after {:.0?}", told.elapsed());
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert!(told.elapsed() < Duration::from_secs(5), "it waited for those who ask nothing");
}
