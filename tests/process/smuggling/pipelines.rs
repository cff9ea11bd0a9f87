//! Cases about what stands behind a request: a second one that was meant, or one inside a body.

use super::talk::{Case, EVIL, Meant, own, up};

const HOST: &str = "Host: 127.0.0.1\r\n";

/// A second request that everybody sees.
const SECOND: &str = "GET /x?serial=NNNNNN.1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

pub(super) fn all() -> Vec<Case> {
    let mut cases = bodies();
    cases.extend(refusals());
    cases.extend(kept());
    cases.extend(unfinished());
    cases
}

fn request(method: &str, target: &str, fields: &str, body: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\n{HOST}{fields}\r\n{body}")
}

/// A body that looks like a request: by its length, and in chunks.
fn framed() -> [(&'static str, String, String); 2] {
    let length = EVIL.len();
    [
        ("by length", format!("Content-Length: {length}\r\n"), EVIL.to_owned()),
        (
            "in chunks",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("{length:x}\r\n{EVIL}\r\n0\r\n\r\n"),
        ),
    ]
}

fn head_of(meant: Meant) -> Meant {
    Meant { is_head: true, ..meant }
}

fn bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
        let meant = if method == "HEAD" { head_of(up("0")) } else { up("0") };
        for (how, fields, body) in framed() {
            let target = "/x?serial=NNNNNN.0";
            let one = request(method, target, &fields, &body);
            let name = format!("{method} with a request for a body, {how}");
            cases.push(Case::new(&name, one.clone(), std::slice::from_ref(&meant)).all());
            let name = format!("{name}, then another");
            let two = format!("{one}{SECOND}");
            cases.push(Case::new(name, two, &[meant.clone(), up("1")]).all());
        }
    }
    let five: String = ["0", "1", "2", "3", "4"]
        .map(|place| request("GET", &format!("/x?serial=NNNNNN.{place}"), "", ""))
        .concat();
    let meant = [up("0"), up("1"), up("2"), up("3"), up("4")];
    cases.push(Case::new("five in a row", five, &meant).all());
    let closing = request("GET", "/x?serial=NNNNNN.0", "Connection: close\r\n", "");
    cases.push(Case::new("behind a close", format!("{closing}{EVIL}"), &[up("0")]).all());
    cases
}

/// Behind answers of the gateway's own, whose request bodies nobody has asked for.
fn refusals() -> Vec<Case> {
    let mut cases = Vec::new();
    for (method, target, more, status) in [
        ("POST", "/x/../y?serial=NNNNNN.e", "", 400),
        ("POST", "/x;y?serial=NNNNNN.e", "", 400),
        ("POST", "/nowhere?serial=NNNNNN.e", "", 404),
        ("GET", "/nowhere?serial=NNNNNN.e", "", 404),
        ("HEAD", "/nowhere?serial=NNNNNN.e", "", 404),
        ("POST", "/get?serial=NNNNNN.e", "", 405),
        ("POST", "/small?serial=NNNNNN.0", "", 413),
        ("POST", "/x?userId=7&serial=NNNNNN.e", "", 403),
        ("POST", "/x?serial=NNNNNN.e", "X-MCP-User-ID: 7\r\n", 403),
        ("POST", "/x?serial=NNNNNN.e", "Content-Encoding: gzip\r\n", 415),
        ("POST", "/x?serial=NNNNNN.e", "Expect: 200-ok\r\n", 417),
        ("POST", "/x?serial=NNNNNN.e", "Upgrade: h2c\r\n", 400),
        ("POST", "/x?serial=NNNNNN.e", "Host: 127.0.0.1\r\n", 400),
    ] {
        for (how, fields, body) in framed() {
            let is_head = method == "HEAD";
            let meant = Meant { is_head, ..own(status) };
            let one = request(method, target, &format!("{more}{fields}"), &body);
            let name = format!("behind {status} for {method} {target} {more:?}, {how}");
            // A chunked body is too long for `/small` only once it is read, when upstream has its head.
            let late = status == 413 && how == "in chunks";
            let case = Case::new(&name, one.clone(), std::slice::from_ref(&meant));
            if !late {
                cases.push(case.all());
            }
            let two = format!("{one}{SECOND}");
            cases.push(Case::new(format!("{name}, then another"), two, &[meant, up("1")]));
        }
    }
    cases
}

/// Behind answers that are kept: they cost upstream nothing, and still have bodies before them.
fn kept() -> Vec<Case> {
    let target = "/kept?serial=NNNNNN.0";
    let fresh = request("GET", target, "", "");
    // It may come before the first answer is kept, and then asks for itself.
    let again = up("0");
    let mut cases = Vec::new();
    let twice = format!("{fresh}{fresh}{SECOND}");
    cases.push(Case::new("a kept answer", twice, &[up("0"), again.clone(), up("1")]).all());
    for (how, fields, body) in framed() {
        // A GET with a body is never answered from what is kept.
        let sent = format!("{fresh}{}{SECOND}", request("GET", target, &fields, &body));
        let name = format!("a body where answers are kept, {how}");
        cases.push(Case::new(name, sent, &[up("0"), up("0"), up("1")]).all());
    }
    let only = request("GET", "/kept?serial=NNNNNN.e", "Cache-Control: only-if-cached\r\n", "");
    let sent = format!("{only}{SECOND}");
    cases.push(Case::new("only what is kept, of nothing", sent, &[own(504), up("1")]).all());
    let head = request("HEAD", target, "", "");
    let meant = [up("0"), head_of(again), up("1")];
    cases.push(Case::new("a kept answer for HEAD", format!("{fresh}{head}{SECOND}"), &meant));
    cases
}

/// Behind what never ends, and behind an upstream that is silent.
fn unfinished() -> Vec<Case> {
    let mut cases = Vec::new();
    let half = "GET /x?serial=NNNNNN.e HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ";
    cases.push(Case::new("a head without an end", half, &[]));
    let first = request("GET", "/x?serial=NNNNNN.0", "", "");
    cases.push(
        Case::new("half a head behind a request", format!("{first}{half}"), &[up("0")]).all(),
    );
    let late = Meant { arrives: "0", ..own(504) };
    for (how, fields, body) in framed() {
        let slow = request("POST", "/slow?serial=NNNNNN.0", &fields, &body);
        let name = format!("a silent upstream, {how}");
        cases.push(Case::new(&name, slow.clone(), std::slice::from_ref(&late)).all());
        let sent = format!("{slow}{SECOND}");
        cases.push(Case::new(format!("{name}, then another"), sent, &[late.clone(), up("1")]));
        let sent = request("POST", "/x?serial=NNNNNN.0", &fields, &body[..body.len() / 2]);
        cases.push(Case::new(format!("half a body, {how}"), sent, &[up("0")]).leaves());
    }
    cases
}
