//! Hostile targets, made by combining what has fooled proxies: each is a whole request head.

/// Where a caller may begin, how many segments lead back to `/api`'s inside, and whereto from there.
const WAYS: [(&str, usize, &str); 7] = [
    ("/api/v1/documents/x", 2, "users/1"),
    ("/api/v1/documents/x", 3, "scim/v2/Users"),
    ("/api/v1/users/1", 2, "documents/x"),
    ("/api/scim/v2/Users", 3, "v1/documents/x"),
    ("/api/v1/labels/x", 2, "users/1"),
    ("/x", 1, "api/v1/users/1"),
    ("/api/v1/documents", 1, "users/1"),
];

/// What may pass for a slash.
const SLASHES: [&[u8]; 16] = [
    b"/",
    b"%2f",
    b"%2F",
    b"%252f",
    b"%25252F",
    b"\\",
    b"%5c",
    b"%255C",
    b"//",
    b"///",
    b"/;/",
    b"/;x=y/",
    b"%c0%af",
    b"%e0%80%af",
    b"/%00/",
    b"/./",
];

/// What may pass for two dots.
const DOTS: [&[u8]; 30] = [
    b"..",
    b"%2e%2e",
    b"%2E%2e",
    b".%2e",
    b"%2e.",
    b"%252e%252e",
    b"%252E.",
    b"%25252e%25252e",
    b"%2525252e%2525252e",
    b"..;",
    b"..;x=y",
    b"%2e%2e;x=y",
    b"..%3b",
    b"..%3Bx=y",
    b"..%253b",
    b"..%00",
    b"..\0",
    b"..%09",
    b"..\t",
    b"..%0d%0a",
    b"..%0a",
    b"..%20",
    b"..%23",
    b"..%3f",
    b"%c0%ae%c0%ae",
    b"%e0%80%ae%e0%80%ae",
    b"\xc0\xae\xc0\xae",
    b"%u002e%u002e",
    b"%%32%65%%32%65",
    b".",
];

/// What may be put anywhere.
const JUNK: [&[u8]; 48] = [
    b";",
    b";a=b",
    b"%3b",
    b"%3Ba",
    b"%253b",
    b"//",
    b"///",
    b"/./",
    b"/%2e/",
    b"%2f",
    b"%252f",
    b"\\",
    b"%5c",
    b"%00",
    b"\0",
    b"%09",
    b"\t",
    b"%0d%0a",
    b"%0a",
    b"\r",
    b"\n",
    b" ",
    b"%20",
    b"#",
    b"%23",
    b"?",
    b"%3f",
    b"??",
    b"\xc3\xa9",
    b"\xff",
    b"%ff",
    b"%c0%af",
    b"%",
    b"%2",
    b"%zz",
    b"\"",
    b"|",
    b"^",
    b"+",
    b"%2B",
    b"*",
    b"%7f",
    b"\x7f",
    b"%c2%85",
    b"%e2%80%a8",
    b"%ef%bb%bf",
    b"%ef%bc%8f",
    b"@evil.example/",
];

const AIMS: [&str; 4] =
    ["/api/v1/users/1", "/api/scim/v2/Users", "/api/v1/documents/x", "/api/v1/labels/x"];

pub(super) const OWN: &str = "127.0.0.1:6664";

/// The head of each request; the first line's target is what matters.
pub(super) fn all() -> Vec<Vec<u8>> {
    let mut heads = Vec::new();
    heads.extend(climbs().iter().map(|target| plain(target)));
    heads.extend(disguised_letters().iter().map(|target| plain(target)));
    heads.extend(junk_anywhere().iter().map(|target| plain(target)));
    heads.extend(long().iter().map(|target| plain(target)));
    heads.extend(authorities());
    heads.extend(methods());
    heads.extend(odd_lines());
    heads
}

/// `GET target`, for us.
fn plain(target: &[u8]) -> Vec<u8> {
    let fields = format!(" HTTP/1.1\r\nHost: {OWN}\r\nConnection: close\r\n\r\n");
    [b"GET ", target, fields.as_bytes()].concat()
}

/// Out of one route and into another.
fn climbs() -> Vec<Vec<u8>> {
    let mut targets = Vec::new();
    for (from, steps, to) in WAYS {
        for slash in SLASHES {
            for dots in DOTS {
                let up = [slash, dots].concat().repeat(steps);
                let target = [from.as_bytes(), &up, slash, to.as_bytes()].concat();
                targets.push(decorated(target, targets.len()));
            }
        }
    }
    targets
}

/// Each in its turn: nothing, other letter case, slashes at the end, a query, a fragment.
fn decorated(mut target: Vec<u8>, turn: usize) -> Vec<u8> {
    match turn % 11 {
        1 => target.make_ascii_uppercase(),
        2 => target.push(b'/'),
        3 => target.extend(b"//"),
        4 => target.extend(b"?a=b"),
        5 => target.extend(b"?/../../users/1"),
        6 => target.extend(b"#/../../users/1"),
        7 => target.extend(b"?"),
        8 => target.extend(b"/."),
        9 => target.extend(b"/.."),
        _ => {}
    }
    target
}

/// Each letter of a segment that decides, written otherwise.
fn disguised_letters() -> Vec<Vec<u8>> {
    let mut targets = Vec::new();
    for aim in AIMS {
        for at in 1..aim.len() {
            let (before, letter, after) = (&aim[..at], aim.as_bytes()[at], &aim[at + 1..]);
            let overlong = [0xc0 | letter >> 6, 0x80 | letter & 0x3f];
            let wide = char::from_u32(0xfee0 + u32::from(letter)).unwrap().to_string();
            let escaped =
                |bytes: &[u8]| bytes.iter().map(|b| format!("%{b:02x}")).collect::<String>();
            for spelling in [
                escaped(&[letter]).into_bytes(),
                escaped(&[letter]).to_uppercase().into_bytes(),
                format!("%25{letter:02x}").into_bytes(),
                format!("%2525{letter:02x}").into_bytes(),
                escaped(&overlong).into_bytes(),
                overlong.to_vec(),
                format!("%u00{letter:02x}").into_bytes(),
                escaped(wide.as_bytes()).into_bytes(),
                vec![letter.to_ascii_uppercase()],
            ] {
                targets.push([before.as_bytes(), &spelling, after.as_bytes()].concat());
            }
        }
        let all: String = aim.bytes().map(|byte| format!("%{byte:02x}")).collect();
        targets.extend([all.clone().into_bytes(), format!("/{all}").into_bytes()]);
    }
    targets
}

/// Before and after each segment, and in the middle of it.
fn junk_anywhere() -> Vec<Vec<u8>> {
    let mut targets = Vec::new();
    for aim in AIMS {
        let slashes: Vec<usize> = aim.match_indices('/').map(|(at, _)| at).collect();
        let places = slashes.iter().flat_map(|at| [*at, at + 1, at + 2]).chain([aim.len()]);
        for place in places {
            for junk in JUNK {
                let (before, after) = aim.as_bytes().split_at(place.min(aim.len()));
                targets.push([before, junk, after].concat());
            }
        }
    }
    targets
}

/// 8 and 64 KiB of what a reader may cut off.
fn long() -> Vec<Vec<u8>> {
    let mut targets = Vec::new();
    for piece in ["a", "%61", "../", "/", "%2e%2e%2f", ";", "a/", "x/../", "%25"] {
        for length in [8 * 1024, 64 * 1024] {
            let padding = piece.repeat(length / piece.len() + 1);
            targets.extend([
                format!("/api/v1/documents/{padding}/../../users/1").into_bytes(),
                format!("/api/v1/documents/x?{padding}#/../../users/1").into_bytes(),
                format!("/{padding}/api/v1/users/1").into_bytes(),
            ]);
        }
    }
    targets
}

/// Absolute forms and `Host` fields, in all combinations.
fn authorities() -> Vec<Vec<u8>> {
    let beginnings = ["", "//", "http://", "https://", "HTTP://", "HtTp://", "ftp://", "file://"];
    let named = [
        OWN,
        "127.0.0.1",
        "evil.example",
        "user@127.0.0.1:6664",
        "user:secret@127.0.0.1:6664",
        "127.0.0.1:99999",
        "127.0.0.1:6664.",
        "localhost.:6664",
        ":6664",
        "",
        "127.0.0.1:",
        "127.0.0.1%00:6664",
        "127.0.0.1:6664\\@evil.example",
        "127.0.0.1:6664#@evil.example",
    ];
    let hosts = [
        "",
        "Host: 127.0.0.1:6664\r\n",
        "Host: evil.example\r\n",
        "Host: 127.0.0.1:6664\r\nHost: 127.0.0.1:6664\r\n",
        "Host: 127.0.0.1:6664\r\nHost: evil.example\r\n",
        "Host:\r\n",
        "Host: user@127.0.0.1:6664\r\n",
        "Host: 127.0.0.1:6664, evil.example\r\n",
        "Host: 127.0.0.1:99999\r\n",
        "Host: 127.0.0.1:6664/api/v1/users/1?\r\n",
    ];
    let mut heads = Vec::new();
    for beginning in beginnings {
        for name in named {
            for host in hosts {
                let aim = AIMS[heads.len() % AIMS.len()];
                // Without a beginning it is the field alone that is odd, or a target without a path.
                let target = match (beginning, name) {
                    ("", OWN) => aim.to_owned(),
                    _ => format!("{beginning}{name}{aim}"),
                };
                let fields = format!("{host}Connection: close\r\n\r\n");
                heads.push(format!("GET {target} HTTP/1.1\r\n{fields}").into_bytes());
            }
        }
    }
    heads
}

fn methods() -> Vec<Vec<u8>> {
    let mut heads = Vec::new();
    for method in
        ["CONNECT", "TRACE", "OPTIONS", "PRI", "get", "GET\t", "GE T", "G\u{e9}T", "", "@"]
    {
        for target in [
            "*",
            "/*",
            OWN,
            "evil.example:443",
            "/api/v1/users/1",
            "http://127.0.0.1:6664/api/v1/users/1",
            "http://127.0.0.1:6664*",
            "/api/v1/documents/../users/1",
        ] {
            let fields = format!("Host: {OWN}\r\nConnection: close\r\n\r\n");
            heads.push(format!("{method} {target} HTTP/1.1\r\n{fields}").into_bytes());
        }
    }
    heads
}

/// Request lines that only some read.
fn odd_lines() -> Vec<Vec<u8>> {
    let fields = format!("Host: {OWN}\r\nConnection: close\r\n\r\n");
    let mut heads = Vec::new();
    for aim in AIMS {
        heads.extend([
            format!("GET {aim}\r\n"),
            format!("GET {aim}\r\n\r\n"),
            format!("GET {aim}"),
            format!("GET  {aim} HTTP/1.1\r\n{fields}"),
            format!("GET {aim}  HTTP/1.1\r\n{fields}"),
            format!("GET\t{aim}\tHTTP/1.1\r\n{fields}"),
            format!("GET {aim} HTTP/1.1 \r\n{fields}"),
            format!("GET {aim} HTTP/1.1 HTTP/1.1\r\n{fields}"),
            format!("GET {aim} /api/v1/users/1 HTTP/1.1\r\n{fields}"),
            format!("GET {aim} HTTP/0.9\r\n{fields}"),
            format!("GET {aim} HTTP/1.2\r\n{fields}"),
            format!("GET {aim} HTTP/2.0\r\n{fields}"),
            format!("GET {aim} HTTP/11\r\n{fields}"),
            format!("GET {aim} http/1.1\r\n{fields}"),
            format!("GET {aim} HTTP/1.0\r\n\r\n"),
            format!(" GET {aim} HTTP/1.1\r\n{fields}"),
            format!("GET {} HTTP/1.1\r\n{fields}", &aim[1..]),
            format!("GET .{aim} HTTP/1.1\r\n{fields}"),
            format!("GET ?{aim} HTTP/1.1\r\n{fields}"),
            format!("GET #{aim} HTTP/1.1\r\n{fields}"),
        ]);
    }
    heads.into_iter().map(String::into_bytes).collect()
}
