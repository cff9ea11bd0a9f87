//! Cases about heads: lines, names and values that some read otherwise, and protocols that are not ours.

use super::talk::{Case, EVIL, own, up};

const HOST: &str = "Host: 127.0.0.1\r\n";

/// A smuggled request with line ends of another kind.
fn evil_with(end: &str) -> String {
    EVIL.replace("\r\n", end)
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = fields();
    cases.extend(beginnings());
    cases.extend(versions());
    cases.extend(other_protocols());
    cases.extend(expectations());
    cases
}

fn get(fields: &str) -> String {
    format!("GET /x?serial=NNNNNN.0 HTTP/1.1\r\n{HOST}{fields}\r\n")
}

fn fields() -> Vec<Case> {
    let mut cases = Vec::new();
    for field in [
        ": empty",
        "no colon",
        "X Y: z",
        "X : z",
        "X\t: z",
        " X: z",
        "X: y\r\n folded",
        "X:\r\n\tfolded",
        "Accept: a\r\n b: c",
        "(X): y",
        "X\u{e9}: y",
        "X\0: y",
        "X: y\0z",
        "X: \x01",
        "X: \x7f",
        "X: \u{e9}",
        "X@: y",
        "X[]: y",
        "\"X\": y",
        "X: y\rz",
        "X: y\r",
        "X: \r\r\n",
        "Host : 127.0.0.1",
        "HOST: 127.0.0.1",
        "Host: evil.example",
        "Host:\r\n evil.example",
        "X-HTTP-Method-Override: POST",
        "Connection: close, content-length\r\nContent-Length: 0",
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 0",
    ] {
        cases.push(Case::new(format!("field {field:?}"), get(&format!("{field}\r\n")), &[up("0")]));
    }
    // A request inside of a field's value.
    for (what, end) in [("returns", "\r"), ("NUL", "\0"), ("VT", "\x0b"), ("NEL", "\u{85}")] {
        for field in ["X", "Accept", "User-Agent", "X-Request-Id", "Via", "Prefer"] {
            let value = evil_with(end);
            let sent = get(&format!("{field}: y{end}{end}{value}\r\n"));
            cases.push(Case::new(format!("a request in {field}, with {what}"), sent, &[up("0")]));
        }
    }
    // To whoever takes a bare line feed as a line's end this is a second request, in full sight.
    let second = "GET /x?serial=NNNNNN.1 HTTP/1.1\nHost: 127.0.0.1\n\n";
    let sent = format!("GET /x?serial=NNNNNN.0 HTTP/1.1\nHost: 127.0.0.1\nX: y\n\n{second}");
    cases.push(Case::new("line feeds alone", sent, &[up("0"), up("1")]));
    let length = format!("X: y\nContent-Length: {}\r\n", EVIL.len());
    cases.push(Case::new("a length behind a line feed", get(&length) + EVIL, &[up("0")]));
    let coding = "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    cases.push(Case::new("a coding behind a line feed", get(coding) + "0\r\n\r\n", &[up("0")]));
    cases
}

fn beginnings() -> Vec<Case> {
    let plain = get("");
    let mut cases = Vec::new();
    for (what, before) in [
        ("one line end", "\r\n"),
        ("line ends", "\r\n\r\n\r\n"),
        ("line feeds", "\n\n"),
        ("a space", " "),
        ("a tab", "\t"),
        ("NUL", "\0"),
        ("a return", "\r"),
        ("a BOM", "\u{feff}"),
        ("a last chunk", "0\r\n\r\n"),
        ("a TLS hello", "\x16\x03\x01\x02\0\x01\0"),
        ("a PROXY line", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"),
    ] {
        cases.push(Case::new(format!("{what} first"), format!("{before}{plain}"), &[up("0")]));
        let second = "GET /x?serial=NNNNNN.1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        let sent = format!("{plain}{before}{second}");
        cases.push(Case::new(format!("{what} between"), sent, &[up("0"), up("1")]));
    }
    for line in [
        "GET /x?serial=NNNNNN.0\rHTTP/1.1",
        "GET /x?serial=NNNNNN.0 HTTP/1.1\rX: y",
        "GET /x?serial=NNNNNN.0 HTTP/1.1\0",
        "GET /x?serial=NNNNNN.0\u{a0}HTTP/1.1",
        "GET /x?serial=NNNNNN.0\x0bHTTP/1.1",
        "GET\0 /x?serial=NNNNNN.0 HTTP/1.1",
        "GET /x?serial=NNNNNN.0 HTTP/1.1 GET /x?serial=NNNNNN.e HTTP/1.1",
        "GET /x?serial=NNNNNN.0 /x?serial=NNNNNN.e HTTP/1.1",
        "GET http://127.0.0.1/x?serial=NNNNNN.0 HTTP/1.1",
        "GET http://evil.example/x?serial=NNNNNN.e HTTP/1.1",
    ] {
        let sent = format!("{line}\r\n{HOST}\r\n");
        cases.push(Case::new(format!("{line:?}"), sent, &[up("0")]));
    }
    cases
}

fn versions() -> Vec<Case> {
    let mut cases = Vec::new();
    let length = EVIL.len();
    for version in ["1.0", "1.1", "1.2", "2.0", "3", "0.9", "1.", "1.1.1", "01.1", "1,1", "x"] {
        let head = format!("POST /x?serial=NNNNNN.0 HTTP/{version}\r\n{HOST}");
        let kept = "Connection: keep-alive\r\n";
        let sent = format!("{head}{kept}Content-Length: {length}\r\n\r\n{EVIL}");
        cases.push(Case::new(format!("HTTP/{version} with a length"), sent, &[up("0")]));
        let body = format!("{length:x}\r\n{EVIL}\r\n0\r\n\r\n");
        let sent = format!("{head}{kept}Transfer-Encoding: chunked\r\n\r\n{body}");
        cases.push(Case::new(format!("HTTP/{version} in chunks"), sent, &[up("0")]));
    }
    let bare = "GET /x?serial=NNNNNN.0\r\n";
    cases.push(Case::new("HTTP/0.9", bare, &[]));
    cases.push(Case::new("HTTP/0.9, then 1.1", format!("{bare}{EVIL}"), &[]));
    // Without a length the body of an HTTP/1.0 request has none, and its connection ends.
    let sent = format!("POST /x?serial=NNNNNN.0 HTTP/1.0\r\n{HOST}\r\n{EVIL}");
    cases.push(Case::new("HTTP/1.0 without a length", sent, &[up("0")]));
    cases
}

fn other_protocols() -> Vec<Case> {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut cases = Vec::new();
    for upgrade in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "Upgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
        "Connection: Upgrade\r\nUpgrade:\r\n",
    ] {
        for next in [preface, EVIL] {
            let sent = format!("{}{next}", get(upgrade));
            cases.push(Case::new(format!("{upgrade:?}, then {next:?}"), sent, &[own(400)]).all());
        }
    }
    let sent = format!("{}{preface}{EVIL}", get(""));
    cases.push(Case::new("h2 behind h1", sent, &[up("0")]));
    let connect = format!("CONNECT 127.0.0.1:443 HTTP/1.1\r\n{HOST}\r\n{EVIL}");
    cases.push(Case::new("a tunnel", connect, &[]));
    cases
}

fn expectations() -> Vec<Case> {
    let length = EVIL.len();
    let post = |fields: &str, body: &str| {
        format!("POST /x?serial=NNNNNN.0 HTTP/1.1\r\n{HOST}{fields}\r\n{body}")
    };
    let counted = format!("Content-Length: {length}\r\n");
    let mut cases = Vec::new();
    for expect in ["100-continue", "100-Continue", "100-continue "] {
        let sent = post(&format!("Expect: {expect}\r\n{counted}"), EVIL);
        cases.push(Case::new(format!("expects {expect:?}"), sent, &[up("0")]).all());
    }
    for expect in ["200-ok", "100-continue, 200-ok", "x", "\"100-continue\"", "100-continue;a"] {
        let sent = post(&format!("Expect: {expect}\r\n{counted}"), EVIL);
        cases.push(Case::new(format!("expects {expect:?}"), sent, &[own(417)]));
    }
    let twice = format!("Expect: 100-continue\r\nExpect: 100-continue\r\n{counted}");
    cases.push(Case::new("expects twice", post(&twice, EVIL), &[up("0")]));
    let other = format!("Expect: 100-continue\r\nExpect: 200-ok\r\n{counted}");
    cases.push(Case::new("expects two things", post(&other, EVIL), &[own(417)]));
    let sent = get("Expect: 100-continue\r\n");
    cases.push(Case::new("a GET that expects", sent, &[up("0")]));
    let body = format!("{length:x}\r\n{EVIL}\r\n0\r\n\r\n");
    let sent = post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", &body);
    cases.push(Case::new("expects, then chunks", sent, &[up("0")]).all());
    let sent = post("Expect: 100-continue\r\nContent-Length: 0\r\n", "");
    cases.push(Case::new("expects, for nothing", sent, &[up("0")]));
    let sent = post(&format!("Expect: 100-continue\r\n{counted}"), "");
    cases.push(Case::new("expects, and leaves", sent, &[up("0")]).leaves());
    let old =
        format!("POST /x?serial=NNNNNN.0 HTTP/1.0\r\n{HOST}Expect: 100-continue\r\n{counted}");
    cases.push(Case::new("expects in 1.0", format!("{old}\r\n{EVIL}"), &[up("0")]));
    cases
}
