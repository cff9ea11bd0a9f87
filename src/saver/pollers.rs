//! Who asked about which job last, who is on the way to ask, and who waits.
//!
//! Nothing is answered from memory. Who may not ask yet waits; if another goes meanwhile with the
//! same question, sent after this one came, its answer is the answer to both.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::question::{Likeness, Subject};
use crate::base::{CallerId, Priority};

/// How many jobs are remembered. The oldest of which nobody waits is forgotten for a new one.
const JOBS: usize = 4096;

/// How many calls wait for one job. Those who come after them are not held back.
const WAITERS: usize = 1024;

/// A call that asks about a job.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What it asks.
    pub subject: &'a Subject,
    /// And how.
    pub likeness: &'a Likeness,
    /// Who asks.
    pub caller: &'a CallerId,
    /// How urgently.
    pub priority: Priority,
    /// How long after the last question this one goes.
    pub interval: Duration,
    /// How long it waits.
    pub until: Instant,
}

/// How a call goes on.
#[derive(Debug)]
pub enum Turn<A> {
    /// It asks.
    Goes(Slot<A>),
    /// Another asked the same after it had come, and this was the answer.
    Shared(A),
}

/// The call would have to wait longer than it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this job was asked about a moment ago, and the route has {:.1} s between two questions; \
     this call does not wait so long",
    .interval.as_secs_f64()
)]
pub struct TooSoon {
    /// When to ask again.
    pub after: Duration,
    /// What the route says.
    pub interval: Duration,
}

/// The questions about jobs, by all callers.
#[derive(Debug)]
pub struct Pollers<A> {
    jobs: Arc<Jobs<A>>,
    most: usize,
}

type Jobs<A> = Mutex<HashMap<Subject, Job<A>>>;

#[derive(Debug)]
struct Job<A> {
    /// The last question that was sent.
    last: Option<Last>,
    /// From when on it need not be remembered.
    needless: Instant,
    /// Who is on the way, the last of them where there are several.
    lead: Option<Lead>,
    /// By when they came.
    waiters: BTreeMap<u64, Waiter<A>>,
    /// Counts who comes and what is sent, so that it is known which was first.
    events: u64,
    /// Those who wait look again.
    moved: Arc<Notify>,
}

#[derive(Clone, Debug)]
struct Last {
    at: Instant,
    by: CallerId,
}

#[derive(Debug)]
struct Lead {
    number: u64,
    likeness: Likeness,
    caller: CallerId,
    priority: Priority,
    since: Instant,
    sent: bool,
}

#[derive(Debug)]
struct Waiter<A> {
    likeness: Likeness,
    told: oneshot::Sender<A>,
}

/// A call that may ask. Dropping it lets the next one go, at once if nothing was sent.
#[derive(Debug)]
pub struct Slot<A>(Option<Held<A>>);

#[derive(Debug)]
struct Held<A> {
    jobs: Arc<Jobs<A>>,
    subject: Subject,
    likeness: Likeness,
    caller: CallerId,
    interval: Duration,
    number: u64,
    /// When it was sent, and the one before it.
    sent: Option<(u64, Option<Last>)>,
}

/// A call that waits. Dropping it takes it out.
#[derive(Debug)]
struct Seat<'a, A> {
    jobs: &'a Jobs<A>,
    subject: &'a Subject,
    number: u64,
    told: oneshot::Receiver<A>,
}

/// What there is to do for a call.
enum Look<A> {
    Turn(Turn<A>),
    Wait {
        /// When it may ask itself, where that is known.
        at: Option<Instant>,
        hope: Hope,
        moved: OwnedNotified,
    },
}

/// Whether another may bring the answer before this call may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hope {
    None,
    /// One that waits to be sent.
    Perhaps,
    /// One that was sent after this call had come.
    Aboard,
}

impl<A> Default for Pollers<A> {
    fn default() -> Self {
        Self { jobs: Arc::default(), most: JOBS }
    }
}

impl<A: Clone> Pollers<A> {
    /// Waits until a call may ask, or has its answer from another who asked after it had come.
    ///
    /// The first question about a job goes at once. While another is in the queue with the same one,
    /// a call waits for it; behind another caller, or one that is less urgent, no longer than an
    /// interval: nor behind what other callers sent, be it ever so often. Ends at `until`, or an interval later where its question is under way by then.
    ///
    /// Cancel-safe: dropping the future takes the call out.
    ///
    /// # Errors
    /// [`TooSoon`], at once where it is sure.
    pub async fn turn(&self, ask: &Ask<'_>) -> Result<Turn<A>, TooSoon> {
        let (mut seat, came) = (None, Instant::now());
        loop {
            let (at, hope, moved) = match self.look(ask, came, &mut seat) {
                Look::Turn(turn) => return Ok(turn),
                Look::Wait { at, hope, moved } => (at, hope, moved),
            };
            let now = Instant::now();
            let sure = hope == Hope::None && at.is_some_and(|at| at > ask.until);
            if sure || now >= ask.until && hope != Hope::Aboard {
                let after = at.map_or(ask.interval, |at| at.saturating_duration_since(now));
                return Err(TooSoon { after, interval: ask.interval });
            }
            let end = match (at, hope) {
                (Some(at), Hope::Aboard) => at,
                (at, _) => at.map_or(ask.until, |at| at.min(ask.until)),
            };
            tokio::select! {
                () = moved => {}
                () = sleep_until(end) => {}
            }
        }
    }

    fn look<'a>(&'a self, ask: &Ask<'a>, came: Instant, seat: &mut Option<Seat<'a, A>>) -> Look<A> {
        let now = Instant::now();
        let mut jobs = lock(&self.jobs);
        if let Some(told) = seat.as_mut().and_then(|seat| seat.told.try_recv().ok()) {
            return Look::Turn(Turn::Shared(told));
        }
        let Some(job) = self.job(&mut jobs, ask, now) else {
            return Look::Turn(Turn::Goes(Slot(None)));
        };
        job.needless = job.needless.max(now + ask.interval);
        let number = seat.as_ref().map(|seat| seat.number);
        let Some((at, hope)) = job.before(ask, (came, number), now) else {
            return Look::Turn(Turn::Goes(self.lead(job, ask, number, now)));
        };
        if seat.is_none() {
            if job.waiters.len() >= WAITERS {
                return Look::Turn(Turn::Goes(Slot(None)));
            }
            let (tell, told) = oneshot::channel();
            let number = job.next();
            job.waiters.insert(number, Waiter { likeness: ask.likeness.clone(), told: tell });
            *seat = Some(Seat { jobs: &self.jobs, subject: ask.subject, number, told });
        }
        Look::Wait { at, hope, moved: job.moved.clone().notified_owned() }
    }

    /// The job that is asked about; `None` where there is no room to remember it.
    fn job<'j>(
        &self,
        jobs: &'j mut HashMap<Subject, Job<A>>,
        ask: &Ask<'_>,
        now: Instant,
    ) -> Option<&'j mut Job<A>> {
        if !jobs.contains_key(ask.subject) {
            if jobs.len() >= self.most {
                jobs.retain(|_, job| job.is_busy() || now < job.needless);
            }
            if jobs.len() >= self.most {
                let idle = jobs.iter().filter(|(_, job)| !job.is_busy());
                let oldest =
                    idle.min_by_key(|(_, job)| job.last.as_ref().map(|last| last.at))?.0.clone();
                jobs.remove(&oldest);
            }
        }
        Some(jobs.entry(ask.subject.clone()).or_insert_with(|| Job {
            last: None,
            needless: now,
            lead: None,
            waiters: BTreeMap::new(),
            events: 0,
            moved: Arc::default(),
        }))
    }

    fn lead(&self, job: &mut Job<A>, ask: &Ask<'_>, seat: Option<u64>, now: Instant) -> Slot<A> {
        if let Some(seat) = seat {
            job.waiters.remove(&seat);
        }
        let number = job.next();
        job.lead = Some(Lead {
            number,
            likeness: ask.likeness.clone(),
            caller: ask.caller.clone(),
            priority: ask.priority,
            since: now,
            sent: false,
        });
        // Those who could go now wait for this one.
        job.moved.notify_waiters();
        Slot(Some(Held {
            jobs: self.jobs.clone(),
            subject: ask.subject.clone(),
            likeness: ask.likeness.clone(),
            caller: ask.caller.clone(),
            interval: ask.interval,
            number,
            sent: None,
        }))
    }
}

impl<A> Job<A> {
    fn next(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn is_busy(&self) -> bool {
        self.lead.is_some() || !self.waiters.is_empty()
    }

    /// What a call has to wait for, and when that is over where it is known; `None` where it may go.
    fn before(
        &self,
        ask: &Ask<'_>,
        (came, seat): (Instant, Option<u64>),
        now: Instant,
    ) -> Option<(Option<Instant>, Hope)> {
        let free = self.last.as_ref().map(|last| last.at + ask.interval);
        // What another caller sends, in other words each time, must not hold this one for ever.
        let theirs = self.last.as_ref().is_some_and(|last| last.by != *ask.caller);
        let own = free.map(|free| if theirs { free.min(came + ask.interval) } else { free });
        let (free, own) = (free.filter(|at| now < *at), own.filter(|at| now < *at));
        match &self.lead {
            Some(lead) if !lead.sent => {
                // A place in the queue that is worse than this call's own must not hold it for long.
                let own = lead.caller == *ask.caller && lead.priority <= ask.priority;
                let enough = lead.since + ask.interval;
                match own {
                    true => Some((None, Hope::Perhaps)),
                    false => (now < enough).then_some((Some(enough), Hope::Perhaps)),
                }
            }
            Some(lead) => {
                let came_before = seat.is_some_and(|seat| seat < lead.number);
                let aboard = came_before && lead.likeness == *ask.likeness;
                match aboard {
                    true => free.map(|free| (Some(free), Hope::Aboard)),
                    false => own.map(|own| (Some(own), Hope::None)),
                }
            }
            None => own.map(|own| (Some(own), Hope::None)),
        }
    }
}

impl<A> Slot<A> {
    /// The question is sent now. Who comes from now on is not told its answer.
    pub fn sent(&mut self) {
        self.change(|job, held, now| {
            let before = held.sent.take().map_or_else(|| job.last.clone(), |(_, before)| before);
            let number = job.next();
            held.sent = Some((number, before));
            job.last = Some(Last { at: now, by: held.caller.clone() });
            job.needless = job.needless.max(now + held.interval);
            if let Some(lead) = job.lead.as_mut().filter(|lead| lead.number == held.number) {
                lead.number = number;
                lead.sent = true;
                held.number = number;
            }
        });
    }

    /// It was not sent after all.
    pub fn not_sent(&mut self) {
        self.change(|job, held, now| {
            if let Some((_, before)) = held.sent.take() {
                job.last = before;
            }
            job.waits_again(held.number, now);
        });
    }

    /// It was refused, and waits in the queue once more.
    pub fn waits_again(&mut self) {
        self.change(|job, held, now| job.waits_again(held.number, now));
    }

    /// Whether anybody waits who would be told the answer.
    pub fn is_awaited(&self) -> bool {
        let Some(held) = &self.0 else { return false };
        let jobs = lock(&held.jobs);
        jobs.get(&held.subject).is_some_and(|job| held.riders(job).next().is_some())
    }

    /// This was the answer: all are told who had asked the same before it was sent.
    pub fn landed(mut self, answer: &A)
    where
        A: Clone,
    {
        self.change(|job, held, _| {
            let riders: Vec<u64> = held.riders(job).collect();
            for rider in riders {
                if let Some(waiter) = job.waiters.remove(&rider) {
                    // Who is not there any more needs no answer.
                    let _ = waiter.told.send(answer.clone());
                }
            }
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut Job<A>, &mut Held<A>, Instant)) {
        let Some(held) = &mut self.0 else { return };
        let all = held.jobs.clone();
        let mut jobs = lock(&all);
        if let Some(job) = jobs.get_mut(&held.subject) {
            change(job, held, Instant::now());
            job.moved.notify_waiters();
        }
    }
}

impl<A> Held<A> {
    fn riders<'j>(&'j self, job: &'j Job<A>) -> impl Iterator<Item = u64> + 'j {
        let sent = self.sent.as_ref().map_or(0, |(number, _)| *number);
        let before = job.waiters.range(..sent);
        before.filter(|(_, waiter)| waiter.likeness == self.likeness).map(|(number, _)| *number)
    }
}

impl<A> Job<A> {
    fn waits_again(&mut self, number: u64, now: Instant) {
        if let Some(lead) = self.lead.as_mut().filter(|lead| lead.number == number) {
            lead.sent = false;
            lead.since = now;
        }
    }
}

impl<A> Drop for Slot<A> {
    fn drop(&mut self) {
        self.change(|job, held, _| {
            job.lead = job.lead.take().filter(|lead| lead.number != held.number);
        });
        if let Some(held) = &self.0 {
            forget(&held.jobs, &held.subject);
        }
    }
}

impl<A> Drop for Seat<'_, A> {
    fn drop(&mut self) {
        if let Some(job) = lock(self.jobs).get_mut(self.subject) {
            job.waiters.remove(&self.number);
        }
        forget(self.jobs, self.subject);
    }
}

/// Forgets a job that nobody has asked about after all.
fn forget<A>(jobs: &Jobs<A>, subject: &Subject) {
    let mut jobs = lock(jobs);
    if jobs.get(subject).is_some_and(|job| !job.is_busy() && job.last.is_none()) {
        jobs.remove(subject);
    }
}

fn lock<A>(jobs: &Jobs<A>) -> MutexGuard<'_, HashMap<Subject, Job<A>>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
