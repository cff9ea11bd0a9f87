//! A body that must be looked into before its call may wait.

use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::Body as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Replay, Room, Source};
use crate::base::{BoxError, CallerId, TooSlow};

/// How long it may take until all of a body is there. The server's own clocks end a caller who brings
/// next to nothing; within what they let through, a MiB could take hours, and all that time it
/// would hold memory that others need, and a connection that nobody may end.
const WITHIN: Duration = Duration::from_secs(60);

/// Why a body is not at hand as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotWhole {
    #[error("it is longer than the {limit} bytes that are kept of one body")]
    TooLarge { limit: u64 },
    #[error("the memory for bodies is taken")]
    NoRoom,
    #[error("it broke off: {0}")]
    Broken(BoxError),
    #[error(transparent)]
    Late(TooSlow),
}

impl Room {
    /// What bodies of one caller may take that must be at hand as a whole: half, and no less than one
    /// of them. Calls keep theirs while they wait for their turn, which may be an hour, and nobody
    /// else should be refused for that long.
    fn share_of(&self, caller: &CallerId) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(caller) {
            return share.clone();
        }
        let least = usize::try_from(self.limit).unwrap_or(usize::MAX).min(self.total);
        let share = Arc::new(Semaphore::new((self.total / 2).max(least)));
        shares.insert(caller.clone(), share.clone());
        share
    }
}

impl Replay {
    /// Reads the body to its end, so that all of it is at hand, and stays so until it is sent.
    ///
    /// Where there is no room it is refused and does not wait for any: those who hold room wait for
    /// their callers, or for more room themselves, and so nobody could say how long that takes. What
    /// is set aside is what has come and not what was announced, so that a caller who dawdles takes
    /// no more of it than it has sent. It may dawdle as long as the server lets it, which ends the body
    /// with an error, and for a minute in all. All bodies of one caller have no more than its share.
    ///
    /// Cancel-safe: what was read is kept.
    pub(crate) async fn read_whole(&mut self, caller: &CallerId) -> Result<(), NotWhole> {
        match &self.source {
            Some(source) => {
                let share = source.lock().room.share_of(caller);
                let reading = poll_fn(|cx| source.lock().poll_whole(&share, cx));
                let late = || NotWhole::Late(TooSlow::Unfinished { within: WITHIN });
                timeout(WITHIN, reading).await.unwrap_or_else(|_| Err(late()))
            }
            None => Ok(()),
        }
    }

    /// Shows all that is kept, in one piece.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        let Some(source) = &self.source else { return look(&[]) };
        let source = source.lock();
        let kept = &source.kept;
        if kept.blocks.is_empty() {
            return look(&kept.open);
        }
        // A copy for a moment. A body kept in one piece would have to be copied as it grows, and
        // could not be given up bit by bit as it is sent.
        let mut whole = Vec::with_capacity(kept.blocks.len() * super::BLOCK + kept.open.len());
        kept.blocks.iter().for_each(|block| whole.extend_from_slice(block));
        whole.extend_from_slice(&kept.open);
        look(&whole)
    }
}

impl Source {
    fn poll_whole(
        &mut self,
        share: &Arc<Semaphore>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NotWhole>> {
        let limit = self.room.limit;
        while !self.rest.is_end_stream() {
            if self.kept.end.saturating_add(self.rest.size_hint().lower()) > limit {
                return Poll::Ready(Err(NotWhole::TooLarge { limit }));
            }
            match ready!(self.poll_rest(cx)) {
                Some(Ok(bytes)) => {
                    let length = bytes.len() as u64;
                    if self.kept.end + length > limit {
                        return Poll::Ready(Err(NotWhole::TooLarge { limit }));
                    }
                    if !self.take_of(share, bytes.len()) || !self.make_room(length) {
                        return Poll::Ready(Err(NotWhole::NoRoom));
                    }
                    self.kept.push(&bytes);
                }
                Some(Err(error)) => return Poll::Ready(Err(NotWhole::Broken(error))),
                None => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece out of its caller's share.
    fn take_of(&mut self, share: &Arc<Semaphore>, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        let Ok(permit) = share.clone().try_acquire_many_owned(bytes) else { return false };
        match &mut self.of_share {
            Some(held) => held.merge(permit),
            None => self.of_share = Some(permit),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;

    use super::*;
    use crate::base::Body;
    use crate::proxy::replay::ReplaySettings;

    fn room(limit: u32, total: usize) -> Room {
        Room::new(ReplaySettings { limit, total })
    }

    fn a() -> CallerId {
        CallerId::new("a")
    }

    fn free(room: &Room) -> usize {
        room.free.available_permits()
    }

    fn pieces(sizes: &[usize]) -> Body {
        let piece = |(nth, size): (usize, &usize)| {
            Ok::<_, BoxError>(Frame::data(Bytes::from(vec![u8::try_from(nth).unwrap(); *size])))
        };
        let all: Vec<_> = sizes.iter().enumerate().map(piece).collect();
        Body::boxed(StreamBody::new(futures_util::stream::iter(all)))
    }

    #[tokio::test]
    async fn a_whole_body_is_shown_and_then_sent_as_it_came_as_often_as_need_be() {
        for sizes in [&[1, 5, 0, 7][..], &[16_384], &[10_000, 30_000, 3], &[]] {
            let room = room(100_000, 200_000);
            let sent = pieces(sizes).collect().await.unwrap().to_bytes();
            let mut replay = Replay::new(pieces(sizes), &room);
            replay.read_whole(&a()).await.unwrap();
            assert_eq!(replay.look(<[u8]>::to_vec), sent);
            assert_eq!(free(&room), 200_000 - sent.len());
            for _ in 0..2 {
                assert_eq!(replay.attempt().unwrap().collect().await.unwrap().to_bytes(), sent);
            }
            drop(replay);
            assert_eq!(free(&room), 200_000);
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused_as_soon_as_that_is_known() {
        let room = room(10, 100);
        for body in [Body::full("12345678901"), pieces(&[5, 5, 1])] {
            let refused = Replay::new(body, &room).read_whole(&a()).await;
            assert!(matches!(refused, Err(NotWhole::TooLarge { limit: 10 })), "{refused:?}");
            assert_eq!(free(&room), 100);
        }
        Replay::new(pieces(&[5, 5]), &room).read_whole(&a()).await.unwrap();
    }

    #[tokio::test]
    async fn bodies_that_find_no_room_are_refused_and_give_theirs_back() {
        let (room, b) = (room(80, 100), CallerId::new("b"));
        let mut first = Replay::new(pieces(&[40, 40]), &room);
        first.read_whole(&a()).await.unwrap();
        let refused = Replay::new(pieces(&[10, 11]), &room).read_whole(&b).await;
        assert!(matches!(refused, Err(NotWhole::NoRoom)), "{refused:?}");
        assert_eq!(free(&room), 20);
        Replay::new(pieces(&[10, 10]), &room).read_whole(&b).await.unwrap();
        drop(first);
        Replay::new(pieces(&[10, 11]), &room).read_whole(&b).await.unwrap();
    }

    #[tokio::test]
    async fn one_caller_leaves_room_for_the_others() {
        let room = room(40, 100);
        let mut waiting = Replay::new(pieces(&[40]), &room);
        waiting.read_whole(&a()).await.unwrap();
        let refused = Replay::new(pieces(&[5, 6]), &room).read_whole(&a()).await;
        assert!(matches!(refused, Err(NotWhole::NoRoom)), "{refused:?}");
        Replay::new(pieces(&[5, 5]), &room).read_whole(&a()).await.unwrap();
        Replay::new(pieces(&[40]), &room).read_whole(&CallerId::new("b")).await.unwrap();
        drop(waiting);
        Replay::new(pieces(&[40]), &room).read_whole(&a()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_whole_within_a_minute_is_given_up() {
        let room = room(100_000, 100_000);
        let (feed, mut fed) = mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
        let stream = futures_util::stream::poll_fn(move |cx| fed.poll_recv(cx));
        let mut replay = Replay::new(Body::boxed(StreamBody::new(stream)), &room);
        // Fast enough for the server.
        let sending = tokio::spawn(async move {
            while feed.send(Ok(Frame::data(Bytes::from_static(&[b'x'; 200])))).is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = tokio::time::Instant::now();
        let late = replay.read_whole(&a()).await;
        let expected = TooSlow::Unfinished { within: WITHIN };
        assert!(matches!(late, Err(NotWhole::Late(slow)) if slow == expected), "{late:?}");
        assert_eq!(began.elapsed(), WITHIN);
        drop(replay);
        assert_eq!(free(&room), 100_000);
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn who_dawdles_takes_no_more_room_than_it_has_sent() {
        let room = room(1_000, 1_000);
        let (feed, mut fed) = mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
        let stream = futures_util::stream::poll_fn(move |cx| fed.poll_recv(cx));
        let mut replay = Replay::new(Body::boxed(StreamBody::new(stream)), &room);
        feed.send(Ok(Frame::data(Bytes::from_static(b"abc")))).unwrap();
        {
            let caller = a();
            let mut reading = std::pin::pin!(replay.read_whole(&caller));
            assert!(futures_util::poll!(&mut reading).is_pending());
        }
        assert_eq!(free(&room), 997);
        feed.send(Err("gone".into())).unwrap();
        let broken = replay.read_whole(&a()).await;
        assert!(matches!(broken, Err(NotWhole::Broken(_))), "{broken:?}");
        drop(replay);
        assert_eq!(free(&room), 1_000);
    }
}
