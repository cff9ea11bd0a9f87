//! What a connection is doing, and when its peer has dawdled for too long.
//!
//! hyper-util has no timer while it finds out which protocol is spoken, and hyper counts the
//! wait between two requests as part of the second one's head, and waits for ever for a peer that
//! does not read. So the clocks are ours.
//!
//! Frames that are no part of a call (pings, settings, priorities, a header block that never ends)
//! move none of them, whatever their number.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::Version;
use tokio::time::{Instant, Sleep};

use crate::server::ServerSettings;
use crate::server::pace::{Demand, Pace};

/// How long an h2 peer that has to make room may take to end its connection in good order.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// How often a write is tried that waits, though nobody says that there is room: the kernel speaks of it
/// only when a third of its buffer is free. Else bytes that the peer took in the first moment would be
/// found at the end of the `write_timeout`, and it would have another one.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// How long an HTTP/1 connection is idle until it lets its buffers go.
const REST_AFTER: Duration = Duration::from_secs(1);

/// What one connection is doing; shared by its stream, its exchanges and its deadline.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// The connection's task, told when the last open exchange ends, and when its place is needed.
    task: AtomicWaker,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
}

#[derive(Debug)]
struct State {
    /// Whether HTTP is spoken yet.
    begun: bool,
    /// Exchanges whose response is not yet written. While there are any, no clock runs here:
    /// a call may wait long for its turn.
    open: usize,
    waits_for: Next,
    since: Instant,
    multiplexed: bool,
    /// How fast the peer takes what is written, whether or not an exchange is open.
    writing: Pace,
    /// Whether the connection is to end so that another may begin.
    unwanted: bool,
    /// Whether it is at rest since its last exchange.
    resting: bool,
}

/// What is waited for while no exchange is open.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The rest of a head.
    Head,
    /// The first byte of a head.
    Request,
    /// The peer's part in ending the connection, until this time at the latest.
    End { last: Option<Instant> },
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The peer does not send what it should, or nothing at all.
    Dawdles,
    /// The peer does not read.
    Stalls,
    /// Its place is needed, and nothing is under way.
    MakesRoom,
    /// It need not end, but let its buffers go.
    Rests,
}

/// How a connection looks to whoever needs its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// An exchange is under way.
    Busy,
    /// Idle or half-open since then.
    Silent(Instant),
    /// It was told to end.
    Leaving,
}

impl Activity {
    pub(super) fn new(settings: &ServerSettings) -> Self {
        Self {
            state: Mutex::new(State {
                begun: false,
                open: 0,
                waits_for: Next::Head,
                since: Instant::now(),
                multiplexed: false,
                writing: Pace::new(Demand::of_a_taker(
                    settings.write_timeout,
                    settings.min_body_rate,
                )),
                unwanted: false,
                resting: false,
            }),
            task: AtomicWaker::new(),
            header_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            write_timeout: settings.write_timeout,
        }
    }

    /// HTTP begins on the connection; says no where its place is needed for another.
    pub(super) fn begins(&self) -> bool {
        let mut state = self.state();
        state.begun = true;
        !state.unwanted
    }

    pub(super) fn standing(&self) -> Standing {
        let state = self.state();
        match state.open {
            0 if state.unwanted => Standing::Leaving,
            0 => Standing::Silent(state.since),
            _ => Standing::Busy,
        }
    }

    /// Asks the connection to end, unless an exchange begins before it hears of that. Says whether
    /// there is nobody yet to hear it, because HTTP has not begun.
    pub(super) fn make_room(&self) -> bool {
        let mut state = self.state();
        state.unwanted = true;
        // Nobody else is asked meanwhile, so who takes its time to end has less of it now.
        if let Next::End { last } = &mut state.waits_for {
            let soon = Instant::now().checked_add(ROOM_WAIT.min(self.header_timeout));
            *last = last.iter().copied().chain(soon).min();
        }
        let begun = state.begun;
        drop(state);
        self.task.wake();
        !begun
    }

    pub(super) fn write_timeout(&self) -> Duration {
        self.write_timeout
    }

    /// How long, in all, nothing could be written because the peer did not read.
    pub(super) fn blocked(&self) -> Duration {
        self.state().writing.waited()
    }

    /// Begins an exchange; it lasts until the guard is dropped.
    pub(super) fn begin(activity: &Arc<Self>, version: Version) -> Exchange {
        let mut state = activity.state();
        state.open += 1;
        state.resting = false;
        state.multiplexed = version == Version::HTTP_2;
        drop(state);
        Exchange(Arc::clone(activity))
    }

    /// Whether the last request came by h2.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.state().multiplexed
    }

    /// Gives the peer one more `header_timeout`, and as much again after each write that it was
    /// waited for, up to one more `idle_timeout` in all, to end the connection in good order. One
    /// that has to make room is given a second.
    pub(super) fn last_wait(&self, why: Late) {
        let now = Instant::now();
        let most = match why {
            Late::MakesRoom => ROOM_WAIT.min(self.header_timeout),
            Late::Dawdles | Late::Stalls | Late::Rests => {
                self.idle_timeout.max(self.header_timeout)
            }
        };
        let mut state = self.state();
        state.waits_for = Next::End { last: now.checked_add(most) };
        state.since = now;
    }

    /// The connection lets its buffers go, if it has any; once for each time that it is idle.
    pub(super) fn rests(&self) {
        self.state().resting = true;
    }

    pub(super) fn on_read(&self) {
        let mut state = self.state();
        // On h2, what arrives between two requests is pings and acknowledgements.
        if state.open == 0 && !state.multiplexed && state.waits_for == Next::Request {
            state.waits_for = Next::Head;
            state.since = Instant::now();
        }
    }

    pub(super) fn on_write(&self, bytes: usize) {
        let mut state = self.state();
        let had_waited = state.writing.moved(bytes);
        // The end of a response may still be on its way when its body is done. On h2, what is
        // written between two requests is pings, and what is written after GOAWAY may be.
        let counts = match state.waits_for {
            Next::Head => false,
            Next::Request => !state.multiplexed,
            Next::End { .. } => had_waited,
        };
        if state.open == 0 && counts {
            state.since = Instant::now();
        }
    }

    /// The peer has not read what was written before.
    pub(super) fn on_blocked(&self) {
        self.state().writing.wait();
    }

    /// Why and when the connection has to end, if nothing moves until then.
    fn due(&self) -> Option<(Instant, Late)> {
        let mut state = self.state();
        if state.open > 0 {
            // Whoever wanted the place comes again.
            state.unwanted = false;
        }
        let stalls = state.writing.due().map(|(due, _)| (due, Late::Stalls));
        let next = match state.waits_for {
            _ if state.open > 0 => None,
            Next::End { last } => {
                let ends = state.since.checked_add(self.header_timeout);
                ends.into_iter().chain(last).min()
            }
            _ if state.unwanted => return Some((state.since, Late::MakesRoom)),
            Next::Head => state.since.checked_add(self.header_timeout),
            Next::Request => state.since.checked_add(self.idle_timeout),
        };
        let dawdles = next.map(|due| (due, Late::Dawdles));
        // Not while something is left to write: it would be lost with the buffers.
        let may_rest = state.waits_for == Next::Request
            && !(state.open > 0 || state.multiplexed || state.resting || state.writing.waits());
        let rests = may_rest.then(|| state.since + REST_AFTER).map(|due| (due, Late::Rests));
        [rests, stalls, dawdles].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// When the connection is to be looked at, if it has to end at `due`.
    fn look(&self, due: Instant) -> Instant {
        if self.state().writing.waits() { due.min(Instant::now() + WRITE_EVERY) } else { due }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and each change is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One exchange that is under way.
pub(super) struct Exchange(Arc<Activity>);

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        if state.open == 0 {
            state.waits_for = Next::Request;
            state.since = Instant::now();
            drop(state);
            self.0.task.wake();
        }
    }
}

/// Ends when the peer has dawdled for too long.
pub(super) struct Overdue<'a> {
    activity: &'a Activity,
    sleep: Pin<Box<Sleep>>,
}

impl<'a> Overdue<'a> {
    pub(super) fn new(activity: &'a Activity) -> Self {
        Self { activity, sleep: Box::pin(tokio::time::sleep(activity.header_timeout)) }
    }

    /// Ready when the connection has to end; may be polled again after that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        self.activity.task.register(cx.waker());
        loop {
            let Some((due, why)) = self.activity.due() else { return Poll::Pending };
            if why == Late::MakesRoom {
                return Poll::Ready(why);
            }
            let look = self.activity.look(due);
            if self.sleep.deadline() > look {
                self.sleep.as_mut().reset(look);
            }
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(why);
            }
            // The timer is set anew only when an earlier wait's time comes, not at each request.
            self.sleep.as_mut().reset(look);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::on_a_free_port;

    #[tokio::test(start_paused = true)]
    async fn who_takes_its_time_to_end_makes_room_within_a_second() {
        let settings = on_a_free_port();
        let activity = Arc::new(Activity::new(&settings));
        assert!(activity.begins());
        drop(Activity::begin(&activity, Version::HTTP_2));
        activity.last_wait(Late::Dawdles);
        assert_eq!(activity.due().unwrap().0, Instant::now() + settings.header_timeout);
        assert!(!activity.make_room());
        assert_eq!(activity.standing(), Standing::Leaving);
        assert_eq!(activity.due(), Some((Instant::now() + ROOM_WAIT, Late::Dawdles)));
        // Asked again, it has no more time for that.
        let asked = Instant::now();
        tokio::time::sleep(ROOM_WAIT / 2).await;
        activity.make_room();
        assert_eq!(activity.due(), Some((asked + ROOM_WAIT, Late::Dawdles)));
    }
}
