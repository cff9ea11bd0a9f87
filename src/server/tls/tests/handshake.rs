use std::time::Duration;

use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stage::{Folder, LAST_GET, is_alone, settings};
use crate::base::{Body, Peer};
use crate::server::connection::Stop;
use crate::server::testing::{dropped, echo, get, queue, rest, soon, start, waits, whole};
use crate::server::tls::{self, Certificates};
use crate::server::{Answer, Listen, Server, ServerSettings, TlsSettings, bind};

/// One TLS connection in memory; the returned end is the caller's.
pub(super) fn pipe(
    tls: &TlsSettings,
    answer: impl Answer,
    stop: CancellationToken,
) -> (DuplexStream, JoinHandle<()>) {
    let certificates = Certificates::open("pipe".to_owned(), tls).unwrap();
    let (caller, ours) = tokio::io::duplex(64 * 1024);
    let done = tokio::spawn(async move {
        let settings = ServerSettings::new(Vec::new());
        let stop = Stop { gently: stop, now: CancellationToken::new() }.child(&settings);
        let never = std::future::pending();
        tls::run(&certificates, ours, never, Peer::pipe(), &settings, answer, stop).await;
    });
    (caller, done)
}

/// What a caller says first.
async fn hello(folder: &Folder) -> Vec<u8> {
    let (mut theirs, ours) = tokio::io::duplex(64 * 1024);
    let caller = folder.caller();
    let shaking = tokio::spawn(async move { caller.shakes(ours).await });
    let mut hello = vec![0; 4096];
    let n = theirs.read(&mut hello).await.unwrap();
    hello.truncate(n);
    shaking.abort();
    hello
}

/// Whether it came by TLS.
async fn how(_: Request<Body>, peer: Peer) -> Response<Body> {
    Response::new(Body::full(format!("{} {:?}", peer.secure, peer.certificate)))
}

#[tokio::test]
async fn both_protocols_are_offered_and_spoken_as_chosen() {
    let folder = Folder::new();
    let running = start(settings(folder.tls()), echo);

    let caller = folder.caller().offers(&["http/1.1"]);
    let mut stream = caller.shakes(running.connect().await).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(get(&mut stream, "/one").await.starts_with("HTTP/1.1 200"));

    for offers in [&["h2"][..], &["http/1.1", "h2"], &["h2", "http/1.1"], &["spdy/3", "h2"]] {
        let caller = folder.caller().offers(offers);
        let stream = caller.shakes(running.connect().await).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "{offers:?}");
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://x/two").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let body = soon(response).await.unwrap().into_body();
        assert_eq!(soon(whole(body)).await.unwrap(), b"/two");
    }
}

#[tokio::test]
async fn a_caller_that_offers_nothing_is_sniffed_and_one_that_offers_only_others_is_refused() {
    let folder = Folder::new();
    let running = start(settings(folder.tls()), how);
    let answer = folder.caller().asks(running.connect().await).await.unwrap();
    assert!(answer.ends_with("true None"), "{answer}");

    let caller = folder.caller().offers(&["spdy/3", "HTTP/1.1"]);
    let error = caller.asks(running.connect().await).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let folder = Folder::new();
    let running = start(settings(folder.tls()), echo);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let caller = folder.caller().speaks(version, &folder);
        let mut stream = caller.shakes(running.connect().await).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        get(&mut stream, "/a").await;
    }
}

#[tokio::test]
async fn plain_http_is_told_that_the_port_speaks_tls() {
    let folder = Folder::new();
    let (answer, mut events) = queue(0);
    let running = start(settings(folder.tls()), answer);
    let large = format!("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 30000\r\n\r\n{:30000}", "");
    for said in [LAST_GET, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", large.as_bytes(), b"G"] {
        let mut caller = running.connect().await;
        caller.write_all(said).await.unwrap();
        let answer = soon(rest(&mut caller)).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.starts_with("this port speaks TLS"), "{answer}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        assert!(head.contains("connection: close"), "{answer}");
    }
    // What is neither gets nothing.
    for said in [&b"\x80\x2e\x01\x00\x02"[..], b"\0\0\0\0", b"\r\n\r\n", b"\x15\x03\x03\0\x02"] {
        let mut caller = running.connect().await;
        caller.write_all(said).await.unwrap();
        assert_eq!(soon(rest(&mut caller)).await, "", "{said:?}");
    }
    assert!(events.try_recv().is_err(), "something was answered");
}

#[tokio::test]
async fn tls_on_a_plain_port_is_no_request() {
    let folder = Folder::new();
    let running = start(crate::server::testing::on_a_free_port(), echo);
    folder.caller().asks(running.connect().await).await.unwrap_err();
    get(&mut running.connect().await, "/fine").await;
}

#[tokio::test]
async fn a_unix_socket_may_speak_tls() {
    let folder = Folder::new();
    let path = folder.path("s");
    let mut settings = ServerSettings::new(vec![Listen::Unix { path: path.clone(), mode: 0o600 }]);
    settings.listeners[0].tls = Some(folder.tls());
    let bound = bind(&settings).unwrap();
    tokio::spawn(Server::new(settings).serve(bound, how, CancellationToken::new()));
    let answer = folder.caller().asks(UnixStream::connect(&path).await.unwrap()).await.unwrap();
    assert!(answer.ends_with("true None"), "{answer}");
}

#[tokio::test]
async fn a_waiting_get_is_dropped_when_its_caller_leaves() {
    let folder = Folder::new();
    let (answer, mut events) = queue(0);
    let running = start(settings(folder.tls()), answer);
    // In good order, with half of it, and without a word.
    for way in 0..3 {
        let mut stream = folder.caller().shakes(running.connect().await).await.unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        let mut kept = None;
        match way {
            0 => drop(stream),
            1 => {
                stream.shutdown().await.unwrap();
                kept = Some(stream);
            }
            _ => {
                let socket = stream.into_inner().0;
                rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
            }
        }
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")), "way {way}");
        drop(kept);
    }
}

#[tokio::test]
async fn an_unread_body_over_tls_does_not_hide_that_the_caller_left() {
    let folder = Folder::new();
    let (answer, mut events) = queue(0);
    let running = start(settings(folder.tls()), answer);
    let mut stream = folder.caller().shakes(running.connect().await).await.unwrap();
    let head = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(soon(events.recv()).await, Some(waits("/a")));
    stream.write_all(&[b'x'; 32 * 1024]).await.unwrap();
    stream.flush().await.unwrap();
    drop(stream);
    assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_go_on_ends_after_the_header_timeout() {
    let folder = Folder::new();
    let whole = hello(&folder).await;
    assert_eq!(whole[0], 22);
    for length in [0, 1, 5, whole.len() / 2, whole.len() - 1, whole.len()] {
        let (mut caller, done) = pipe(&folder.tls(), echo, CancellationToken::new());
        let begun = Instant::now();
        caller.write_all(&whole[..length]).await.unwrap();
        let mut said = Vec::new();
        caller.read_to_end(&mut said).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 10, "{length} bytes");
        assert_eq!(said.is_empty(), length < whole.len());
        done.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_comes_drop_by_drop_is_cut_off_after_the_header_timeout() {
    let folder = Folder::new();
    let whole = hello(&folder).await;
    let (mut caller, done) = pipe(&folder.tls(), echo, CancellationToken::new());
    let begun = Instant::now();
    for byte in whole {
        if caller.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    done.await.unwrap();
    assert!(begun.elapsed().as_secs() <= 11, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_handshake_and_the_first_head_have_one_header_timeout_together() {
    let folder = Folder::new();
    let (caller, done) = pipe(&folder.tls(), echo, CancellationToken::new());
    let begun = Instant::now();
    // Seven seconds of silence, then a handshake, then half a head.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let mut stream = folder.caller().shakes(caller).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    done.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn later_heads_over_tls_have_the_times_of_plain_ones() {
    let folder = Folder::new();
    let (caller, _done) = pipe(&folder.tls(), echo, CancellationToken::new());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut stream = folder.caller().shakes(caller).await.unwrap();
    get(&mut stream, "/a").await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    get(&mut stream, "/a").await;
    let idle = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(idle.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_when_the_server_stops() {
    let folder = Folder::new();
    let stop = CancellationToken::new();
    let (mut caller, done) = pipe(&folder.tls(), echo, stop.clone());
    caller.write_all(&[22, 3, 1]).await.unwrap();
    let begun = Instant::now();
    stop.cancel();
    done.await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(rest(&mut caller).await, "");
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_on_writing_after_a_refusal_is_not_heard_for_long() {
    let folder = Folder::new();
    let (mut caller, done) = pipe(&folder.tls(), echo, CancellationToken::new());
    let begun = Instant::now();
    caller.write_all(b"GET ").await.unwrap();
    done.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 1);

    let (mut caller, done) = pipe(&folder.tls(), echo, CancellationToken::new());
    let mut sent = 0;
    while caller.write_all(&[b'G'; 1024]).await.is_ok() {
        sent += 1024;
        assert!(sent < 1024 * 1024, "it is read for ever");
    }
    done.await.unwrap();
}

#[tokio::test]
async fn a_handshake_under_way_has_a_place_and_makes_room() {
    let folder = Folder::new();
    let mut settings = settings(folder.tls());
    settings.max_connections = 1;
    let running = start(settings, echo);
    let mut first = running.connect().await;
    first.write_all(&[22, 3]).await.unwrap();
    while running.server.connections() < 1 {
        tokio::task::yield_now().await;
    }
    let second = running.connect().await;
    assert!(soon(folder.caller().asks(second)).await.unwrap().ends_with("/a"));
    assert_eq!(soon(rest(&mut first)).await, "");
}

/// How many descriptors this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs itself in a process of its own: descriptors are counted for a whole process.
#[test]
#[cfg(target_os = "linux")]
fn a_thousand_broken_handshakes_leave_no_descriptor_and_no_trace() {
    if !is_alone("handshake::a_thousand_broken_handshakes_leave_no_descriptor_and_no_trace") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = Folder::new();
        let running = start(settings(folder.mutual()), echo);
        let whole = hello(&folder).await;
        let before = descriptors();
        for nth in 0..1000usize {
            let mut caller = running.connect().await;
            let mut said = match nth % 4 {
                0 => vec![22, 3, 1, 0xff, 0xff, 1, 2, 3],
                1 => whole[..nth % whole.len()].to_vec(),
                2 => vec![(nth % 251) as u8; nth],
                _ => whole.clone(),
            };
            if nth % 4 == 3 {
                let at = nth % said.len();
                said[at] ^= 0x55;
            }
            let _ = caller.write_all(&said).await;
            let _ = caller.shutdown().await;
            soon(async { while matches!(caller.read(&mut said).await, Ok(n) if n > 0) {} }).await;
        }
        while running.server.connections() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(descriptors(), before);
        let pair = folder.theirs.caller(Vec::new());
        let answer = folder.caller().shows(&pair).asks(running.connect().await).await.unwrap();
        assert!(answer.ends_with("/a"), "{answer}");
    });
}

#[tokio::test]
async fn a_long_answer_comes_whole_over_tls() {
    let folder = Folder::new();
    let large = |_: Request<Body>, _: Peer| async {
        Response::new(Body::full(vec![b'x'; 3 * 1024 * 1024]))
    };
    let running = start(settings(folder.tls()), large);
    let answer = folder.caller().asks(running.connect().await).await.unwrap();
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), 3 * 1024 * 1024);
}
