//! Fields that try to take our key out, put another in, or make Omni believe something: in HTTP/1.1
//! byte for byte, and in HTTP/2.

use std::collections::BTreeSet;

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, HeaderValue, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Caller, Gateway, House, Plan, get, key, soon};

/// All that may reach Omni of a call that says nothing more than these tests let it.
const MAY_ARRIVE: [&str; 11] = [
    "accept",
    "authorization",
    "content-length",
    "content-type",
    "host",
    "prefer",
    "transfer-encoding",
    "user-agent",
    "via",
    "x-mcp-model-id",
    "x-request-id",
];

/// Whatever a caller brings that must go no further has this in its value.
const TRICK: &str = "trick";

/// Fields that only HTTP/1.1 can bring.
const OF_CONNECTIONS: [&[u8]; 21] = [
    b"Connection: authorization\r\n",
    b"Connection: Authorization, AUTHORIZATION\r\n",
    b"Connection:\r\nConnection: authorization\r\n",
    b"Connection: , ,\r\nConnection:\tauthorization\t\r\n",
    b"Connection: keep-alive\r\nConnection: authorization\r\n",
    b"Connection: keep-alive, authorization, close\r\n",
    b"Connection: authorization;q=1\r\n",
    b"Connection: \"authorization\"\r\n",
    b"Connection: content-length\r\n",
    b"Connection: host\r\n",
    b"Connection: x-request-id, via\r\n",
    b"Connection: transfer-encoding\r\n",
    b"Connection: authorization, content-length, host, x-request-id, via\r\n",
    b"Connection: \xe9\r\n",
    b"Connection: \xe9, authorization\r\n",
    b"Connection: \xff\xfe,authorization,\x80\r\n",
    b"Connection: authori\xc5\xbfation, authorization\r\n",
    b"Proxy-Connection: authorization\r\n",
    b"Keep-Alive: timeout=5, trick\r\n",
    b"TE: trailers, trick\r\nConnection: TE\r\n",
    b"Trailer: Authorization, trick\r\n",
];

/// Fields that any protocol can bring.
const OF_CALLS: [(&str, &str); 42] = [
    ("authorization", "Bearer trick"),
    ("authorization", "trick"),
    ("authorization", ""),
    ("proxy-authorization", "Bearer trick"),
    ("x-authorization", "Bearer trick"),
    ("x-api-key", "trick"),
    ("api-key", "trick"),
    ("cookie", "session=trick"),
    ("x-http-method-override", "trick"),
    ("x-http-method", "trick"),
    ("x-method-override", "trick"),
    ("x_http_method_override", "trick"),
    ("x-original-url", "/api/v1/trick"),
    ("x-original-uri", "/api/v1/trick"),
    ("x-rewrite-url", "/api/v1/trick"),
    ("x-forwarded-for", "trick"),
    ("x-forwarded-host", "trick"),
    ("x-forwarded-proto", "trick"),
    ("x-forwarded-port", "trick"),
    ("x-forwarded-prefix", "/trick"),
    ("x-forwarded-server", "trick"),
    ("x-forwarded", "for=trick"),
    ("x_forwarded_for", "trick"),
    ("forwarded", "for=trick;host=trick"),
    ("x-real-ip", "trick"),
    ("x-client-ip", "trick"),
    ("true-client-ip", "trick"),
    ("cf-connecting-ip", "trick"),
    ("x-cluster-client-ip", "trick"),
    ("x-host", "trick"),
    ("x-forwarded-user", "trick"),
    ("x-remote-user", "trick"),
    ("remote-user", "trick"),
    ("x-ssl-client-cert", "trick"),
    ("x-forwarded-client-cert", "trick"),
    ("x_authorization", "trick"),
    ("authorization_", "trick"),
    ("x-amzn-trace-id", "trick"),
    ("x-omnigate", "trick"),
    ("http2-settings", "trick"),
    ("max-forwards", "0trick"),
    ("front-end-https", "trick"),
];

/// Fields by which a caller says who it is: two of them, a wrong one, another page's.
const NOBODYS: [(&str, u16); 6] = [
    ("Authorization: Bearer trick\r\nAuthorization: Bearer trick\r\n", 401),
    ("Authorization: Bearer trick\r\nConnection: x\r\nAuthorization: Basic trick\r\n", 401),
    ("authorization:Bearer trick\r\nConnection: authorization\r\nAUTHORIZATION:\ttrick\r\n", 401),
    ("X-Omnigate-Token: trick\r\n", 401),
    ("X-Omnigate-Token: trick\r\nConnection: x-omnigate-token\r\n", 401),
    ("Referer: https://trick/\r\n", 403),
];

/// Fields in odd letters, with a space less or more.
fn in_odd_letters() -> impl Iterator<Item = Vec<u8>> {
    OF_CALLS.iter().map(|(name, value)| {
        let odd = |(at, c): (usize, char)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c };
        let name: String = name.chars().enumerate().map(odd).collect();
        format!("{name}:\t{value} \r\n").into_bytes()
    })
}

/// A call with these lines in its head; all that comes back.
async fn raw(gateway: &Gateway, method: &str, target: &str, fields: &[u8]) -> String {
    let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
    let line = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    let (framed, body): (&[u8], &[u8]) = match method {
        "GET" => (b"", b""),
        _ => (b"Content-Type: application/json\r\nContent-Length: 2\r\n", b"{}"),
    };
    let end: &[u8] = b"Connection: close\r\n\r\n";
    // It may be refused before all of it was read.
    let _ = caller.write_all(&[line.as_bytes(), framed, fields, end, body].concat()).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = soon(caller.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(answer).unwrap()
}

/// Whatever has reached Omni bears our key once, and nothing that a caller made up.
fn all_is_well(house: &House, at_least: usize) {
    let ours = format!("Bearer {}", key().token());
    let arrivals = house.omni.arrivals();
    assert!(arrivals.len() >= at_least, "{} of {at_least}", arrivals.len());
    for arrival in &arrivals {
        assert_eq!(arrival.authorizations, 1, "{arrival:?}");
        assert!(arrival.headers[AUTHORIZATION].as_bytes() == ours.as_bytes(), "{arrival:?}");
        for (name, value) in arrival.headers.iter().filter(|(name, _)| **name != AUTHORIZATION) {
            assert!(MAY_ARRIVE.contains(&name.as_str()), "{name} arrived: {arrival:?}");
            let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            assert!(!text.contains(TRICK), "{name}: {text}");
        }
        assert_eq!(arrival.headers.get_all(HOST).iter().count(), 1);
        assert_ne!(arrival.headers[HOST], "127.0.0.1");
    }
    assert_eq!(house.omni.distinct_authorizations("org"), 1);
}

#[tokio::test]
async fn no_field_takes_our_key_out_or_puts_another_in() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let names: Vec<String> = (0..1000).map(|n| format!("x-{n}")).collect();
    let many = format!("Connection: {}, authorization\r\n", names.join(","));
    let lines: Vec<Vec<u8>> = OF_CONNECTIONS
        .iter()
        .map(|field| field.to_vec())
        .chain([many.into_bytes()])
        .chain(in_odd_letters())
        .collect();
    for fields in &lines {
        for method in ["GET", "POST"] {
            let answer = raw(&gateway, method, "/api/v1/labels/none", fields).await;
            let shown = String::from_utf8_lossy(&fields[..fields.len().min(200)]);
            assert!(answer.contains("received-status="), "{shown}: {answer}");
        }
    }
    all_is_well(&house, 2 * lines.len());
}

#[tokio::test]
async fn who_says_two_things_of_itself_or_a_wrong_one_gets_nothing() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    for (fields, status) in NOBODYS {
        let answer = raw(&gateway, "GET", "/api/v1/labels/none", fields.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{fields}: {answer}");
        assert!(!answer.contains(TRICK), "{fields}: {answer}");
    }
    assert_eq!(house.omni.arrived(), 0);
}

#[tokio::test]
async fn nor_in_h2() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let (sender, connection) = ::h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (name, value) in OF_CALLS {
        let mut sender = sender.clone().ready().await.unwrap();
        let mut request = Request::get("http://127.0.0.1/api/v1/labels/none").body(()).unwrap();
        let name = HeaderName::from_static(name);
        request.headers_mut().append(name.clone(), HeaderValue::from_static(value));
        // Twice, as a list of them would be; two of these say nothing for certain.
        if name != AUTHORIZATION {
            request.headers_mut().append(name.clone(), HeaderValue::from_static(value));
        }
        let (response, _) = sender.send_request(request, true).unwrap();
        let response = soon(response).await.unwrap();
        let status = response.headers()["proxy-status"].to_str().unwrap().to_owned();
        assert!(status.contains("received-status="), "{name}: {status}");
    }
    all_is_well(&house, OF_CALLS.len());
}

/// Ways to say that the call is for user 7, in a query.
const QUERIES: [&str; 14] = [
    "userId=7",
    "userid=7",
    "USERID=7",
    "a=1&userId=7",
    "userId=7&userId=8",
    "userId[]=7",
    "userId%5B%5D=7",
    "filter[userId]=7",
    "%75serId=7",
    "user%49d=7",
    "user%2549d=7",
    "%25%37%35serId=7",
    "a=1;userId=7",
    "userId",
];

/// The same, in fields.
const FIELDS: [(&str, &str); 10] = [
    ("X-MCP-User-ID", "7"),
    ("x-mcp-user-id", "7"),
    ("X-Mcp-User-Id", ""),
    ("X_MCP_USER_ID", "7"),
    ("X-MCP-User_ID", "7"),
    ("x-mcp_user-id", "7"),
    ("X-MCP-USER-ID", "\t7 "),
    ("X-MCP-User-ID", "7\r\nX-MCP-User-ID: 8"),
    ("X-MCP-User-ID", "7\r\nConnection: x-mcp-user-id"),
    ("Connection", "X-MCP-User-ID\r\nX-MCP-User-ID: 7"),
];

#[tokio::test]
async fn no_spelling_of_another_user_arrives() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    for path in ["/api/v1/documents", "/mcp/https"] {
        for query in QUERIES {
            let answer = raw(&gateway, "POST", &format!("{path}?{query}"), b"").await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{query}: {answer}");
            let mut h2 = Caller::connect_h2(gateway.address()).await;
            assert_eq!(h2.get(&format!("{path}?{query}")).await.status, 403, "{query}");
        }
        for (name, value) in FIELDS {
            let field = format!("{name}: {value}\r\n");
            let answer = raw(&gateway, "POST", path, field.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{name}: {value}: {answer}");
        }
        for name in ["x-mcp-user-id", "x_mcp_user_id", "x-mcp-user_id"] {
            let mut request = get(path);
            request.headers_mut().insert(name, HeaderValue::from_static("7"));
            let mut h2 = Caller::connect_h2(gateway.address()).await;
            assert_eq!(h2.call(request).await.unwrap().status, 403, "{name}");
        }
    }
    assert_eq!(house.omni.arrived(), 0);
}

#[tokio::test]
async fn no_spelling_of_another_user_in_a_body_arrives() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let bodies = [
        r#"{"userId":"7"}"#,
        r#"{"userId":7}"#,
        r#"{"userId":null}"#,
        r#"{ "a" : 1 , "userId" : "7" }"#,
        r#"{"user\u0049d":"7"}"#,
        r#"{"\u0075\u0073\u0065\u0072\u0049\u0064":"7"}"#,
        r#"{"userId":"7","userId":"8"}"#,
        r#"{"a":{"userId":"7"},"userId":"8"}"#,
        "\u{feff}{\"userId\":\"7\"}",
        r#"{"userId":"7"} trailing"#,
    ];
    let targets = [
        ("POST", "/api/v1/query/run"),
        ("POST", "/api/v1/ai/generate-query"),
        ("POST", "/api/v1/ai/pick-topic"),
        ("POST", "/api/v1/folders"),
        ("PUT", "/api/v1/documents/d/transfer-ownership"),
        ("PUT", "/api/v1/schedules/s/transfer-ownership"),
    ];
    for (method, target) in targets {
        for body in bodies {
            for kind in ["application/json", "text/plain", "application/json; charset=utf-16"] {
                let mut request = get(target).map(|_| omnigate::base::Body::full(body));
                *request.method_mut() = method.parse().unwrap();
                request.headers_mut().insert("content-type", HeaderValue::from_static(kind));
                let answer = gateway.caller().await.call(request).await.unwrap();
                let refused = [400, 403, 415].contains(&answer.status.as_u16());
                assert!(refused, "{method} {target} {kind}: {body}: {}", answer.status);
            }
        }
    }
    assert_eq!(house.omni.arrived(), 0);
}

#[tokio::test]
async fn what_belongs_to_upstreams_connection_stays_there() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let path = "/api/v1/labels";
    let gone = [
        ("connection", "set-cookie, x-gone, content-type-options"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic realm=trick"),
        ("proxy-authentication-info", "trick"),
        ("proxy-connection", "keep-alive"),
        ("trailer", "Authorization"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("set-cookie", "session=trick"),
        ("set-cookie2", "session=trick"),
        ("x-gone", "trick"),
        ("www-authenticate", "Bearer trick"),
        ("alt-svc", "h3=\"trick:443\""),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("strict-transport-security", "max-age=9"),
        ("authorization", "Bearer trick"),
    ];
    for (name, value) in gone {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
        house.omni.set_field(path, name, value);
    }
    house.omni.set_field(path, HeaderName::from_static("x-kept"), HeaderValue::from_static("1"));
    let mut callers = [gateway.caller().await, Caller::connect_h2(gateway.address()).await];
    for caller in &mut callers {
        for _ in 0..2 {
            let answer = caller.get(path).await;
            assert_eq!((answer.status.as_u16(), answer.header("x-kept")), (200, "1"));
            let seen: BTreeSet<&str> = answer.headers.keys().map(HeaderName::as_str).collect();
            for (name, _) in gone {
                assert!(!seen.contains(name), "{name}: {seen:?}");
            }
            assert!(!format!("{:?}", answer.headers).contains(TRICK));
        }
    }
}

#[tokio::test]
async fn a_head_beyond_measure_is_refused_in_little_memory() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    assert_eq!(gateway.get("/api/v1/labels").await.status, 200);
    let before = gateway.peak_memory();
    let fields: String = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let same = "x: y\r\n".repeat(10_000);
    let long = format!("x: {}\r\n", "y".repeat(64 * 1024));
    let name = format!("{}: y\r\n", "x".repeat(64 * 1024));
    let listed = format!("Connection: {}\r\n", "x,".repeat(32 * 1024));
    for head in [&fields, &same, &long, &name, &listed] {
        for _ in 0..8 {
            let answer = raw(&gateway, "GET", "/api/v1/labels", head.as_bytes()).await;
            let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 431");
            assert!(refused, "{}", &answer[..answer.len().min(200)]);
        }
    }
    for (count, length) in [(10_000, 1), (1, 64 * 1024), (100, 8 * 1024)] {
        let stream = TcpStream::connect(gateway.address()).await.unwrap();
        let (sender, connection) = ::h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..8 {
            // It may have been told to go away.
            let Ok(mut sender) = sender.clone().ready().await else { break };
            let mut request = Request::get("http://127.0.0.1/api/v1/labels").body(()).unwrap();
            for n in 0..count {
                let name = HeaderName::try_from(format!("x-{n}")).unwrap();
                let value = HeaderValue::try_from("y".repeat(length)).unwrap();
                request.headers_mut().append(name, value);
            }
            let Ok((response, _)) = sender.send_request(request, true) else { break };
            if let Ok(response) = soon(response).await {
                assert_eq!(response.status(), 431, "{count} fields of {length} bytes");
            }
        }
    }
    assert_eq!(house.omni.arrived(), 1);
    let grown = gateway.peak_memory().saturating_sub(before);
    println!("{} KiB more at most", grown / 1024);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes more");
    assert_eq!(gateway.get("/api/v1/labels").await.status, 200);
}
