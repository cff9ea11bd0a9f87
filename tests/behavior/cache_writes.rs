//! Who has written reads what was written, however the write ended.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use omnigate::fake_omni::{
    Fault, Hold, Key, KeyKind, Reset, Rule, Settings, reads, write_body, writes,
};
use tokio::time::sleep;

use crate::harness::{Answer, Caller, House, Plan, SECOND, get, key, post};

const FOLDERS: &str = "/api/v1/folders";

/// The key of one who works on Omni without the gateway.
fn web() -> Key {
    Key::made_up(KeyKind::Organization, "web")
}

/// A gateway that keeps everything for an hour and has slots to spare.
pub(crate) fn keeping() -> Plan {
    let usual = Plan::default();
    Plan {
        budget: "profile = \"burst\"\nlimit = 5000\nmax_wait = \"1h\"".to_owned(),
        route: "sensitive = true\ntimeout = \"5s\"\ncache = { ttl = \"1h\", stale = \"1h\" }"
            .to_owned(),
        fake: Settings {
            keys: vec![key(), web()],
            records: Some(3),
            long_poll: SECOND,
            ..usual.fake
        },
        ..usual
    }
}

/// One who asks Omni itself: what it says is true.
pub(crate) struct Direct(Caller);

impl Direct {
    pub(crate) async fn to(house: &House) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let omni = house.omni.clone();
        tokio::spawn(async move { omni.serve_connection(far).await });
        Self(Caller::http1(near).await)
    }

    pub(crate) async fn call(&mut self, mut request: Request<Full<Bytes>>) -> Answer {
        let bearer = HeaderValue::try_from(format!("Bearer {}", web().token())).unwrap();
        request.headers_mut().insert(AUTHORIZATION, bearer);
        self.0.call(request).await
    }

    pub(crate) async fn revision(&mut self, path: &str) -> Option<u64> {
        revision(&self.call(plain(path)).await)
    }
}

pub(crate) fn plain(path: &str) -> Request<Full<Bytes>> {
    get(path).body(Full::default()).unwrap()
}

/// How often what an answer shows had been written to. `None` where no write changes it.
pub(crate) fn revision(answer: &Answer) -> Option<u64> {
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    answer.json()["revision"].as_u64()
}

pub(crate) fn is_hit(answer: &Answer) -> bool {
    answer.header("cache-status").starts_with("omnigate; hit")
}

fn is_stored(answer: &Answer) -> bool {
    answer.header("cache-status").contains("; stored")
}

/// By the design, and not by the code: what is true once, and what decides about rights.
pub(crate) fn is_never_kept(path: &str) -> bool {
    let whole = ["/api/v1/whoami", "/api/v1/query/wait"];
    let begins = ["/api/v1/jobs/", "/api/v1/ai/jobs/", "/api/v1/api-keys", "/mcp"];
    whole.contains(&path)
        || begins.iter().any(|one| path.starts_with(one))
        || path.contains("/download/")
}

fn kept_reads() -> Vec<String> {
    reads().filter(|path| !is_never_kept(path)).collect()
}

fn write(method: &Method, path: &str) -> Request<Full<Bytes>> {
    let uri = path.parse().unwrap();
    if path.to_ascii_lowercase().starts_with("/api/v1/uploads") && *method == Method::POST {
        let mut request = post(path, "--b\r\n\r\nx\r\n--b--\r\n");
        let form = HeaderValue::from_static("multipart/form-data; boundary=b");
        request.headers_mut().insert("content-type", form);
        return request;
    }
    let mut request = post("/", write_body("written"));
    (*request.method_mut(), *request.uri_mut()) = (method.clone(), uri);
    request
}

fn make_folder(name: &str) -> Request<Full<Bytes>> {
    post(FOLDERS, write_body(name))
}

/// Has a list kept, and makes sure that it is.
async fn warm(caller: &mut Caller, path: &str) {
    caller.get(path).await;
    let again = caller.get(path).await;
    assert!(is_hit(&again), "{path}: {}", again.header("cache-status"));
}

#[tokio::test(start_paused = true)]
async fn every_read_that_may_be_kept_is_and_no_other() {
    let house = keeping().build().await;
    let mut caller = house.caller().await;
    let mut kept = 0;
    for path in reads() {
        let before = house.omni.arrived();
        let (first, second) = (caller.get(&path).await, caller.get(&path).await);
        let sent = house.omni.arrived() - before;
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200), "{path}");
        assert_eq!(sent == 1, !is_never_kept(&path), "{path}: {sent} requests");
        assert_eq!(is_hit(&second), !is_never_kept(&path), "{path}");
        kept += usize::from(is_hit(&second));
    }
    println!("{kept} of {} reads are kept", reads().count());
}

/// After each write that the fake knows, each read that it knows: against what the fake says itself,
/// which is written down apart from the catalogue.
#[tokio::test(start_paused = true)]
async fn after_a_write_no_read_shows_less_than_there_is() {
    every_read_after(3).await;
}

/// Not each third write but all of them.
#[tokio::test(start_paused = true)]
#[ignore = "a minute of work; tests/run --all runs it"]
async fn after_any_write_no_read_shows_less_than_there_is() {
    every_read_after(1).await;
}

async fn every_read_after(step: usize) {
    let reads = kept_reads();
    let (mut pairs, mut needed, mut left) = (0, 0, 0);
    for (method, path) in writes().step_by(step) {
        let house = keeping().build().await;
        let (mut caller, mut direct) = (house.caller().await, Direct::to(&house).await);
        for read in &reads {
            assert!(is_stored(&caller.get(read).await), "{read}");
        }
        let written = caller.call(write(&method, &path)).await;
        assert!(written.status.is_success(), "{method} {path}: {:?}", written.body);
        for read in &reads {
            let answer = caller.get(read).await;
            if is_hit(&answer) {
                let (told, is) = (revision(&answer), direct.revision(read).await);
                assert_eq!(told, is, "{read} is kept although {method} {path} changed it");
                left += 1;
            }
            pairs += 1;
            if answer.status == StatusCode::NOT_FOUND {
                // What was written is that it is no more.
                continue;
            }
            needed += usize::from(revision(&answer).is_some_and(|revision| revision > 0));
        }
    }
    println!("{pairs} pairs of write and read: {needed} show the write, {left} stayed hits");
    assert!(needed > 1_000 / step && left > 1_000 / step);
}

/// As lenient servers take them.
#[tokio::test(start_paused = true)]
async fn a_write_that_is_spelled_otherwise_counts_as_much() {
    let folders = ["/api/v1/folders", "/API/v1/Folders/", "/api/v1/f%6Flders", "/api/v1/FOLDERS?a"];
    for path in folders.map(|path| path.strip_suffix("?a").unwrap_or(path)) {
        let house = keeping().build().await;
        let mut caller = house.caller().await;
        for read in folders {
            warm(&mut caller, read).await;
        }
        let made = caller.call(post(path, write_body("made"))).await;
        assert_eq!(made.status, StatusCode::CREATED, "{path}");
        for read in folders {
            assert_eq!(revision(&caller.get(read).await), Some(1), "{path} and {read}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_condition_or_a_part_of_what_was_kept_before_a_write_is_of_no_use_after_it() {
    let house = keeping().build().await;
    let mut caller = house.caller().await;
    let tag = caller.get(FOLDERS).await.headers["etag"].clone();
    let asked = |name: &'static str, value: &HeaderValue| {
        get(FOLDERS).header(name, value).body(Full::default()).unwrap()
    };
    let part = HeaderValue::from_static("bytes=0-3");
    assert_eq!(caller.call(asked("if-none-match", &tag)).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(caller.call(asked("range", &part)).await.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(house.omni.arrived(), 1);
    caller.call(make_folder("made")).await;
    let answer = caller.call(asked("range", &part)).await;
    assert!(!is_hit(&answer), "{}", answer.header("cache-status"));
    let answer = caller.call(asked("if-none-match", &tag)).await;
    assert_eq!(revision(&answer), Some(1));
}

fn said(status: u16) -> Fault {
    Fault::Status(StatusCode::from_u16(status).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_write_that_ends_badly_counts_and_a_definite_refusal_does_not() {
    let slow = Fault::SlowHead(20 * SECOND);
    let resets = [Reset::OnArrival, Reset::BeforeHead, Reset::AfterHead, Reset::MidBody];
    let doubts = [300, 307, 408, 500, 501, 502, 503, 504].map(said);
    let doubts = doubts.into_iter().chain(resets.map(Fault::Reset)).chain([slow]);
    let definite = [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 425, 451].map(said);
    let all = doubts.map(|fault| (fault, true));
    let all = all.chain(definite.map(|fault| (fault, false)));
    for (nth, (fault, counts)) in all.enumerate() {
        let house = keeping().build().await;
        let (mut caller, mut direct) = (house.caller().await, Direct::to(&house).await);
        warm(&mut caller, FOLDERS).await;
        house.omni.fail(Rule::new(fault.clone()).method(Method::POST).owner("org").times(1));
        let end = house.call(make_folder(&format!("f{nth}"))).await.await.unwrap();
        assert_ne!(end.status(), 201, "{fault:?}");
        let answer = caller.get(FOLDERS).await;
        assert_eq!(!is_hit(&answer), counts, "{fault:?} ended in {}", end.status());
        assert_eq!(revision(&answer), direct.revision(FOLDERS).await, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_refusal_of_a_repeated_write_says_nothing_of_the_first_attempt() {
    for fault in [Fault::Reset(Reset::BeforeHead), Fault::SlowHead(20 * SECOND)] {
        let house = keeping().build().await;
        let (mut caller, mut direct) = (house.caller().await, Direct::to(&house).await);
        let list = caller.get(FOLDERS).await.json();
        let id = list["records"][0]["id"].as_str().unwrap();
        let request = |id: &str| {
            let path = format!("{FOLDERS}/{id}?force=true");
            Request::delete(path).header("host", "127.0.0.1:6664").body(Full::default()).unwrap()
        };
        warm(&mut caller, FOLDERS).await;
        house.omni.fail(Rule::new(fault.clone()).method(Method::DELETE).times(1));
        // Done the first time, and so not there any more the second time.
        let end = house.call(request(id)).await.await.unwrap();
        assert_eq!(end.status(), 404, "{fault:?}");
        let answer = caller.get(FOLDERS).await;
        assert_eq!(revision(&answer), direct.revision(FOLDERS).await, "{fault:?}");
        // A refusal of the only attempt is one.
        let end = house.call(request(id)).await.await.unwrap();
        assert_eq!(end.status(), 404);
        assert!(is_hit(&caller.get(FOLDERS).await));
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_after_its_write_was_sent_leaves_the_list_stale_and_before_that_it_does_not() {
    let mut plan = keeping();
    plan.budget = "burst = 1".to_owned();
    let house = plan.build().await;
    let mut caller = house.caller().await;
    warm(&mut caller, FOLDERS).await;
    let hold = Hold::new();
    house.omni.fail(Rule::new(Fault::Hold(hold.clone())).method(Method::POST));
    let leaves = house.call(make_folder("unsent")).await;
    assert_eq!((house.queued(), house.omni.arrived()), (1, 1));
    leaves.abort();
    let _ = leaves.await;
    sleep(SECOND / 1000).await;
    assert!(is_hit(&caller.get(FOLDERS).await));
    let leaves = house.call(make_folder("sent")).await;
    hold.wait_for(1).await;
    assert_eq!(revision(&caller.get(FOLDERS).await), Some(0));
    leaves.abort();
    let _ = leaves.await;
    sleep(SECOND / 1000).await;
    assert_eq!(revision(&caller.get(FOLDERS).await), Some(1));
}

/// Its body is not read, so its exchange is not over.
#[tokio::test(start_paused = true)]
async fn who_sees_no_more_than_the_head_of_a_failure_reads_anew() {
    let house = keeping().build().await;
    let mut caller = house.caller().await;
    for (nth, fault) in [Fault::Reset(Reset::BeforeHead), said(500)].into_iter().enumerate() {
        warm(&mut caller, FOLDERS).await;
        house.omni.fail(Rule::new(fault.clone()).method(Method::POST).times(1));
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(0);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(house.connect())).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("http://127.0.0.1:6664{FOLDERS}"));
        let body = Full::new(Bytes::from(write_body(&format!("f{nth}"))));
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let head = sender.send_request(request).await.unwrap();
        assert!(head.status().is_server_error());
        assert!(!is_hit(&caller.get(FOLDERS).await), "{fault:?}");
        drop(head);
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_asks_leaves_everything_as_it_is_and_what_nobody_knows_leaves_nothing() {
    let house = keeping().build().await;
    let mut caller = house.caller().await;
    let reads = kept_reads();
    for read in &reads {
        warm(&mut caller, read).await;
    }
    for path in ["query/run", "ai/generate-query", "ai/pick-topic", "ai/search-omni-docs"] {
        let asked = caller.call(post(&format!("/api/v1/{path}"), write_body("x"))).await;
        assert_eq!(asked.status, StatusCode::OK, "{path}");
    }
    for method in [Method::OPTIONS, Method::TRACE] {
        house.call(write(&method, FOLDERS)).await.await.unwrap();
    }
    for read in &reads {
        assert!(is_hit(&caller.get(read).await), "{read}");
    }
    let unknown = [
        (Method::POST, "/api/v1/brand-new"),
        (Method::POST, "/api/v3/folders"),
        (Method::PATCH, "/api/v1/labels"),
        (Method::DELETE, "/api/v1/documents"),
        (Method::from_bytes(b"PURGE").unwrap(), FOLDERS),
    ];
    for (method, path) in unknown {
        house
            .omni
            .fail(Rule::new(Fault::Answer(Response::new("{}".into()))).method(method.clone()));
        let done = caller.call(write(&method, path)).await;
        house.omni.heal();
        if done.status == StatusCode::METHOD_NOT_ALLOWED || done.status == StatusCode::NOT_FOUND {
            println!("{method} {path} is not passed on: {}", done.status);
            continue;
        }
        assert_eq!(done.status, StatusCode::OK, "{method} {path}");
        for read in &reads {
            assert!(!is_hit(&caller.get(read).await), "{method} {path}: {read}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_began_before_a_write_is_kept_for_nobody_and_given_to_nobody_after_it() {
    for late in ["", "no-cache", "max-stale"] {
        let house = keeping().build().await;
        let hold = Hold::new();
        let slow = Rule::new(Fault::Hold(hold.clone())).method(Method::GET).path(FOLDERS);
        house.omni.fail(slow.times(1));
        let first = house.call(plain(FOLDERS)).await;
        hold.wait_for(1).await;
        let second = house.call(plain(FOLDERS)).await;
        sleep(SECOND).await;
        let made = house.caller().await.call(make_folder("made")).await;
        assert_eq!(made.status, StatusCode::CREATED);
        let asked = get(FOLDERS).header("cache-control", late).body(Full::default()).unwrap();
        let answer = house.call(asked).await.await.unwrap().answer.unwrap();
        assert_eq!(revision(&answer), Some(1), "{late}");
        assert!(is_stored(&answer), "{}", answer.header("cache-status"));
        hold.release();
        for early in [first, second] {
            let answer = early.await.unwrap().answer.unwrap();
            assert_eq!(revision(&answer), Some(0));
            assert!(!is_stored(&answer));
        }
        let after = house.caller().await.get(FOLDERS).await;
        assert_eq!((revision(&after), is_hit(&after)), (Some(1), true), "{late}");
        assert_eq!(house.omni.arrived(), 3);
    }
}

/// Nobody has written by the gateway, so nothing says that the kept answer is old but the times at
/// which they were sent for.
#[tokio::test(start_paused = true)]
async fn a_slow_fill_does_not_take_the_place_of_a_newer_one() {
    let house = keeping().build().await;
    let hold = Hold::new();
    let slow = Rule::new(Fault::Hold(hold.clone())).method(Method::GET).owner("org");
    house.omni.fail(slow.times(1));
    let first = house.call(plain(FOLDERS)).await;
    hold.wait_for(1).await;
    sleep(SECOND).await;
    Direct::to(&house).await.call(make_folder("made elsewhere")).await;
    let anew = get(FOLDERS).header("cache-control", "no-cache").body(Full::default()).unwrap();
    let mut caller = house.caller().await;
    assert_eq!(revision(&caller.call(anew).await), Some(1));
    hold.release();
    let first = first.await.unwrap();
    assert_eq!(revision(&first.answer.unwrap()), Some(0));
    let after = caller.get(FOLDERS).await;
    assert_eq!((revision(&after), is_hit(&after)), (Some(1), true));
}
