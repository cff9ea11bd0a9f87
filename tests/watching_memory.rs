//! A day of watching: what is held for viewers who come, read slowly and go does not grow. Runs in a
//! process of its own, so that what is measured is its own, and in virtual time.
//!
//! `cargo test --test watching_memory -- --nocapture` prints the figures.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test file ends by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are the point")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use omnigate::admin::status::{CallerStatus, ErrorStatus};
use omnigate::admin::{
    Admin, Desk, KeyAnswer, NoAnswer, NoSuchBudget, NoSuchRoute, Purged, Readiness, Role, Rules,
    Status,
};
use omnigate::base::{Body, BudgetId, CredentialId, Peer, RouteId};
use omnigate::proxy::{BadCall, Call, Explanation};
use omnigate::telemetry::{BadFilter, Exposition, Metrics, Viewer};

const HOUR: usize = 3600;
const DAY: usize = 24 * HOUR;
/// Measured in a debug build: 0. A backlog of one event a second for one viewer would be 100 MiB.
const MOST_GROWTH: usize = 4 << 20;

/// Facts as a gateway with a few callers has them.
#[derive(Default)]
struct Facts(AtomicUsize);

impl Desk for Facts {
    fn status(&self) -> Status {
        let look = self.0.fetch_add(1, Ordering::Relaxed);
        let caller = CallerStatus { caller: format!("caller-{look}"), ..CallerStatus::default() };
        let error = ErrorStatus { request_id: format!("id-{look}"), ..ErrorStatus::default() };
        Status { callers: vec![caller; 3], errors: vec![error; 2], ..Status::default() }
    }

    fn readiness(&self) -> Readiness {
        Readiness::default()
    }

    fn metrics(&self, _: Exposition) -> String {
        String::new()
    }

    fn views(&self) -> Viewer {
        Metrics::new().views()
    }

    fn reload(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn test_key(&self, _: CredentialId) -> BoxFuture<'static, Result<KeyAnswer, NoAnswer>> {
        Box::pin(std::future::ready(Err(NoAnswer::Unknown)))
    }

    fn purge(&self, _: Option<RouteId>) -> BoxFuture<'static, Result<Purged, NoSuchRoute>> {
        Box::pin(std::future::ready(Ok(Purged { entries: None })))
    }

    fn pause(&self, _: Option<&BudgetId>, _: Option<Duration>) -> Result<(), NoSuchBudget> {
        Ok(())
    }

    fn resume(&self, _: Option<&BudgetId>) -> Result<(), NoSuchBudget> {
        Ok(())
    }

    fn explain(&self, _: Call) -> BoxFuture<'static, Result<Explanation, BadCall>> {
        Box::pin(std::future::ready(Err(BadCall::Method)))
    }

    fn log_filter(&self) -> String {
        String::new()
    }

    fn set_log(&self, _: Option<&str>) -> Result<String, BadFilter> {
        Ok(String::new())
    }
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// One who watches, and reads an event each so many seconds.
struct Watches {
    body: Body,
    every: usize,
}

async fn comes(admin: &Admin, every: usize) -> Watches {
    let request = Request::get("/-/events").header(HOST, "localhost").body(Body::empty()).unwrap();
    let response = admin.answer(request, Peer::pipe()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    assert!(body.frame().await.is_some());
    Watches { body, every }
}

#[tokio::test(start_paused = true)]
async fn a_day_of_viewers_leaves_nothing_behind() {
    let facts = Arc::new(Facts::default());
    let admin = Admin::new(Role::Operator, Rules::default(), facts.clone());
    let mut viewers: Vec<Watches> = Vec::new();
    let (mut came, mut watched, mut read, mut after_an_hour) = (0, 0, 0, 0);
    // Some reproducible order; nothing depends on which.
    let mut dice = 7_u64;
    let mut below = |end: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % end
    };
    for second in 0..DAY {
        let night = (2..5).contains(&(second / HOUR));
        if night {
            viewers.clear();
        } else if below(10) == 0 && viewers.len() < 60 {
            let every = if below(2) == 0 { 1 } else { 90 };
            viewers.push(comes(&admin, every).await);
            came += 1;
        }
        if !viewers.is_empty() && below(8) == 0 {
            let who = usize::try_from(below(viewers.len() as u64)).unwrap();
            viewers.swap_remove(who);
        }
        watched += usize::from(!viewers.is_empty());
        tokio::time::sleep(Duration::from_secs(1)).await;
        for viewer in viewers.iter_mut().filter(|viewer| second % viewer.every == 0) {
            assert!(viewer.body.frame().await.is_some());
            read += 1;
        }
        if second == HOUR {
            after_an_hour = resident();
        }
    }
    let (looks, end) = (facts.0.load(Ordering::Relaxed), resident());
    println!(
        "{came} viewers came and read {read} events; the facts were read {looks} times in {watched} \
         watched seconds; {after_an_hour} bytes resident after an hour, {end} after a day"
    );
    assert!(read > DAY && watched > DAY / 2, "{read} {watched}");
    // Once a second, and once more for each who came when nobody watched.
    assert!(looks <= watched + came, "{looks}");
    assert!(end.saturating_sub(after_an_hour) <= MOST_GROWTH, "{after_an_hour} {end}");
}
