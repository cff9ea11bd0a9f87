//! The key that upstream sends back, in every place of a raw answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Origin, Plan, disguise, key, soon};

/// A raw answer of upstream's, one chunk for each piece of its body. `aside` stands in the chunks'
/// extensions and in a trailer.
fn answer(reason: &str, field: &str, pieces: &[&str], aside: &str) -> String {
    let chunk = |piece: &&str| format!("{:x};seen={aside}\r\n{piece}\r\n", piece.len());
    let chunks: String = pieces.iter().map(chunk).collect();
    format!(
        "HTTP/1.1 200 {reason}\r\nContent-Type: application/json\r\nX-Seen: {field}\r\n\
         Transfer-Encoding: chunked\r\nTrailer: X-Late\r\nConnection: close\r\n\r\n\
         {chunks}0\r\nX-Late: {aside}\r\n\r\n"
    )
}

/// The body of a chunked answer of the gateway's, which has no extensions and no trailers.
fn unchunked(answer: &str) -> String {
    let mut rest = answer.split_once("\r\n\r\n").unwrap().1;
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body += &after[..size];
        rest = &after[size + 2..];
    }
    body
}

#[tokio::test]
async fn no_part_of_an_answer_brings_the_key_to_a_caller() {
    let origin = Origin::open();
    let house = Plan { origin: Some(origin.address()), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    let token = key().token().to_owned();
    let bearer = format!("Bearer {token}");
    let (text, clean) =
        (format!("[\"{bearer}\"]"), format!("[\"Bearer {}\"]", "*".repeat(token.len())));
    let single: Vec<&str> = text.split_inclusive(|_: char| true).collect();
    let (one, other) = text.split_at(text.len() / 2);
    let begun = &token[..token.len() - 1];
    let cases = [
        (answer("OK", &bearer, &[&text], &token), clean.clone()),
        (answer(&token, "a", &["{}"], &token), "{}".to_owned()),
        (answer(&bearer, &token, &single, &token), clean.clone()),
        (answer("OK", "a", &[one, other], &token), clean),
        // What only begins like the key is somebody's text.
        (answer("OK", "a", &["[\"", begun, "\"]"], ""), format!("[\"{begun}\"]")),
    ];
    for (raw, expected) in &cases {
        let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
        let head = "GET /api/v1/labels HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        caller.write_all(head.as_bytes()).await.unwrap();
        let mut call = origin.call().await;
        assert!(call.head.contains(&bearer), "the key did not go up");
        call.stream.get_mut().write_all(raw.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon(caller.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("x-late"), "{answer}");
        assert_eq!(unchunked(&answer), *expected, "{answer}");
        if raw.contains(&token) {
            assert_eq!(disguise::find(&token, &answer), None, "{raw}");
        }
    }
}
