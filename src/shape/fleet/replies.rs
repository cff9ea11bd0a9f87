//! What the speaker makes of the store's answers, and of what it tells by itself.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::shape::fleet::handle::{InstanceView, News};
use crate::shape::fleet::speaker::{CURRENT, Call, NEWCOMER, SUSPENDED, Speaker, suspended};
use crate::shape::fleet::timing::{Agrees, Sample, StoreTime};
use crate::shape::fleet::wire::{self, Push, Reply, Status};

/// After a call that was much slower or quicker than thought.
const ANOTHER_TRY: Duration = Duration::from_millis(20);

impl Speaker {
    pub(super) fn answered(&mut self, call: &Call, sent: Instant, mut reply: Reply) {
        let received = Instant::now();
        let slept = suspended().abs_diff(self.suspended) > SUSPENDED;
        if slept {
            // Since when it was granted nobody here can tell; the next call makes a new beginning.
            tracing::info!("this machine was suspended; what was granted goes back");
            self.timing.forget();
            let unused: Vec<_> = reply.answer.grants.drain(..).map(|grant| grant.id).collect();
            self.queue.with(|queue| queue.return_unused(unused));
        }
        let sample = Sample { sent, received, store: reply.now };
        self.rounds.rotate_right(1);
        self.rounds[0] = received - sent;
        if !slept && self.timing.learn(sample, self.tolerance()) == Agrees::No {
            tracing::warn!(
                "the clock of the shared budget was set; nothing is sent for a whole window"
            );
            self.stepped = true;
            self.again = Some(received);
        } else if call.stepped {
            self.stepped = false;
        }
        self.known_since.get_or_insert(received);
        if call.known {
            self.upload = false;
        }
        self.learn_news(call, sent, received, &reply);
        if let Some(table) = &reply.table {
            let instance = &self.inner.instance;
            self.inner.tabled(table.iter().filter_map(|seat| view(seat, instance)).collect());
        }
        match reply.status {
            Status::Taken => {}
            // A slow call; the next one is quicker, or finds out that it is the clock.
            Status::Mismatch => self.again = Some(received + ANOTHER_TRY),
            Status::Newcomer => {
                // Where that time is over, there is no room for it.
                let at = self.known_since.map(|since| since + NEWCOMER);
                self.again = at.filter(|at| *at > received).or(Some(received + NEWCOMER));
                self.queue.with(|queue| queue.settle(received));
                return;
            }
            Status::Old => return,
        }
        self.failing = None;
        let mut answer = reply.answer;
        if reply.status == Status::Mismatch {
            // It may want to be asked at once, again and again.
            answer.look = None;
        }
        if self.stepped {
            // They were granted by a clock that nobody knows.
            let unused: Vec<_> = answer.grants.drain(..).map(|grant| grant.id).collect();
            self.queue.with(|queue| queue.return_unused(unused));
        }
        let base = self.timing.surely(reply.now, received).map_or(received, |at| at.min(received));
        // The store counts a send from its grant; it may begin later by less than the guard.
        // With the step of a clock that nobody notices it is less than the guard still.
        let life = (self.constants.guard * 7 / 10).max(Duration::from_millis(50));
        let granted = self.timing.not_before(reply.now, received).map_or(sent, |at| at.max(sent));
        self.queue.with(|queue| queue.hear(received, base, &answer, granted.min(received) + life));
        self.inner.joined();
    }

    /// What others have told meanwhile, and who has heard what was told here.
    fn learn_news(&mut self, call: &Call, sent: Instant, received: Instant, reply: &Reply) {
        // News that came by themselves meanwhile may be newer than this answer.
        if reply.missed || reply.generation < call.applied {
            (self.hear)(News::Missed);
            self.applied = reply.generation;
        }
        // What this call told are the latest.
        let own = reply.generation.saturating_sub(call.news.len() as u64);
        for (generation, text) in &reply.news {
            if *generation > self.applied {
                self.applied = *generation;
                if *generation <= own {
                    (self.hear)(News::Told(text.clone()));
                }
            }
        }
        if self.applied < reply.generation {
            // More than one answer holds.
            self.again = Some(received);
        } else {
            self.inner.current(sent + CURRENT);
        }
        self.inner.told(&call.news, reply.generation, received + CURRENT);
        self.inner.acked(reply.acked);
        if !call.news.is_empty() || !reply.news.is_empty() || self.inner.has_more() {
            // That it was heard has to be known, so that who told it need not wait.
            self.again.get_or_insert(received);
        }
    }

    pub(super) fn pushed(&mut self, text: &str) {
        let now = Instant::now();
        match wire::push(text) {
            Some(Push::Look(at, after)) => self.look_at(at, after, now),
            Some(Push::News { from, .. }) if from == self.inner.instance => {}
            Some(Push::News { generation, text, .. }) => {
                if generation == self.applied + 1 && self.known_since.is_some() {
                    self.applied = generation;
                    (self.hear)(News::Told(text));
                }
                self.again = Some(now);
            }
            Some(Push::Acked(generation)) => self.inner.acked(generation),
            Some(Push::Pause { meters, left, from }) if from != self.inner.instance => {
                let named = |name: &String| self.constants.names.iter().position(|one| one == name);
                let meters: Vec<usize> = meters.iter().filter_map(named).collect();
                self.queue.with(|queue| queue.hear_pause(now, &meters, left));
            }
            // Who does not know the clock itself cannot tell whether it was set.
            Some(Push::Call) if self.is_newcomer(now) => {}
            Some(Push::Call) => self.again = Some(now),
            Some(Push::Pause { .. }) | None => {}
        }
    }

    fn look_at(&self, at: StoreTime, after: Duration, now: Instant) {
        // Where the store's clock was set, and nobody here knows it yet, the second is the truth.
        let known = self.timing.surely(at, now);
        let told = now.checked_add(after);
        if let Some(at) = known.into_iter().chain(told).min() {
            self.queue.with(|queue| queue.look_at(at));
        }
    }
}

fn view(seat: &wire::Seat, instance: &str) -> Option<InstanceView> {
    let info: Value = serde_json::from_str(&seat.info).ok()?;
    let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    Some(InstanceView {
        id: seat.id.clone(),
        name: text("name"),
        version: text("version"),
        up: Duration::from_secs(info.get("up").and_then(Value::as_u64).unwrap_or(0)),
        heard: seat.ago,
        is_this: seat.id == instance,
    })
}
