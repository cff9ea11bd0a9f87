//! No write is made twice, whatever goes wrong on its way.

use http::StatusCode;
use omnigate::fake_omni::{Fault, Reset, RetryAfter, Rule, Verdict};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::harness::{Dice, House, Plan, SECOND, post};

async fn house() -> House {
    let budget = "profile = \"burst\"\nlimit = 500\nmax_wait = \"1h\"".to_owned();
    Plan { budget, route: "timeout = \"5s\"".to_owned(), ..Plan::default() }.build().await
}

fn label(name: &str, padding: usize) -> Vec<u8> {
    format!("{{\"name\":\"{name}\",\"description\":\"{}\"}}", "x".repeat(padding)).into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every way to fail that a write may meet, before it takes effect and after.
fn faults() -> Vec<Fault> {
    let resets = [Reset::OnArrival, Reset::BeforeHead, Reset::AfterHead, Reset::MidBody];
    let statuses = [500, 502, 503, 504].map(|code| StatusCode::from_u16(code).unwrap());
    let slow = [
        // Beyond the route's timeout, after the write took effect.
        Fault::SlowHead(20 * SECOND),
        Fault::SlowBody { piece: 7, pause: 3 * SECOND },
    ];
    let resets = resets.into_iter().map(Fault::Reset);
    resets.chain(statuses.into_iter().map(Fault::Status)).chain(slow).collect()
}

#[tokio::test(start_paused = true)]
async fn no_post_is_applied_twice_whatever_breaks() {
    let house = house().await;
    let mut dice = Dice(7);
    let mut table = Vec::new();
    for (nth, fault) in faults().into_iter().enumerate() {
        let (mut applied, mut sent) = (0, 0);
        let mut statuses = Vec::new();
        for round in 0..8 {
            let name = format!("post-{nth}-{round}");
            // Some fit one packet, some fill every buffer on the way.
            let body = label(&name, [0, 900, 300_000][dice.below(3)]);
            house.omni.fail(Rule::new(fault.clone()).method(http::Method::POST).times(1));
            // Before the head, too: a connection that ends before a byte has gone over it.
            house.road.dead_ends(dice.below(2));
            let before = house.omni.arrived();
            let call = house.call(post("/api/v1/labels", body)).await.await.unwrap();
            house.omni.heal();
            house.road.dead_ends(0);
            statuses.push(call.status());
            sent += house.omni.arrived() - before;
            assert!(house.omni.arrived() - before <= 1, "{fault:?}: {name} was sent again");
            assert!(house.omni.applied(&name) <= 1, "{fault:?}: {name} was applied twice");
            applied += house.omni.applied(&name);
        }
        assert!(sent >= 2, "{fault:?} was hardly met");
        table.push(format!("{fault:?}: 8 calls, {sent} sent, {applied} applied, {statuses:?}"));
    }
    println!("burst, limit = 500, timeout = 5s; 0 stands for an answer that was cut");
    println!("{}", table.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_its_caller_breaks_off_is_not_applied() {
    use tokio::io::AsyncWriteExt;
    let house = house().await;
    for sent in [0, 1, 20, 60] {
        let mut caller = house.connect();
        let body = label("broken", 40);
        let head = format!(
            "POST /api/v1/labels HTTP/1.1\r\nhost: 127.0.0.1:6664\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        caller.write_all(head.as_bytes()).await.unwrap();
        caller.write_all(&body[..sent]).await.unwrap();
        sleep(SECOND).await;
        drop(caller);
        sleep(SECOND).await;
        assert_eq!(house.omni.applied("broken"), 0);
    }
    let whole = house.call(post("/api/v1/labels", label("broken", 40))).await.await.unwrap();
    assert_eq!((whole.status(), house.omni.applied("broken")), (201, 1));
}

#[tokio::test(start_paused = true)]
async fn a_post_that_the_limit_refuses_is_sent_again_byte_by_byte_and_applied_once() {
    for (retry_after, padding) in [
        (RetryAfter::Absent, 10),
        (RetryAfter::Seconds(7), 300_000),
        (RetryAfter::Absent, 1_000_000),
    ] {
        let house = house().await;
        house.omni.fail(Rule::new(Fault::Block(retry_after.clone())).times(3));
        let body = label("refused", padding);
        let (bytes, digest) = (body.len() as u64, hex(&body));
        let call = house.call(post("/api/v1/labels", body)).await.await.unwrap();
        assert_eq!(call.status(), 201);
        assert_eq!(house.omni.applied("refused"), 1);
        let arrivals = house.omni.arrivals();
        let verdicts: Vec<Verdict> = arrivals.iter().map(|one| one.verdict).collect();
        use Verdict::{Admitted, Failed};
        assert_eq!(verdicts, [Failed, Failed, Failed, Admitted]);
        let seen = &arrivals[3].body;
        assert_eq!((seen.bytes, seen.sha256.as_deref()), (bytes, Some(digest.as_str())));
        println!(
            "burst, Retry-After {retry_after:?}: a POST of {bytes} bytes was refused 3 times and \
             applied once, after {:.1} s",
            call.took.as_secs_f64()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_post_whose_body_is_gone_is_503_and_never_omnis_429() {
    let house = house().await;
    house.omni.fail(Rule::new(Fault::Block(RetryAfter::Seconds(30))).times(1));
    let call = house.call(post("/api/v1/labels", label("large", 6 << 20))).await.await.unwrap();
    let answer = call.answer.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["type"], "urn:omnigate:problem:upstream-busy");
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((30..=36).contains(&wait), "{wait}");
    assert_eq!((house.omni.arrived(), house.omni.applied("large")), (1, 0));
    println!("burst, replay_limit 1 MiB: a refused POST of 6 MiB is 503, Retry-After {wait}");
    // Whoever comes back when it was told is served.
    sleep(wait as u32 * SECOND).await;
    let call = house.call(post("/api/v1/labels", label("large", 100))).await.await.unwrap();
    assert_eq!((call.status(), house.omni.applied("large")), (201, 1));
}
