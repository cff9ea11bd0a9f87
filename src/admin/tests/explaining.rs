//! Questions about calls.

use super::*;

fn question(text: &str, media: &'static str) -> Request<Body> {
    let body = Body::full(text.to_owned());
    let request = Request::post("/-/explain").header("host", "127.0.0.1:6663");
    request.header("content-type", media).body(body).unwrap()
}

async fn ask_as(peer: Peer, rules: Rules, request: Request<Body>) -> (StatusCode, Value) {
    let admin = Admin::new(Role::Operator, rules, Arc::new(Told::default()));
    let (head, body) = admin.answer(request, peer).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, serde_json::from_slice(&body).unwrap())
}

async fn ask(text: &str, media: &'static str) -> (StatusCode, Value) {
    ask_as(Peer::pipe(), Rules::default(), question(text, media)).await
}

const GOOD: &str = r#"{"method":"GET","url":"/api/v1/documents","headers":[["A","b"]]}"#;

#[tokio::test]
async fn a_question_is_answered_with_a_document() {
    let (status, said) = ask(GOOD, "application/json").await;
    assert_eq!((status, &said["call"]["path"]), (StatusCode::OK, &json!("/api/v1/documents")));
}

#[tokio::test]
async fn a_question_that_is_none_is_refused_and_not_repeated() {
    let secret = r#"{"method":"GET","url":"/","headers":[["Authorization","zqsecretzq"]],"x":1}"#;
    let large = "x".repeat(2 << 20);
    for (text, media, status) in [
        ("", "application/json", 400),
        ("[]", "application/json", 400),
        (secret, "application/json", 400),
        (GOOD, "text/plain", 415),
        (&large, "application/json", 413),
        (r#"{"method":"GET","url":"x"}"#, "application/json", 422),
    ] {
        let (is, said) = ask(text, media).await;
        assert_eq!(is.as_u16(), status, "{said}");
        assert!(!said.to_string().contains("zqsecret"), "{said}");
    }
}

#[tokio::test]
async fn only_operators_ask() {
    let token = Some(TokenDigest::of(b"of-operators"));
    let rules = Rules { token, ..Rules::default() };
    let (status, _) = ask_as(Peer::pipe(), rules, question(GOOD, "application/json")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let mut page = question(GOOD, "application/json");
    page.headers_mut().insert("origin", HeaderValue::from_static("https://elsewhere.example"));
    let (status, _) = ask_as(Peer::pipe(), Rules::default(), page).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let mut get = question(GOOD, "application/json");
    *get.method_mut() = Method::GET;
    let (status, _) = ask_as(Peer::pipe(), Rules::default(), get).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let remote = Remote::Tcp(SocketAddr::from(([192, 168, 0, 9], 50_000)));
    let elsewhere = Peer::plain(remote, None);
    let (status, _) = ask_as(elsewhere, Rules::default(), question(GOOD, "application/json")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}
