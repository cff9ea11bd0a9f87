//! What Omni says of the key that it was called with.

use bytes::Bytes;
use http::Response;
use omnigate::fake_omni::{Fault, Rule};
use omnigate::telemetry::Exposition;

use crate::harness::{House, Plan, key};

fn answers(house: &House, media: &str, body: String) {
    let answer = Response::builder().header("content-type", media).header("x-seen", key().token());
    house.omni.fail(Rule::new(Fault::Answer(answer.body(Bytes::from(body)).unwrap())).times(1));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_omni_sends_back_is_blotted_out() {
    let house = Plan::default().build().await;
    let (token, mut caller) = (key().token().to_owned(), house.caller().await);
    for media in ["application/json", "text/plain", "text/event-stream", "application/problem+json"]
    {
        answers(&house, media, format!("{{\"a\":\"Bearer {token}\"}}"));
        let answer = caller.get("/api/v1/documents").await;
        let stars = "*".repeat(token.len());
        assert_eq!(answer.body, format!("{{\"a\":\"Bearer {stars}\"}}"), "{media}");
        assert_eq!(answer.header("x-seen"), stars);
    }
    answers(&house, "application/octet-stream", token.clone());
    assert_eq!(caller.get("/api/v1/documents").await.body, token);
    house.omni.fail(Rule::new(Fault::EchoAuthorization).times(1));
    let answer = caller.get("/api/v1/documents").await;
    assert!(!String::from_utf8_lossy(&answer.body).contains(&token));
    let text = house.rooms.telemetry.metrics.render(&Default::default(), Exposition::Classic);
    // A field and a body for each text, the field of the binary one, and both of the last.
    assert!(text.contains("omnigate_echoed_secrets_total{credential=\"org\"} 11"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_blotted_too() {
    let route = "cache = { ttl = \"1h\" }".to_owned();
    let house = Plan { route, ..Plan::default() }.build().await;
    answers(&house, "application/json", format!("{{\"a\":\"{}\"}}", key().token()));
    let mut caller = house.caller().await;
    for _ in 0..2 {
        let answer = caller.get("/api/v1/documents").await;
        assert_eq!(answer.body, format!("{{\"a\":\"{}\"}}", "*".repeat(key().token().len())));
    }
    assert_eq!(house.omni.arrived(), 1);
}
