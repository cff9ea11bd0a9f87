//! Cases about lengths, codings and chunks: where does the first request end?

use super::talk::{Case, EVIL, up};

const HOST: &str = "Host: 127.0.0.1\r\n";

/// Other ways to write `Transfer-Encoding: chunked`; some are no such field, to anybody who is strict.
const CODINGS: [&str; 38] = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding: Chunked",
    "TRANSFER-ENCODING: CHUNKED",
    "transfer-encoding: chunked ",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding:  \t chunked\t",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: chunked\x0b",
    "Transfer-Encoding:\x0cchunked",
    "Transfer-Encoding: \0chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chun\r\n ked",
    "X: y\r\n Transfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding\0: chunked",
    "\x0bTransfer-Encoding: chunked",
    "Transfer-Encoding: \u{ff43}hunked",
];

/// Ways to write a length that some take; `#` stands for the number, `+` after it for one more.
const LENGTHS: [&str; 34] = [
    "Content-Length: #\r\nContent-Length: #",
    "Content-Length: #\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: #",
    "CONTENT-LENGTH: #\r\ncontent-length: 0",
    "Content-Length: #, #",
    "Content-Length: #,#",
    "Content-Length: #, 0",
    "Content-Length: 0, #",
    "Content-Length: #,",
    "Content-Length: ,#",
    "Content-Length: +#",
    "Content-Length: -#",
    "Content-Length: -0",
    "Content-Length: 0x#",
    "Content-Length: #.0",
    "Content-Length: #e0",
    "Content-Length: # 0",
    "Content-Length: 0 #",
    "Content-Length: #;",
    "Content-Length: \"#\"",
    "Content-Length: \x0b#",
    "Content-Length: #\x0c",
    "Content-Length: #\0",
    "Content-Length:",
    "Content-Length: x",
    "Content-Length: 99999999999999999999999999",
    "Content-Length: 18446744073709551616",
    "Content-Length : #",
    "Content-Length\t: #",
    " Content-Length: #",
    "Content-Length:\r\n #",
    "Content-Length: 0\r\n #",
    "Content-Length: \u{0661}\u{0662}",
    "Content-Length: _#",
];

/// What may be put in place of the size of a chunk; `#` stands for it, in hexadecimal digits.
const SIZES: [&str; 30] = [
    "00000#",
    "0x#",
    "0X#",
    "+#",
    "-#",
    " #",
    "\t#",
    "# ",
    "#\t",
    "#;",
    "#;a",
    "#;a=b",
    "#;a=\"\r\n\"",
    "#;a=\"\\\"\r\n0\r\n\r\n",
    "#;\n0",
    "#;a\rb",
    "#\0",
    "#\x0b",
    "#,",
    "#.0",
    "_#",
    "10000000000000000#",
    "ffffffffffffffff",
    "8000000000000000",
    "7fffffffffffffff",
    "g",
    "",
    "#\r\n#",
    "\u{ff11}",
    "0#h",
];

pub(super) fn all() -> Vec<Case> {
    let mut cases = codings();
    cases.extend(lengths());
    cases.extend(chunks());
    cases.extend(trailers());
    cases
}

fn chunked(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len())
}

fn post(version: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("POST /x?serial=NNNNNN.0 HTTP/{version}\r\n{HOST}{fields}\r\n{body}").into_bytes()
}

fn codings() -> Vec<Case> {
    let mut cases = Vec::new();
    for coding in CODINGS {
        let last_chunk = format!("0\r\n\r\n{EVIL}");
        let length = format!("Content-Length: {}\r\n", last_chunk.len());
        // Whoever counts the length has one request; whoever takes the coding has two.
        for (order, fields) in [
            ("a length, then", format!("{length}{coding}\r\n")),
            ("a length behind", format!("{coding}\r\n{length}")),
        ] {
            let sent = post("1.1", &fields, &last_chunk);
            cases.push(Case::new(format!("{order} {coding:?}"), sent, &[up("0")]));
        }
        let sent = post("1.0", &format!("{length}{coding}\r\n"), &last_chunk);
        cases.push(Case::new(format!("1.0, a length, then {coding:?}"), sent, &[up("0")]));
        // Whoever takes the coding has one request, and whoever counts four bytes has two.
        let other = coding.starts_with("Transfer_");
        if !other {
            let fields = format!("Content-Length: 4\r\n{coding}\r\n");
            let sent = post("1.1", &fields, &chunked(EVIL));
            cases.push(Case::new(format!("a short length, then {coding:?}"), sent, &[up("0")]));
        }
        let sent = post("1.1", &format!("{coding}\r\n"), &chunked(EVIL));
        cases.push(Case::new(format!("alone {coding:?}"), sent, &[up("0")]));
    }
    let plain = post("1.1", "Transfer-Encoding: chunked\r\n", &chunked(EVIL));
    cases.push(Case::new("a chunk that looks like a request", plain, &[up("0")]).all());
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in LENGTHS {
        let fields = length.replace('#', &EVIL.len().to_string());
        for method in ["POST", "GET"] {
            let head = format!("{method} /x?serial=NNNNNN.0 HTTP/1.1\r\n{HOST}{fields}\r\n\r\n");
            let name = format!("{method} with {length:?}");
            cases.push(Case::new(name, format!("{head}{EVIL}"), &[up("0")]));
        }
    }
    let more = format!("Content-Length: {}\r\n", EVIL.len() + 1);
    let name = "a length of one byte more than comes";
    cases.push(Case::new(name, post("1.1", &more, EVIL), &[up("0")]).leaves());
    let huge = "Content-Length: 9223372036854775807\r\n";
    cases.push(Case::new("a huge length", post("1.1", huge, EVIL), &[up("0")]).leaves());
    let padded = format!("Content-Length:  00{}\t\r\n", EVIL.len());
    let name = "a length with zeros and spaces around it";
    cases.push(Case::new(name, post("1.1", &padded, EVIL), &[up("0")]));
    cases
}

fn chunks() -> Vec<Case> {
    let coding = "Transfer-Encoding: chunked\r\n";
    let size = format!("{:x}", EVIL.len());
    let mut cases = Vec::new();
    for line in SIZES {
        let line_of_it = line.replace('#', &size);
        let body = format!("{line_of_it}\r\n{EVIL}\r\n0\r\n\r\n");
        let name = format!("a chunk of {line:?}");
        cases.push(Case::new(name, post("1.1", coding, &body), &[up("0")]).leaves());
    }
    let long = format!("{size};{}\r\n{EVIL}\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    cases.push(Case::new("a long extension", post("1.1", coding, &long), &[up("0")]).leaves());
    let many = format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(200);
    let many = format!("{many}{}", chunked(EVIL));
    cases.push(Case::new("many extensions", post("1.1", coding, &many), &[up("0")]).leaves());
    for (what, body) in [
        ("no line end behind the data", format!("{size}\r\n{EVIL}0\r\n\r\n")),
        ("a bare line feed behind the data", format!("{size}\r\n{EVIL}\n0\r\n\r\n")),
        ("a bare return behind the data", format!("{size}\r\n{EVIL}\r0\r\n\r\n")),
        ("two bytes more than it said", format!("{size}\r\n{EVIL}xx\r\n0\r\n\r\n")),
        ("a bare line feed behind the size", format!("{size}\n{EVIL}\r\n0\r\n\r\n")),
        ("a bare return behind the size", format!("{size}\r{EVIL}\r\n0\r\n\r\n")),
        ("a last chunk without its end", format!("0\r\n{EVIL}")),
        ("a last chunk that never comes", format!("{size}\r\n{EVIL}\r\n")),
        ("a second last chunk", format!("0\r\n\r\n0\r\n\r\n{}", "")),
        ("a size that ends inside the next request", format!("{:x}\r\n{EVIL}", EVIL.len() + 7)),
        ("a last chunk with an extension", format!("{size}\r\n{EVIL}\r\n0;a=b\r\n\r\n")),
        ("a last chunk of many zeros", format!("{size}\r\n{EVIL}\r\n{}\r\n\r\n", "0".repeat(40))),
    ] {
        cases.push(Case::new(what, post("1.1", coding, &body), &[up("0")]).leaves());
    }
    cases
}

/// Whatever stands in the trailers has `leaked` in it.
fn trailers() -> Vec<Case> {
    let mut cases = Vec::new();
    for trailer in [
        "Content-Length: 10\r\nX: leaked",
        "Transfer-Encoding: chunked\r\nX: leaked",
        "Authorization: Bearer leaked",
        "Host: leaked",
        "Connection: close, leaked",
        "X-Leaked: leaked",
        "Content-Type: leaked",
        "X-MCP-User-ID: leaked",
        "Trailer: leaked",
        "Set-Cookie: leaked",
    ] {
        for says in ["", "Trailer: X-Leaked, Authorization, Host\r\nTE: trailers\r\n"] {
            let fields = format!("{says}Transfer-Encoding: chunked\r\n");
            let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n");
            let next = "GET /x?serial=NNNNNN.1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
            let sent = [post("1.1", &fields, &body), next.into()].concat();
            let name = format!("trailers {trailer:?} {says:?}");
            cases.push(Case::new(name, sent, &[up("0"), up("1")]));
        }
    }
    cases
}
