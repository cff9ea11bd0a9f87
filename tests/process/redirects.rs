//! Redirects are never followed: they are the caller's to judge, and no other host hears of the key.

use std::io::ErrorKind;
use std::net::TcpListener;

use bytes::Bytes;
use http::header::{HOST, LOCATION};
use http::{Method, Response};
use omnigate::fake_omni::{Fault, Rule};

use crate::harness::{Caller, Plan, disguise, get, key};

#[tokio::test]
async fn a_redirect_is_passed_on_and_nobody_else_hears_of_it() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let other = elsewhere.local_addr().unwrap();
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    assert_eq!(gateway.get("/api/v1/whoami").await.status, 200);
    let own = house.omni.arrivals()[0].headers[HOST].to_str().unwrap().to_owned();
    let kept = |location: String| (location.clone(), location);
    let locations = [
        (format!("http://{own}/a?b=c#d"), "/a?b=c#d".to_owned()),
        (format!("HTTP://{own}/a"), "/a".to_owned()),
        (format!("//{own}/a"), "/a".to_owned()),
        (format!("http://{own}"), "/".to_owned()),
        (format!("http://{own}?a"), "/?a".to_owned()),
        kept("/a".to_owned()),
        kept("a/../b".to_owned()),
        kept(String::new()),
        kept(format!("https://{own}/a")),
        kept(format!("http://user:password@{own}/a")),
        kept(format!("http://{other}/a")),
        kept(format!("https://{other}/a")),
        kept(format!("//{other}/a")),
        kept(format!("http://{own}@{other}/a")),
        kept(format!("http://{own}//{other}/a")),
        kept(format!("http://{own}/\\{other}/a")),
        kept(format!("http://{own}.evil.example:{}/a", other.port())),
        kept(format!("\\\\{other}\\a")),
        kept("javascript:alert(1)".to_owned()),
    ];
    let mut h1 = gateway.caller().await;
    let mut h2 = Caller::connect_h2(gateway.address()).await;
    let mut calls = 1;
    for (location, seen) in &locations {
        for status in [301, 302, 303, 307, 308] {
            house.omni.heal();
            let answer = Response::builder().status(status).header(LOCATION, location);
            let answer = answer.body(Bytes::from_static(b"elsewhere")).unwrap();
            house.omni.fail(Rule::new(Fault::Answer(answer)));
            for caller in [&mut h1, &mut h2] {
                let mut request = get("/api/v1/folders?pageSize=7");
                *request.method_mut() = if status == 308 { Method::POST } else { Method::GET };
                let answer = caller.call(request).await.unwrap();
                calls += 1;
                assert_eq!(answer.status, status, "{location}");
                assert_eq!(answer.headers[LOCATION], seen, "{location}");
                assert_eq!(answer.body, "elsewhere");
                let all = format!("{:?} {}", answer.headers, answer.text());
                assert_eq!(disguise::find(key().token(), &all), None, "{location}");
            }
        }
    }
    // Not even a second call to Omni itself was made.
    assert_eq!(house.omni.arrived(), calls);
    let nobody = elsewhere.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(nobody, Err(ErrorKind::WouldBlock), "somebody came");
}
