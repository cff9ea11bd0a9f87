//! A web page that somebody has open reaches nothing, by whatever it can send.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;

use crate::harness::{Answer, House, Plan};

const OURS: &str = "127.0.0.1:6664";

async fn ask(
    house: &House,
    two: bool,
    method: &Method,
    host: &str,
    fields: &[(&str, &str)],
) -> Answer {
    let path = "/api/v1/labels";
    let request = match two {
        true => Request::builder().uri(format!("http://{host}{path}")),
        false => Request::builder().uri(path).header("host", host),
    };
    let request = fields
        .iter()
        .fold(request.method(method), |request, (name, value)| request.header(*name, *value));
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let mut caller = if two { house.h2_caller().await } else { house.caller().await };
    caller.call(request).await
}

#[tokio::test(start_paused = true)]
async fn no_page_reaches_omni_by_any_method_over_either_version() {
    let house = Plan::default().build().await;
    let cases: &[(&str, &[(&str, &str)])] = &[
        // A name bound to our address, and what browsers take for one.
        ("evil.example", &[]),
        ("evil.example:6664", &[("origin", "http://evil.example:6664")]),
        ("evil.example:6664", &[("sec-fetch-site", "same-origin")]),
        ("evil.localhost:6664", &[]),
        ("localhost.evil.example", &[]),
        ("0.0.0.0:6664", &[]),
        ("2130706433:6664", &[]),
        ("0x7f.1:6664", &[]),
        ("10.0.0.1:6664", &[]),
        (OURS, &[("origin", "null")]),
        (OURS, &[("origin", "https://evil.example")]),
        (OURS, &[("origin", "http://127.0.0.1:3000")]),
        (OURS, &[("origin", "https://127.0.0.1:6664")]),
        (OURS, &[("origin", "http://localhost:6664")]),
        (OURS, &[("origin", "http://127.0.0.1:6664"), ("origin", "http://127.0.0.1:6664")]),
        (OURS, &[("origin", "https://evil.example"), ("authorization", "Bearer dummy")]),
        (OURS, &[("sec-fetch-site", "cross-site")]),
        (OURS, &[("sec-fetch-site", "same-site")]),
        (OURS, &[("sec-fetch-site", "nonsense")]),
        (OURS, &[("sec-fetch-site", "none"), ("sec-fetch-site", "none")]),
        // A typed address that answered with a redirect to us; an icon; a page that upstream sent.
        (OURS, &[("sec-fetch-site", "none"), ("user-agent", "Mozilla/5.0")]),
        (OURS, &[("sec-fetch-site", "same-origin")]),
        (OURS, &[("origin", "http://127.0.0.1:6664")]),
        (OURS, &[("referer", "https://evil.example/")]),
        (OURS, &[("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")]),
        (OURS, &[("access-control-request-method", "GET")]),
        (OURS, &[("ping-to", "http://127.0.0.1:6664/")]),
        (OURS, &[("service-worker", "script")]),
    ];
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    for method in methods.map(|method| method.parse::<Method>().unwrap()) {
        for (host, fields) in cases {
            for two in [false, true] {
                let answer = ask(&house, two, &method, host, fields).await;
                assert_eq!(answer.status, 403, "{method} {host} {fields:?} h2: {two}");
                let cors = |name: &http::HeaderName| name.as_str().starts_with("access-control");
                assert!(!answer.headers.keys().any(cors));
                if method != Method::HEAD {
                    let kind = &answer.json()["type"];
                    assert_eq!(kind, "urn:omnigate:problem:browser-request");
                }
            }
        }
    }
    assert_eq!(house.omni.arrived(), 0);
}

#[tokio::test(start_paused = true)]
async fn programs_and_people_reach_it_by_every_name_of_ours() {
    let house = Plan::default().build().await;
    let cases: &[(&str, &[(&str, &str)])] = &[
        (OURS, &[]),
        ("localhost:6664", &[("user-agent", "curl/8.5.0")]),
        ("LOCALHOST.:7000", &[]),
        ("[::1]:6664", &[("user-agent", "node"), ("sec-fetch-mode", "cors")]),
        ("127.0.0.2", &[("authorization", "Bearer dummy"), ("user-agent", "Mozilla/5.0")]),
        (OURS, &[("sec-fetch-site", "none"), ("x-omnigate", "1")]),
    ];
    for (number, (host, fields)) in cases.iter().enumerate() {
        for two in [false, true] {
            let answer = ask(&house, two, &Method::GET, host, fields).await;
            assert_eq!(answer.status, 200, "{host} {fields:?} h2: {two}");
        }
        assert_eq!(house.omni.arrived() as usize, 2 * (number + 1));
    }
}
