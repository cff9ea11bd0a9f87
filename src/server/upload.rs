//! A request body on its way in, and how long its caller may take.
//!
//! No clock runs but while somebody asks for bytes and the caller has none: an upload that waits
//! in the queue unread is not late.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::base::{Body, BoxError, TooSlow};
use crate::server::ServerSettings;
use crate::server::pace::{Demand, Fault, Pace};

/// What is asked of the senders of request bodies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    body_timeout: Duration,
    rate: u64,
}

impl Patience {
    pub(super) fn new(settings: &ServerSettings) -> Self {
        Self { body_timeout: settings.body_timeout, rate: settings.min_body_rate }
    }

    /// Puts the clocks to a body. One that is over already, such as that of a GET, stays as it is.
    pub(super) fn watch(self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let demand = Demand::of_a_sender(self.body_timeout, self.rate);
        let stage = Stage::Coming(body);
        Body::boxed(Upload { stage, patience: self, pace: Pace::new(demand), timer: None })
    }
}

struct Upload {
    stage: Stage,
    patience: Patience,
    pace: Pace,
    /// Made when the caller is waited for the first time; rings early where it had been set for an
    /// earlier wait.
    timer: Option<Pin<Box<Sleep>>>,
}

enum Stage {
    Coming(Body),
    /// The body itself is let go, so that its connection does not wait for the rest.
    Failed(TooSlow),
}

impl Upload {
    /// Ready when the caller is too slow.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        self.pace.wait();
        let Some((due, fault)) = self.pace.due() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        ready!(timer.as_mut().poll(cx));
        if Instant::now() < due {
            timer.as_mut().reset(due);
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(match fault {
            Fault::Silent => TooSlow::Silent { after: self.patience.body_timeout },
            Fault::Trickle => TooSlow::Trickle { rate: self.patience.rate },
        })
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = match &mut self.stage {
            Stage::Coming(body) => body,
            Stage::Failed(slow) => return Poll::Ready(Some(Err((*slow).into()))),
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.pace.moved(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => {
                let slow = ready!(self.poll_late(cx));
                self.stage = Stage::Failed(slow);
                Poll::Ready(Some(Err(slow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Coming(body) => body.is_end_stream(),
            Stage::Failed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Coming(body) => body.size_hint(),
            Stage::Failed(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::base::Peer;
    use crate::server::testing::{on_a_free_port, pipe, rest, whole};

    /// Says how long the body was, or what it ended in.
    async fn read(mut request: Request<Body>, _: Peer) -> Response<Body> {
        let mut bytes = 0;
        while let Some(frame) = request.body_mut().frame().await {
            match frame {
                Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Err(error) => match error.downcast_ref::<TooSlow>() {
                    Some(slow) => return Response::new(Body::full(format!("{slow:?}"))),
                    None => return Response::new(Body::full("broke off")),
                },
            }
        }
        Response::new(Body::full(bytes.to_string()))
    }

    /// The same, an hour later.
    async fn read_late(request: Request<Body>, peer: Peer) -> Response<Body> {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        read(request, peer).await
    }

    fn post(length: usize) -> String {
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
    }

    /// Sends a chunk each second until the other side ends; returns what it said.
    async fn trickle(caller: DuplexStream, chunk: &'static [u8], times: usize) -> String {
        let (mut reads, mut writes) = tokio::io::split(caller);
        let sending = async {
            for _ in 0..times {
                if writes.write_all(chunk).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut said = String::new();
        let reading = async {
            let mut bytes = [0; 1024];
            while let Ok(n @ 1..) = reads.read(&mut bytes).await {
                said.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
                if said.ends_with("20000") {
                    break;
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = sending => unreachable!(),
        }
        said
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_ends_after_the_body_timeout_and_its_connection_with_it() {
        let (mut caller, done) = pipe(on_a_free_port(), read, CancellationToken::new());
        let began = Instant::now();
        caller.write_all(post(100).as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(14)).await;
        caller.write_all(b"x").await.unwrap();
        let answer = rest(&mut caller).await;
        assert!(answer.ends_with("Silent { after: 15s }"), "{answer}");
        assert_eq!(began.elapsed().as_secs(), 14 + 15);
        done.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_a_second_is_too_slow_after_30_seconds() {
        let (mut caller, done) = pipe(on_a_free_port(), read, CancellationToken::new());
        let began = Instant::now();
        caller.write_all(post(20_000).as_bytes()).await.unwrap();
        let answer = trickle(caller, b"x", 20_000).await;
        assert!(answer.ends_with("Trickle { rate: 100 }"), "{answer}");
        assert_eq!(began.elapsed().as_secs(), 30);
        done.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn two_hundred_bytes_a_second_are_fast_enough() {
        let (mut caller, _done) = pipe(on_a_free_port(), read, CancellationToken::new());
        let began = Instant::now();
        caller.write_all(post(20_000).as_bytes()).await.unwrap();
        let answer = trickle(caller, &[b'x'; 200], 100).await;
        assert!(answer.ends_with("\r\n\r\n20000"), "{answer}");
        assert_eq!(began.elapsed().as_secs(), 99);
    }

    #[tokio::test(start_paused = true)]
    async fn much_at_first_does_not_pay_for_a_trickle_later() {
        let (mut caller, done) = pipe(on_a_free_port(), read, CancellationToken::new());
        caller.write_all(post(10_000_000).as_bytes()).await.unwrap();
        caller.write_all(&vec![b'x'; 1_000_000]).await.unwrap();
        let began = Instant::now();
        let answer = trickle(caller, b"x", 20_000).await;
        assert!(answer.ends_with("Trickle { rate: 100 }"), "{answer}");
        // The first span has the bytes that came at once, the second has not.
        assert_eq!(began.elapsed().as_secs(), 60);
        done.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_nobody_reads_yet_is_not_late() {
        let (mut caller, _done) = pipe(on_a_free_port(), read_late, CancellationToken::new());
        caller.write_all(post(20_000).as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3610)).await;
        let answer = trickle(caller, &[b'x'; 20_000], 1).await;
        assert!(answer.ends_with("\r\n\r\n20000"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_h2_upload_ends_alone() {
        let (caller, _done) = pipe(on_a_free_port(), read, CancellationToken::new());
        let (mut sender, connection) = h2::client::handshake(caller).await.unwrap();
        tokio::spawn(connection);
        let began = Instant::now();
        let post = || Request::post("http://x/").body(()).unwrap();
        let (slow, mut body) = sender.send_request(post(), false).unwrap();
        body.send_data("x".into(), false).unwrap();
        let answer = whole(slow.await.unwrap().into_body()).await.unwrap();
        assert_eq!(answer, b"Silent { after: 15s }");
        assert_eq!(began.elapsed().as_secs(), 15);
        let (other, mut body) = sender.send_request(post(), false).unwrap();
        body.send_data("xyz".into(), true).unwrap();
        assert_eq!(whole(other.await.unwrap().into_body()).await.unwrap(), b"3");
    }

    #[test]
    fn a_body_of_no_bytes_is_left_as_it_is() {
        let watched = Patience::new(&on_a_free_port()).watch(Body::empty());
        assert_eq!(format!("{watched:?}"), "Body(empty)");
    }
}
