//! Cases in HTTP/2: what becomes of fields and lengths that HTTP/1.1 would read otherwise.

use super::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, field, frame};
use super::talk::EVIL;

/// What may become of the first request. There is a second one behind it, a plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is a good one.
    Arrives,
    /// It is malformed, or not for a gateway.
    Never,
    /// Either is right.
    Either,
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    /// The frames, with `NNNNNN` for the number.
    pub(super) sent: Vec<u8>,
    pub(super) fate: Fate,
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn plain(method: &str) -> Fields {
    let pairs = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "127.0.0.1"),
        (":path", "/x?serial=NNNNNN.0"),
    ];
    pairs.map(|(name, value)| (name.into(), value.into())).into()
}

fn block(fields: &Fields) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// The request on stream 1, a plain one on stream 3.
fn sent(fields: &Fields, rest: &[Vec<u8>]) -> Vec<u8> {
    let ends = if rest.is_empty() { END_STREAM } else { 0 };
    let mut bytes = frame(HEADERS, END_HEADERS | ends, 1, &block(fields));
    bytes.extend(rest.concat());
    let mut second = plain("GET");
    second[3].1 = b"/x?serial=NNNNNN.1".to_vec();
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&second)));
    bytes
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = vec![Case {
        name: "a plain one".to_owned(),
        sent: sent(&plain("GET"), &[]),
        fate: Fate::Arrives,
    }];
    cases.extend(added());
    cases.extend(pseudo());
    cases.extend(lengths());
    cases.extend(torn());
    cases
}

/// A field too many.
fn added() -> Vec<Case> {
    use Fate::{Arrives, Either, Never};
    let evil = format!("a\r\n\r\n{EVIL}");
    let fields: [(&[u8], &[u8], Fate); 38] = [
        (b"connection", b"close", Never),
        (b"connection", b"keep-alive, authorization", Never),
        (b"transfer-encoding", b"chunked", Never),
        (b"transfer-encoding", b"identity", Never),
        (b"keep-alive", b"timeout=5", Never),
        (b"proxy-connection", b"keep-alive", Never),
        (b"upgrade", b"h2c", Never),
        (b"te", b"gzip", Never),
        (b"te", b"trailers, chunked", Never),
        (b"te", b"trailers", Arrives),
        (b"http2-settings", b"AAMAAABkAAQAAP__", Either),
        (b"Accept", b"text/csv", Never),
        (b"ACCEPT", b"text/csv", Never),
        (b"accept ", b"text/csv", Never),
        (b" accept", b"text/csv", Never),
        (b"accept:", b"text/csv", Never),
        (b"accept\r\nx", b"text/csv", Never),
        (b"acc\0ept", b"text/csv", Never),
        (b"acc\xe9pt", b"text/csv", Never),
        (b"", b"text/csv", Never),
        (b"accept", evil.as_bytes(), Never),
        (b"user-agent", evil.as_bytes(), Never),
        (b"x", b"a\rb", Never),
        (b"x", b"a\nb", Never),
        (b"x", b"a\0b", Never),
        (b"x", b"\r\n", Never),
        (b"accept", b" text/csv", Either),
        (b"accept", b"text/csv\t", Either),
        (b"accept", b"\xff\xfe", Either),
        (b"host", b"127.0.0.1", Either),
        (b"host", b"evil.example", Never),
        (b"host", b"127.0.0.1:6664", Never),
        (b"host", b"", Never),
        (b"expect", b"200-ok", Never),
        (b"expect", b"100-continue", Either),
        (b":status", b"200", Never),
        (b":evil", b"x", Never),
        (b":path", b"/x?serial=NNNNNN.e", Never),
    ];
    let one = |(name, value, fate): (&[u8], &[u8], Fate)| {
        let mut all = plain("GET");
        all.push((name.to_vec(), value.to_vec()));
        let said = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        Case { name: format!("{said:?}"), sent: sent(&all, &[]), fate }
    };
    fields.into_iter().map(one).collect()
}

/// Pseudo-fields: doubled, missing, late, and with what a request line cannot hold.
fn pseudo() -> Vec<Case> {
    use Fate::{Arrives, Either, Never};
    let mut cases = Vec::new();
    let line = format!("/x?serial=NNNNNN.0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n{EVIL}");
    let method = format!("GET /x?serial=NNNNNN.e HTTP/1.1\r\n\r\n{EVIL}GET");
    for (at, value, fate) in [
        (0, method.as_str(), Never),
        (0, "GET ", Never),
        (0, "GET\r\n", Never),
        (0, "", Never),
        (0, "CONNECT", Never),
        (0, "TRACE", Never),
        (0, "get", Either),
        (1, "http://127.0.0.1/x?serial=NNNNNN.e#", Never),
        (1, "ftp", Never),
        (1, "", Never),
        (1, "https", Arrives),
        (2, "user@127.0.0.1", Never),
        (2, "127.0.0.1\r\nX: y", Never),
        (2, "127.0.0.1/x?serial=NNNNNN.e&", Never),
        (2, "127.0.0.1 ", Never),
        (2, "", Never),
        (3, line.as_str(), Never),
        (3, "/x?serial=NNNNNN.0 ", Never),
        (3, "/x?serial=NNNNNN.0\r\nX: y", Never),
        (3, "/x?serial=NNNNNN.0\n", Never),
        (3, "/x?serial=NNNNNN.0\0", Never),
        (3, "/x ?serial=NNNNNN.0", Never),
        (3, "/x?serial=NNNNNN.0#/../get", Either),
        (3, "/y/../x?serial=NNNNNN.0", Never),
        (3, "/%2e%2e/x?serial=NNNNNN.0", Never),
        (3, "\\x?serial=NNNNNN.0", Never),
        (3, "x?serial=NNNNNN.0", Never),
        (3, "//evil.example/x?serial=NNNNNN.0", Never),
        (3, "http://evil.example/x?serial=NNNNNN.0", Never),
        (3, "http://127.0.0.1/x?serial=NNNNNN.0", Either),
        (3, "*", Never),
        (3, "", Never),
        (3, "?serial=NNNNNN.0", Never),
    ] {
        let mut all = plain("GET");
        all[at].1 = value.as_bytes().to_vec();
        let name = format!("{} {value:?}", String::from_utf8_lossy(&all[at].0));
        cases.push(Case { name, sent: sent(&all, &[]), fate });
    }
    for at in 0..4 {
        let all = plain("GET");
        let shown = String::from_utf8_lossy(&all[at].0).into_owned();
        let mut twice = all.clone();
        twice.insert(at, all[at].clone());
        let mut missing = all.clone();
        missing.remove(at);
        let mut late = all.clone();
        let moved = late.remove(at);
        late.extend([(b"accept".to_vec(), b"*/*".to_vec()), moved]);
        for (what, fields) in [("twice", twice), ("missing", missing), ("late", late)] {
            let name = format!("{shown} {what}");
            cases.push(Case { name, sent: sent(&fields, &[]), fate: Never });
        }
    }
    let mut connect = plain("CONNECT");
    connect.insert(1, (b":protocol".to_vec(), b"websocket".to_vec()));
    cases.push(Case { name: "a websocket".into(), sent: sent(&connect, &[]), fate: Never });
    cases
}

/// Lengths that lie, and trailers.
fn lengths() -> Vec<Case> {
    use Fate::{Arrives, Either, Never};
    let whole = EVIL.len();
    let mut cases = Vec::new();
    for (values, fate) in [
        (vec![whole.to_string()], Arrives),
        (vec![], Arrives),
        (vec!["0".to_owned()], Never),
        (vec![(whole - 1).to_string()], Never),
        (vec![(whole + 1).to_string()], Never),
        (vec![whole.to_string(), whole.to_string()], Never),
        (vec![whole.to_string(), "0".to_owned()], Never),
        (vec!["0".to_owned(), whole.to_string()], Never),
        (vec![format!("{whole}, {whole}")], Never),
        (vec![format!("+{whole}")], Never),
        (vec![format!("-{whole}")], Never),
        (vec![format!("{whole} ")], Either),
        (vec!["x".to_owned()], Never),
        (vec![String::new()], Never),
        (vec!["99999999999999999999999".to_owned()], Never),
    ] {
        let name = format!("a body of {whole} bytes that says {values:?}");
        let mut all = plain("POST");
        all.extend(values.into_iter().map(|value| (b"content-length".to_vec(), value.into())));
        let body = frame(DATA, END_STREAM, 1, EVIL.as_bytes());
        cases.push(Case { name, sent: sent(&all, &[body]), fate });
    }
    let mut says = plain("GET");
    says.push((b"content-length".to_vec(), whole.to_string().into()));
    let name = "a length without a body".to_owned();
    cases.push(Case { name, sent: sent(&says, &[]), fate: Never });
    for (name, value) in [
        ("x-leaked", "leaked"),
        ("content-length", "5"),
        ("authorization", "Bearer leaked"),
        ("host", "leaked"),
        ("transfer-encoding", "chunked"),
        (":path", "/x?serial=NNNNNN.e"),
        (":status", "200"),
        ("x", "a\r\nleaked: b"),
        ("X-Leaked", "leaked"),
    ] {
        let body = frame(DATA, 0, 1, EVIL.as_bytes());
        let trailer = field(name.as_bytes(), value.as_bytes());
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailer);
        let name = format!("a trailer {name}: {value:?}");
        let sent = sent(&plain("POST"), &[body, trailers]);
        cases.push(Case { name, sent, fate: Either });
    }
    cases
}

/// Heads that come in pieces.
fn torn() -> Vec<Case> {
    let all = block(&plain("GET"));
    let (first, rest) = all.split_at(all.len() / 2);
    let begun = frame(HEADERS, END_STREAM, 1, first);
    let ended = frame(CONTINUATION, END_HEADERS, 1, rest);
    let elsewhere = frame(CONTINUATION, END_HEADERS, 3, rest);
    let between = frame(DATA, 0, 1, EVIL.as_bytes());
    let behind = frame(DATA, END_STREAM, 1, EVIL.as_bytes());
    let whole = frame(HEADERS, END_HEADERS | END_STREAM, 1, &all);
    let mut cases = Vec::new();
    for (name, frames, fate) in [
        ("a head in two pieces", vec![begun.clone(), ended.clone()], Fate::Arrives),
        ("a piece for another stream", vec![begun.clone(), elsewhere], Fate::Never),
        ("a body between two pieces", vec![begun, between, ended], Fate::Never),
        ("a body behind the end", vec![whole.clone(), behind], Fate::Either),
        ("a stream that is opened twice", vec![whole.clone(), whole], Fate::Either),
    ] {
        let sent = frames.concat();
        cases.push(Case { name: name.to_owned(), sent, fate });
    }
    cases
}
