//! A request body that can be sent more than once, and is read ahead while its call waits.
//!
//! Two things want a body's bytes kept. A refusal of Omni's limit is answered by sending the same
//! call again, so what went up is kept, to a bound. And a caller who hangs up in the middle of an
//! upload cannot be seen to leave while its bytes fill the receive window: TCP delivers the end
//! only behind them (RFC 9293 §3.8.6). So the body is read, to another bound, before its head is
//! sent, and the end comes into view. Beyond that nothing is read faster than upstream takes it.

mod whole;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::{Body, BoxError, CallerId};

pub(crate) use whole::NotWhole;

/// How far one body is read ahead: as much as a client's kernel holds for it after it has left
/// (Linux's `tcp_wmem` is 4 MiB at most).
const READ_AHEAD: u64 = 4 * 1024 * 1024;

/// What is set aside for a piece that is yet to come, where the body does not say how long it is.
const STEP: u64 = 64 * 1024;

/// The size of what is kept as one piece.
const BLOCK: usize = 16 * 1024;

/// The memory that kept bytes of all bodies may take together, and of one body for replay.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    total: usize,
    limit: u64,
    shares: Arc<Mutex<HashMap<CallerId, Arc<Semaphore>>>>,
}

/// How much of request bodies may be kept, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplaySettings {
    /// The most of one body; a longer one is sent once. At most `total`.
    pub limit: u32,
    /// The most of all bodies together.
    pub total: usize,
}

impl Default for ReplaySettings {
    fn default() -> Self {
        Self { limit: 1024 * 1024, total: 64 * 1024 * 1024 }
    }
}

impl Room {
    pub(crate) fn new(settings: ReplaySettings) -> Self {
        let total = settings.total.min(Semaphore::MAX_PERMITS);
        let (limit, shares) = (settings.limit.into(), Arc::default());
        Self { free: Arc::new(Semaphore::new(total)), total, limit, shares }
    }

    /// Another one, as large and empty.
    pub(crate) fn another(&self) -> Self {
        let (free, shares) = (Arc::new(Semaphore::new(self.total)), Arc::default());
        Self { free, total: self.total, limit: self.limit, shares }
    }
}

/// A request body, and what is kept of it. Dropping it lets go of what only a replay would need.
#[derive(Debug)]
pub(crate) struct Replay {
    /// `None` for a body of no bytes.
    source: Option<Shared>,
}

impl Replay {
    pub(crate) fn new(body: Body, room: &Room) -> Self {
        if body.is_end_stream() {
            return Self { source: None };
        }
        let source = Source {
            // Where it is known to be too long, copying its beginning would be for nothing.
            wanted: body.size_hint().lower() <= room.limit,
            room: room.clone(),
            held: None,
            of_share: None,
            rest: body,
            broken: false,
            kept: Kept::default(),
            at: 0,
            turn: 0,
        };
        Self { source: Some(Shared(Arc::new(Mutex::new(source)))) }
    }

    /// The body of a call that has none.
    pub(crate) fn nothing() -> Self {
        Self { source: None }
    }

    /// Whether the call has no body.
    pub(crate) fn is_nothing(&self) -> bool {
        self.source.is_none()
    }

    /// Reads ahead as far as it may; it returns only when the body breaks off. An attempt that had
    /// the body has it no more.
    ///
    /// Cancel-safe: what was read is kept.
    pub(crate) async fn read_ahead(&mut self) -> Result<Infallible, BoxError> {
        match &self.source {
            Some(source) if source.lock().recall() => {
                Err(poll_fn(|cx| source.lock().poll_ahead(cx)).await)
            }
            Some(_) | None => pending().await,
        }
    }

    /// Whether every byte that was read of it is still kept, so that it can be sent from its
    /// beginning. An attempt that goes on may change that; see [`Replay::recall`].
    pub(crate) fn is_at_hand(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.lock().is_at_hand())
    }

    /// Takes the body back from the attempt that has it, if it is at hand; says whether it is.
    /// Taken back, it stays at hand until the next attempt. Otherwise the attempt goes on.
    pub(crate) fn recall(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.lock().recall())
    }

    /// The body from its beginning, for one attempt; `None` when it is no longer at hand. An
    /// attempt that had the body has it no more.
    pub(crate) fn attempt(&self) -> Option<Body> {
        let Some(source) = &self.source else { return Some(Body::empty()) };
        let mut locked = source.lock();
        if !locked.recall() {
            return None;
        }
        let turn = locked.turn;
        locked.settle();
        drop(locked);
        Some(Body::boxed(Attempt { source: source.clone(), turn }))
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            let mut source = source.lock();
            source.wanted = false;
            source.let_go();
        }
    }
}

/// The body on its way up, for as long as no other attempt has it.
#[derive(Debug)]
struct Attempt {
    source: Shared,
    turn: u64,
}

impl http_body::Body for Attempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut source = self.source.lock();
        if source.turn != self.turn || source.broken {
            return Poll::Ready(Some(Err(TakenBack.into())));
        }
        source.poll_send(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.lock();
        source.turn == self.turn && source.is_sent()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.lock().size_hint()
    }
}

/// Tells an old connection that the body is no longer its own.
#[derive(Debug, thiserror::Error)]
#[error("the request body was taken back")]
struct TakenBack;

/// What the call and its attempts share, so that the caller's stream outlives an attempt.
#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<Source>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Source {
    room: Room,
    /// For what is kept, and for the next piece while it is read ahead.
    held: Option<OwnedSemaphorePermit>,
    /// Of its caller's share, until the body is gone.
    of_share: Option<OwnedSemaphorePermit>,
    /// What is still to come from the caller.
    rest: Body,
    /// Whether it ended in an error.
    broken: bool,
    kept: Kept,
    /// Whether anybody would send it again.
    wanted: bool,
    /// How far the attempt of this turn has come.
    at: u64,
    turn: u64,
}

impl Source {
    fn is_at_hand(&self) -> bool {
        !self.broken && self.kept.begin == 0
    }

    fn is_sent(&self) -> bool {
        !self.broken && self.at == self.kept.end && self.rest.is_end_stream()
    }

    fn recall(&mut self) -> bool {
        let at_hand = self.is_at_hand();
        if at_hand {
            self.turn += 1;
            self.at = 0;
        }
        at_hand
    }

    /// Reads ahead; ready only with an error.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        while !self.rest.is_end_stream() && self.kept.len() < READ_AHEAD && self.set_aside() {
            match ready!(self.poll_rest(cx)) {
                Some(Ok(bytes)) => {
                    self.kept.push(&bytes);
                    // It may be larger than what was set aside. It is kept, room or not; without,
                    // it is the last.
                    self.make_room(0);
                }
                Some(Err(error)) => return Poll::Ready(error),
                None => break,
            }
        }
        self.settle();
        Poll::Pending
    }

    /// The next bytes of this turn's attempt.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if let Some(bytes) = self.kept.from(self.at) {
            self.at += bytes.len() as u64;
            self.let_go();
            return Poll::Ready(Some(Ok(bytes)));
        }
        let polled = ready!(self.poll_rest(cx));
        if let Some(Ok(bytes)) = &polled {
            self.at += bytes.len() as u64;
            if self.is_kept_to(self.at) && self.make_room(bytes.len() as u64) {
                self.kept.push(bytes);
            } else {
                self.kept.pass(self.at);
                self.settle();
            }
        }
        Poll::Ready(polled)
    }

    /// The next bytes from the caller. Trailers are not sent on.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            let polled = ready!(Pin::new(&mut self.rest).poll_frame(cx));
            match polled.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) if !bytes.is_empty() => return Poll::Ready(Some(Ok(bytes))),
                Some(Ok(Ok(_) | Err(_))) => {}
                Some(Err(error)) => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.rest = Body::empty();
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Whether what went up to `at` stays for a replay.
    fn is_kept_to(&self, at: u64) -> bool {
        self.wanted && self.kept.begin == 0 && at <= self.room.limit
    }

    /// Gives up what this turn's attempt has sent and no replay will need.
    fn let_go(&mut self) {
        if !self.is_kept_to(self.at) {
            self.kept.pass(self.at);
            self.settle();
        }
    }

    /// Makes room for the next piece to be read ahead.
    fn set_aside(&mut self) -> bool {
        let step = self.rest.size_hint().upper().map_or(STEP, |rest| rest.min(STEP));
        // What no replay needs may not take the room of those that do: half stays free of it.
        let needed = self.kept.end + step <= self.room.limit;
        let roomy = self.room.free.available_permits() > self.room.total / 2;
        (needed || roomy) && self.make_room(step)
    }

    /// Makes sure that what is kept and `more` bytes are paid for.
    fn make_room(&mut self, more: u64) -> bool {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = (self.kept.len() + more).saturating_sub(held as u64);
        let Ok(missing) = u32::try_from(missing) else { return false };
        let Ok(permit) = self.room.free.clone().try_acquire_many_owned(missing) else {
            return false;
        };
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        true
    }

    /// Gives back the room that nothing is kept in.
    fn settle(&mut self) {
        if let Some(held) = &mut self.held {
            let kept = usize::try_from(self.kept.len()).unwrap_or(usize::MAX);
            drop(held.split(held.num_permits().saturating_sub(kept)));
        }
    }

    fn size_hint(&self) -> SizeHint {
        let (ahead, rest) = (self.kept.end - self.at, self.rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

/// Bytes of a body, in order, from `begin` to `end` of it.
///
/// They are copied: a slice of a connection's read buffer would keep all of that alive, and a
/// caller could make us hold much more than we count by sending single bytes.
#[derive(Debug, Default)]
struct Kept {
    /// All of one size.
    blocks: VecDeque<Bytes>,
    open: Vec<u8>,
    begin: u64,
    end: u64,
}

impl Kept {
    fn len(&self) -> u64 {
        self.end - self.begin
    }

    fn push(&mut self, mut bytes: &[u8]) {
        self.end += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.open.len()));
            let needed = self.open.len() + now.len();
            if needed > self.open.capacity() {
                // Doubled as always, but not beyond what the block can hold.
                let size = (self.open.capacity() * 2).clamp(needed, BLOCK);
                self.open.reserve_exact(size - self.open.len());
            }
            self.open.extend_from_slice(now);
            if self.open.len() == BLOCK {
                self.blocks.push_back(std::mem::take(&mut self.open).into());
            }
            bytes = later;
        }
    }

    /// The bytes from `at` to the end of their block.
    fn from(&self, at: u64) -> Option<Bytes> {
        let offset = usize::try_from(at.checked_sub(self.begin)?).ok()?;
        if let Some(block) = self.blocks.get(offset / BLOCK) {
            return Some(block.slice(offset % BLOCK..));
        }
        let open = self.open.get(offset - self.blocks.len() * BLOCK..)?;
        (!open.is_empty()).then(|| Bytes::copy_from_slice(open))
    }

    /// Gives up the blocks before `at`.
    fn pass(&mut self, at: u64) {
        if at >= self.end {
            *self = Self { begin: at, end: at, ..Self::default() };
        }
        while self.begin + BLOCK as u64 <= at && self.blocks.pop_front().is_some() {
            self.begin += BLOCK as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;

    fn sized(limit: u64, total: usize) -> Room {
        Room::new(ReplaySettings { limit: u32::try_from(limit).unwrap_or(u32::MAX), total })
    }

    const MIB: usize = 1024 * 1024;

    type Piece = Result<Frame<Bytes>, BoxError>;
    type Feed = mpsc::UnboundedSender<Piece>;

    /// A body whose pieces come when the test sends them.
    fn fed(room: &Room) -> (Feed, Replay) {
        let (feed, mut pieces) = mpsc::unbounded_channel();
        let stream = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
        (feed, Replay::new(Body::boxed(StreamBody::new(stream)), room))
    }

    fn roomy() -> Room {
        sized(MIB as u64, 64 * MIB)
    }

    fn piece(size: usize, byte: u8) -> Piece {
        Ok(Frame::data(Bytes::from(vec![byte; size])))
    }

    fn read_ahead(replay: &mut Replay) -> Option<BoxError> {
        let mut cx = Context::from_waker(Waker::noop());
        match std::pin::pin!(replay.read_ahead()).poll(&mut cx) {
            Poll::Ready(Err(error)) => Some(error),
            Poll::Pending => None,
        }
    }

    /// One poll: bytes, the end, an error, or nothing yet.
    fn poll(body: &mut Body) -> Poll<Option<Result<Bytes, BoxError>>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(body).poll_frame(&mut cx).map_ok(|frame| frame.into_data().unwrap())
    }

    /// What can be had of a body now.
    fn drain(body: &mut Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Poll::Ready(Some(Ok(more))) = poll(body) {
            bytes.extend(more);
        }
        bytes
    }

    fn taken(room: &Room) -> usize {
        room.total - room.free.available_permits()
    }

    fn is_taken_back(body: &mut Body) -> bool {
        matches!(poll(body), Poll::Ready(Some(Err(error))) if error.is::<TakenBack>())
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_sent_first_and_nothing_is_lost() {
        let (feed, mut replay) = fed(&roomy());
        for nth in 0..5 {
            feed.send(piece(1_000, nth)).unwrap();
            assert!(read_ahead(&mut replay).is_none());
        }
        feed.send(piece(1_000, 5)).unwrap();
        drop(feed);
        let expected: Vec<u8> = (0..6).flat_map(|nth| vec![nth; 1_000]).collect();
        for _ in 0..3 {
            let body = replay.attempt().unwrap();
            assert_eq!(body.collect().await.unwrap().to_bytes(), expected);
        }
    }

    #[test]
    fn a_body_of_nothing_can_always_be_sent() {
        let replay = Replay::new(Body::empty(), &sized(0, 0));
        for _ in 0..3 {
            assert!(replay.recall() && replay.attempt().unwrap().is_end_stream());
        }
    }

    #[test]
    fn a_body_is_read_ahead_to_a_bound_and_the_room_is_given_back() {
        let room = roomy();
        let (feed, mut replay) = fed(&room);
        for _ in 0..9 {
            feed.send(piece(MIB, 0)).unwrap();
        }
        assert!(read_ahead(&mut replay).is_none());
        assert_eq!(taken(&room), 4 * MIB);
        // As it is sent, what a replay does not need any more is given up.
        let mut body = replay.attempt().unwrap();
        while replay.is_at_hand() {
            assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
        }
        assert!(taken(&room) < 3 * MIB + BLOCK);
        assert_eq!(drain(&mut body).len(), 8 * MIB - BLOCK);
        assert_eq!(taken(&room), 0);
        drop((body, replay));
        assert_eq!(taken(&room), 0);
    }

    #[test]
    fn reading_ahead_leaves_half_the_room_to_replays() {
        let room = sized(MIB as u64, 8 * MIB);
        let ahead = |room| {
            let (feed, mut replay) = fed(room);
            (0..5).for_each(|_| feed.send(piece(MIB / 2, 0)).unwrap());
            assert!(read_ahead(&mut replay).is_none());
            (feed, replay)
        };
        let _bodies: Vec<_> = (0..3).map(|_| ahead(&room)).collect();
        assert!(taken(&room) <= 6 * MIB, "{}", taken(&room));
        let (feed, replay) = fed(&room);
        feed.send(piece(MIB, 7)).unwrap();
        assert_eq!(drain(&mut replay.attempt().unwrap()).len(), MIB);
        assert!(replay.is_at_hand());
    }

    #[test]
    fn a_body_that_breaks_off_is_told_while_it_is_read_ahead() {
        let (feed, mut replay) = fed(&roomy());
        feed.send(Err("gone".into())).unwrap();
        assert_eq!(read_ahead(&mut replay).unwrap().to_string(), "gone");
        assert!(!replay.is_at_hand() && replay.attempt().is_none());
    }

    #[test]
    fn a_body_that_breaks_off_is_told_with_its_own_error() {
        #[derive(Debug, thiserror::Error)]
        #[error("too large")]
        struct TooLarge;
        let (feed, replay) = fed(&roomy());
        feed.send(piece(1, 0)).unwrap();
        feed.send(Err(TooLarge.into())).unwrap();
        let mut body = replay.attempt().unwrap();
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(e))) if e.is::<TooLarge>()));
        assert!(!body.is_end_stream());
        assert!(!replay.recall());
    }

    #[test]
    fn nothing_is_read_before_it_is_asked_for() {
        let room = roomy();
        let (feed, mut pieces) = mpsc::unbounded_channel();
        let (seen, asked) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let count = asked.clone();
        let stream = futures_util::stream::poll_fn(move |cx| {
            *count.lock().unwrap() += 1;
            pieces.poll_recv(cx)
        });
        let replay = Replay::new(Body::boxed(StreamBody::new(stream)), &room);
        (0..5).for_each(|_| feed.send(piece(10, 0)).unwrap());
        let mut body = replay.attempt().unwrap();
        for _ in 0..5 {
            assert_eq!(*asked.lock().unwrap(), *seen.lock().unwrap());
            assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
            *seen.lock().unwrap() += 1;
        }
    }

    #[test]
    fn a_body_beyond_the_limit_is_sent_once() {
        let room = sized(100, MIB);
        let (feed, replay) = fed(&room);
        feed.send(piece(100, 1)).unwrap();
        let mut body = replay.attempt().unwrap();
        assert_eq!(drain(&mut body).len(), 100);
        assert!(replay.is_at_hand());
        feed.send(piece(1, 2)).unwrap();
        assert_eq!(drain(&mut body), [2]);
        assert!(!replay.recall() && replay.attempt().is_none());
        // It is not taken back, so the attempt that has it goes on.
        feed.send(piece(1, 3)).unwrap();
        assert_eq!(drain(&mut body), [3]);
        assert_eq!(taken(&room), 0);
    }

    #[test]
    fn a_body_for_which_there_is_no_room_is_sent_once() {
        let room = sized(MIB as u64, 150);
        let (feed, replay) = fed(&room);
        let (other_feed, other) = fed(&room);
        feed.send(piece(100, 1)).unwrap();
        other_feed.send(piece(100, 2)).unwrap();
        assert_eq!(drain(&mut replay.attempt().unwrap()).len(), 100);
        assert_eq!(drain(&mut other.attempt().unwrap()).len(), 100);
        assert!(replay.is_at_hand() && !other.is_at_hand());
        drop(replay);
        assert_eq!(taken(&room), 0);
    }

    #[test]
    fn an_old_attempt_takes_no_bytes_from_the_new_one() {
        let (feed, replay) = fed(&roomy());
        feed.send(piece(10, 1)).unwrap();
        let mut old = replay.attempt().unwrap();
        assert_eq!(drain(&mut old).len(), 10);
        assert!(replay.recall());
        feed.send(piece(10, 2)).unwrap();
        assert!(is_taken_back(&mut old));
        let mut new = replay.attempt().unwrap();
        assert!(is_taken_back(&mut old) && !old.is_end_stream());
        assert_eq!(drain(&mut new), [[1; 10], [2; 10]].concat());
    }

    #[test]
    fn a_length_that_is_known_stays_known() {
        let mut replay = Replay::new(Body::full(vec![7; 40_000]), &roomy());
        for _ in 0..3 {
            let mut body = replay.attempt().unwrap();
            assert_eq!(body.size_hint().exact(), Some(40_000));
            let Poll::Ready(Some(Ok(first))) = poll(&mut body) else { panic!("no bytes") };
            assert_eq!(body.size_hint().exact(), Some(40_000 - first.len() as u64));
            assert!(read_ahead(&mut replay).is_none());
        }
        let mut body = replay.attempt().unwrap();
        assert_eq!(drain(&mut body).len(), 40_000);
        assert!(body.is_end_stream());
    }

    #[test]
    fn who_keeps_nothing_for_a_replay_holds_no_room() {
        let room = roomy();
        let (feed, replay) = fed(&room);
        feed.send(piece(1_000, 1)).unwrap();
        let mut body = replay.attempt().unwrap();
        assert_eq!(drain(&mut body).len(), 1_000);
        assert_eq!(taken(&room), 1_000);
        drop(replay);
        assert_eq!(taken(&room), 0);
        // An answer may come before the upload is over; the upload goes on.
        feed.send(piece(1_000, 2)).unwrap();
        assert_eq!(drain(&mut body).len(), 1_000);
        assert_eq!(taken(&room), 0);
        let long = Replay::new(Body::full(vec![0; 2 * MIB]), &room);
        let mut body = long.attempt().unwrap();
        assert_eq!(drain(&mut body).len(), 2 * MIB);
        assert_eq!(taken(&room), 0);
    }

    #[test]
    fn single_bytes_are_kept_as_one_block() {
        let room = roomy();
        let (feed, replay) = fed(&room);
        (0..BLOCK + 1).for_each(|_| feed.send(piece(1, 1)).unwrap());
        assert_eq!(drain(&mut replay.attempt().unwrap()).len(), BLOCK + 1);
        let source = replay.source.as_ref().unwrap().lock();
        assert_eq!(source.kept.blocks.len(), 1);
        assert!(source.kept.open.capacity() <= 8);
    }

    /// What happens to a body, one thing after another.
    #[derive(Clone, Debug)]
    enum Step {
        Feed(Vec<u8>),
        Trailers,
        Ahead,
        Attempt,
        Send(u8),
        SendOld,
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
        let large = (any::<u8>(), BLOCK - 5..3 * BLOCK)
            .prop_map(|(b, size)| (0..size).map(|nth| b.wrapping_add((nth / 7) as u8)).collect());
        prop_oneof![
            4 => bytes(20).prop_map(Step::Feed),
            1 => large.prop_map(Step::Feed),
            1 => Just(Step::Trailers),
            2 => Just(Step::Ahead),
            2 => Just(Step::Attempt),
            3 => (1u8..6).prop_map(Step::Send),
            1 => Just(Step::SendOld),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn every_attempt_sees_the_same_bytes_from_the_beginning(
            steps in proptest::collection::vec(step(), 1..40),
            limit in prop_oneof![0..100u64, 0..100_000u64, Just(u64::MAX)],
            total in prop_oneof![0..200usize, 0..200_000usize, Just(64 * MIB)],
        ) {
            let room = sized(limit, total);
            let (feed, mut replay) = fed(&room);
            let mut feed = Some(feed);
            let (mut fed, mut sent, mut most_sent) = (Vec::new(), Vec::new(), 0);
            let (mut attempt, mut old): (Option<Body>, Option<Body>) = (None, None);
            let mut ahead = false;
            for step in steps {
                match step {
                    Step::Feed(bytes) => {
                        fed.extend_from_slice(&bytes);
                        let piece = Frame::data(Bytes::from(bytes));
                        let _ = feed.as_ref().unwrap().send(Ok(piece));
                    }
                    Step::Trailers => {
                        let trailers = Frame::trailers(http::HeaderMap::new());
                        let _ = feed.as_ref().unwrap().send(Ok(trailers));
                    }
                    Step::Ahead => {
                        let at_hand = replay.is_at_hand();
                        prop_assert!(read_ahead(&mut replay).is_none());
                        prop_assert_eq!(replay.is_at_hand(), at_hand);
                        ahead = true;
                        if at_hand && attempt.is_some() {
                            old = attempt.take();
                        }
                    }
                    Step::Attempt => {
                        let at_hand = replay.is_at_hand();
                        let new = replay.attempt();
                        prop_assert_eq!(new.is_some(), at_hand);
                        if new.is_some() {
                            old = std::mem::replace(&mut attempt, new);
                            sent.clear();
                        }
                    }
                    Step::Send(polls) => {
                        for _ in 0..polls {
                            let Some(body) = &mut attempt else { break };
                            match poll(body) {
                                Poll::Ready(Some(Ok(bytes))) => sent.extend(bytes),
                                Poll::Pending => break,
                                Poll::Ready(other) => prop_assert!(false, "{:?}", other),
                            }
                        }
                        most_sent = most_sent.max(sent.len());
                        prop_assert!(fed.starts_with(&sent));
                    }
                    Step::SendOld => {
                        if let Some(old) = &mut old {
                            prop_assert!(is_taken_back(old));
                        }
                    }
                }
                // What is at hand is so until more went up than is kept, or no room was left.
                if most_sent as u64 <= limit && total == 64 * MIB {
                    prop_assert!(replay.is_at_hand());
                }
                let kept = replay.source.as_ref().unwrap().lock().kept.len() as usize;
                // A piece that is read ahead may be larger than what was set aside for it.
                prop_assert!(kept <= taken(&room) || ahead && kept <= taken(&room) + 3 * BLOCK);
            }
            feed.take();
            let last = replay.attempt();
            if let Some(mut last) = last {
                prop_assert_eq!(&drain(&mut last), &fed);
                prop_assert!(matches!(poll(&mut last), Poll::Ready(None)));
                prop_assert!(last.is_end_stream());
            } else if let Some(mut attempt) = attempt {
                sent.extend(drain(&mut attempt));
                prop_assert_eq!(&sent, &fed);
            }
            drop(replay);
            prop_assert_eq!(taken(&room), 0);
        }
    }
}
