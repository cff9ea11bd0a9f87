use std::time::Duration;

use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::handshake::pipe;
use super::stage::{Folder, LAST_GET};
use crate::base::{Body, Peer};

/// More than the pipe and TLS hold together.
const LARGE: usize = 1024 * 1024;
/// Less than that, and more than the pipe alone: what is left of it lies in TLS, and only a flush waits.
const HELD: usize = 110 * 1024;

/// A caller who has asked for so many bytes, and has read none of them.
async fn asked(bytes: usize) -> (TlsStream<DuplexStream>, JoinHandle<()>) {
    let folder = Folder::new();
    let answer = move |_: Request<Body>, _: Peer| async move {
        Response::new(Body::full(vec![b'x'; bytes]))
    };
    let (caller, done) = pipe(&folder.tls(), answer, CancellationToken::new());
    let mut stream = folder.caller().shakes(caller).await.unwrap();
    stream.write_all(LAST_GET).await.unwrap();
    (stream, done)
}

#[tokio::test(start_paused = true)]
async fn a_tls_caller_that_never_reads_is_cut_off_after_the_write_timeout() {
    for bytes in [LARGE, HELD] {
        let (_stream, done) = asked(bytes).await;
        let begun = Instant::now();
        done.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 30, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_over_tls_is_cut_off_within_a_minute() {
    for bytes in [LARGE, HELD] {
        let (mut stream, done) = asked(bytes).await;
        let begun = Instant::now();
        while !done.is_finished() {
            // Below TLS: it is the connection's bytes that are taken, not yet a record.
            stream.get_mut().0.read_u8().await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let took = begun.elapsed().as_secs();
        assert!((30..=61).contains(&took), "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_tls_caller_gets_the_whole_of_what_tls_holds_back() {
    for bytes in [LARGE, HELD] {
        let (mut stream, done) = asked(bytes).await;
        let (mut read, mut some) = (0, [0; 200]);
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            match stream.get_mut().0.read(&mut some).await.unwrap() {
                0 => break,
                more => read += more,
            }
        }
        assert!(read > bytes, "{read} of {bytes}");
        done.await.unwrap();
    }
}
