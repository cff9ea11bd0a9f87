//! For whom a call may act: what each rule lets through to Omni, and with which words it refuses.

use http::Request;
use http_body_util::Full;

use crate::harness::{Answer, House, Plan, get, post};

const FIELD: &str = "x-mcp-user-id";

/// Nobody whom the fake knows, so that a call that arrives is answered with its own 404.
const MEMBER: &str = "9f1c2d3e-0a1b-4c5d-8e9f-001122334455";

async fn house(rule: &str) -> House {
    let route = if rule.is_empty() { String::new() } else { format!("impersonation = {rule}") };
    Plan { route, ..Plan::default() }.build().await
}

async fn pinned() -> House {
    house(&format!("{{ pin = \"{MEMBER}\" }}")).await
}

async fn call(house: &House, request: Request<Full<bytes::Bytes>>) -> Answer {
    house.caller().await.call(request).await
}

/// An MCP call with these values of the field.
fn mcp(path: &str, values: &[&str]) -> Request<Full<bytes::Bytes>> {
    let mut request = post(path, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    for value in values {
        request.headers_mut().append(FIELD, value.parse().unwrap());
    }
    request
}

fn is_denied(answer: &Answer, words: &str) {
    assert_eq!(answer.status, 403, "{:?}", answer.body);
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:omnigate:problem:impersonation-denied");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(words) && !detail.contains(MEMBER), "{detail}");
}

/// Spellings that some parser reads as `userId`.
const SPELLINGS: [&str; 31] = [
    "userId=7",
    "userId=",
    "userId",
    "userid=7",
    "USERID=7",
    "a=1&userId=7",
    "userId=7&userId=8",
    "a=1;userId=7",
    "?userId=7",
    "user%49d=7",
    "%75%73%65%72%49%64=7",
    "user%2549d=7",
    "user%252549d=7",
    "user%4%39d=7",
    "user%u0049d=7",
    "userId[]=7",
    "userId%5B%5D=7",
    "userId[0]=7",
    "userId[$ne]=7",
    "userId[a][b]=7",
    "[userId]=7",
    "a[userId]=7",
    "a=1[userId]=7",
    "userId.x=7",
    ".userId=7",
    "+userId=7",
    "userId%20=7",
    "userId%00=7",
    "userId%ff=7",
    "userId%=7",
    "a%26userId=7",
];

#[tokio::test(start_paused = true)]
async fn no_spelling_of_user_id_reaches_omni_where_it_is_denied() {
    for rule in ["", "\"deny\""] {
        let house = house(rule).await;
        let mut caller = house.caller().await;
        for spelling in SPELLINGS {
            for path in ["/api/v1/folders", "/mcp/https"] {
                let answer = caller.get(&format!("{path}?{spelling}")).await;
                is_denied(&answer, "leave `userId` out of the query");
            }
        }
        assert_eq!(house.omni.arrived(), 0);
        // The connection is still good, and other names are nobody's business.
        assert_eq!(caller.get("/api/v1/folders?user_id=7&sortField=userId").await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn every_spelling_reaches_omni_byte_for_byte_where_it_is_allowed() {
    let house = house("\"allow\"").await;
    let mut caller = house.caller().await;
    for spelling in SPELLINGS {
        assert_ne!(caller.get(&format!("/api/v1/folders?{spelling}")).await.status, 403);
    }
    let arrivals = house.omni.arrivals();
    let queries: Vec<_> = arrivals.iter().map(|arrival| arrival.target.query().unwrap()).collect();
    assert_eq!(queries, SPELLINGS);
    assert!(arrivals.iter().all(|arrival| !arrival.headers.contains_key(FIELD)));
}

#[tokio::test(start_paused = true)]
async fn the_field_reaches_omni_only_where_it_is_allowed() {
    for (rule, passes) in [("\"deny\"", false), ("\"allow\"", true)] {
        let house = house(rule).await;
        for values in [&["7"][..], &["7", "8"], &[""]] {
            let answer = call(&house, mcp("/mcp/https", values)).await;
            if passes {
                assert_eq!(answer.status, 200);
                let arrivals = house.omni.arrivals();
                let seen = arrivals.last().unwrap().headers.get_all(FIELD);
                assert!(seen.iter().eq(values.iter().copied()), "{values:?}");
            } else {
                is_denied(&answer, "leave X-MCP-User-ID out");
            }
        }
        assert_eq!(house.omni.arrived(), if passes { 3 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn an_mcp_call_on_a_pinned_route_acts_for_the_one_user() {
    let house = pinned().await;
    for (path, values) in [("/mcp/https", &[][..]), ("/mcp/https", &[MEMBER]), ("/MCP/https", &[])]
    {
        call(&house, mcp(path, values)).await;
    }
    // Whoever takes our field for one of its connection takes nothing away.
    let mut tricky = mcp("/mcp/https", &[MEMBER]);
    tricky.headers_mut().insert("connection", "x-mcp-user-id".parse().unwrap());
    call(&house, tricky).await;
    let arrivals = house.omni.arrivals();
    assert_eq!(arrivals.len(), 4);
    for arrival in arrivals {
        assert!(arrival.headers.get_all(FIELD).iter().eq([MEMBER]), "{arrival:?}");
        assert_eq!(arrival.target.query(), None);
    }
    for values in [&["7"][..], &[MEMBER, "7"], &[""]] {
        let answer = call(&house, mcp("/mcp/https", values)).await;
        is_denied(&answer, "X-MCP-User-ID names another");
    }
    let query = call(&house, mcp("/mcp/https?userId=7", &[])).await;
    is_denied(&query, "acts for one user alone");
    assert_eq!(house.omni.arrived(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_rest_call_on_a_pinned_route_must_name_the_one_user() {
    let house = pinned().await;
    let mut caller = house.caller().await;
    let encoded = MEMBER.replace('-', "%2d");
    let good = [
        format!("userId={MEMBER}"),
        format!("path=&userId={MEMBER}&a=b"),
        format!("user%49d={encoded}"),
    ];
    for query in &good {
        assert_eq!(caller.get(&format!("/api/v1/folders?{query}")).await.status, 404);
    }
    let arrivals = house.omni.arrivals();
    assert!(arrivals.iter().map(|arrival| arrival.target.query().unwrap()).eq(&good));
    assert!(arrivals.iter().all(|arrival| !arrival.headers.contains_key(FIELD)));

    let spelt = SPELLINGS.map(|spelling| spelling.replace('7', MEMBER));
    // The first is the right one.
    let spelt = spelt.iter().skip(1).filter(|query| !good.contains(query)).map(String::as_str);
    let twice = format!("userId={MEMBER}&userId=7");
    let wrong = ["userId=7", "user_id=7", "a=b", "", &twice];
    for query in spelt.filter(|query| !is_plain(query)).chain(wrong) {
        let answer = caller.get(&format!("/api/v1/folders?{query}")).await;
        is_denied(&answer, "the query must have `userId` once");
    }
    is_denied(&caller.get("/api/v1/folders").await, "the query must have `userId` once");
    let other = get(&format!("/api/v1/folders?userId={MEMBER}")).header(FIELD, "7");
    let other = call(&house, other.body(Full::default()).unwrap()).await;
    is_denied(&other, "X-MCP-User-ID names another");
    assert_eq!(house.omni.arrived(), good.len());
}

/// Spellings that every parser reads as `userId`, and nothing else: right, with the right value.
fn is_plain(query: &str) -> bool {
    ["a=1&userId=", "user%49d=", "%75%73%65%72%49%64="]
        .iter()
        .any(|start| query.strip_prefix(start) == Some(MEMBER))
}
