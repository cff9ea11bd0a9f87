//! All budgets of a process in service.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::base::{BudgetId, CallerId, CredentialId, Priority};
use crate::shape::callers::{CallerRules, Callers};
use crate::shape::clock::Moment;
use crate::shape::fleet::{
    BudgetStore, Constants, Fleet, FleetSettings, Inner, Membership, News, Speaker, meter_words,
};
use crate::shape::folder::{Locked, StateError, StatePlace, take_lock};
use crate::shape::journal::{self, Journal, Past, Sender};
use crate::shape::lane::{Lane, Purpose, Service, Way};
use crate::shape::line::{LaneIndex, Seat};
use crate::shape::place::{Place, Shared, pump};
use crate::shape::queue::{Queue, Request};
use crate::shape::refused::Refused;
use crate::shape::settings::{BudgetSettings, Key, Scope};
use crate::shape::stop::Stop;
use crate::shape::takeover::{Before, Plan, Takeover};

/// Everything that shaping is told.
#[derive(Clone, Debug, Default)]
pub struct ShaperSettings {
    /// The budgets.
    pub budgets: Vec<BudgetSettings>,
    /// Every key that some route names, with what it is charged to.
    pub keys: Vec<Key>,
    /// What callers may do; one that is not here may do anything.
    pub callers: Vec<CallerRules>,
}

/// Calls that may go with the same keys; what a route is to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneId(LaneIndex);

/// What a call asks.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Which keys it may go with.
    pub lane: LaneId,
    /// Who asks.
    pub caller: &'a CallerId,
    /// How urgent it is.
    pub priority: Priority,
    /// How long it waits; the budget's `max_wait` where it does not say.
    pub max_wait: Option<Duration>,
}

/// What a budget, or a key of it, looks like at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub id: BudgetId,
    /// The key, where each has a ledger of its own.
    pub key: Option<CredentialId>,
    /// Sends per window.
    pub limit: usize,
    /// Sends that count now.
    pub used: usize,
    /// Calls that wait.
    pub queued: usize,
    /// How long nobody sends any more, since Omni said so; zero while the probe is out.
    pub paused: Option<Duration>,
    /// Whether nobody sends, since somebody paused it by hand.
    pub held: bool,
    /// Whether it sends as `strict` does, since Omni refused a call within the limit.
    pub strict: bool,
}

/// What a call that comes now may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// How many such calls would go at once.
    pub free: usize,
    /// When the next one would go.
    pub next: Duration,
    /// Whether every key that it may go with is held by a pause: Omni said that it is too much,
    /// and nobody charged to it sends, also while the probe is out; or somebody has paused it by
    /// hand. False once the next call would be the probe.
    pub paused: bool,
    /// Whether half as many wait as may, or more.
    pub crowded: bool,
}

/// What a call that came now would be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// How many calls would presumably go before it.
    pub position: usize,
    /// When its turn would presumably be, from now.
    pub wait: Duration,
}

/// The budgets in service. Dropping it ends their pump.
#[derive(Debug)]
pub struct Shaper {
    pub(super) shared: Arc<Shared>,
    pump: AbortHandle,
    settings: Vec<BudgetSettings>,
    journal: Option<Arc<Journal>>,
    /// The other instances, and the task that talks to the store.
    fleet: OnceLock<(Fleet, AbortHandle)>,
    /// Held for the life of the process; the kernel lets go of it however we end.
    _lock: Option<File>,
}

impl Shaper {
    /// Puts the budgets into service, with what an earlier life of this folder has sent, and starts
    /// their pump on the current runtime. Without a place (or with one that cannot be written)
    /// the ledger lives in memory only.
    ///
    /// # Errors
    /// [`StateError`], when another process uses the folder.
    pub fn open(settings: ShaperSettings, place: Option<&StatePlace>) -> Result<Self, StateError> {
        Self::open_at(settings, place, Moment::now())
    }

    pub(crate) fn open_at(
        settings: ShaperSettings,
        place: Option<&StatePlace>,
        now: Moment,
    ) -> Result<Self, StateError> {
        let ShaperSettings { budgets, keys, callers } = settings;
        let span = budgets.iter().map(|s| s.window + s.guard).max().unwrap_or_default();
        let (lock, before) = match place {
            None => (None, Before::FirstStart),
            Some(place) => match take_lock(&place.folder)? {
                Locked::Yes { file, used_before } => {
                    let past = journal::read(&place.file(), &now, span);
                    (Some(file), Before::from(past, used_before))
                }
                Locked::Unwritable { error, used_before } => {
                    tracing::error!(folder = %place.folder.display(), %error,
                        "the state folder cannot be written; the limit holds until this process ends");
                    // Whoever used it before could not write down all that it sent either.
                    (None, Before::from(Past::Nothing, used_before))
                }
            },
        };
        let plans = plans(&budgets, &keys);
        // A lower limit than before does not make the sends fewer that still count.
        let limits: usize = plans.iter().map(|(s, _)| s.limit.get() as usize).sum();
        let room = limits * 2 + plans.len() + before.records() + 64;
        let journal = place.filter(|_| lock.is_some()).and_then(|place| {
            let made = Journal::create(&place.file(), room, now.clone());
            made.inspect_err(|error| place.give_up(error)).ok().map(Arc::new)
        });
        let mut queue = Queue::new(Callers::new(callers), journal.clone());
        let mut takeover = Takeover::new(&keys, &plans, before, now, journal.clone());
        queue.meters = plans.iter().map(|plan| takeover.meter(plan)).collect();
        if let (Some(place), Some(journal)) = (place, &journal) {
            journal.publish().unwrap_or_else(|error| place.give_up(&error));
        }
        let shared = Arc::new(Shared::new(queue));
        let pump = tokio::spawn(pump(shared.clone())).abort_handle();
        Ok(Self { shared, pump, settings: budgets, journal, fleet: OnceLock::new(), _lock: lock })
    }

    /// What the budget of that name was told.
    pub fn budget(&self, id: &BudgetId) -> Option<&BudgetSettings> {
        self.settings.iter().find(|budget| budget.id == *id)
    }

    /// The budgets, as they were told, in the config's order.
    pub fn budgets(&self) -> &[BudgetSettings] {
        &self.settings
    }

    /// The lane of calls that may go with these keys; `None` where one names a budget that is not
    /// there, or there is no key.
    pub fn lane(&self, keys: &[Key]) -> Option<LaneId> {
        self.lane_for(keys, Purpose::Calls)
    }

    /// The lane of our own calls that ask whether a key is good. They are charged like any other,
    /// and go also while the key is out of service.
    pub fn probe_lane(&self, key: &Key) -> Option<LaneId> {
        self.lane_for(std::slice::from_ref(key), Purpose::Probes)
    }

    fn lane_for(&self, keys: &[Key], purpose: Purpose) -> Option<LaneId> {
        let named = keys.iter().flat_map(|key| &key.budgets);
        let settings: Option<Vec<&BudgetSettings>> =
            named.map(|id| self.budget(id)).collect::<Option<_>>().filter(|_| !keys.is_empty());
        let settings = settings?;
        Some(self.shared.with(|queue| {
            let ways: Vec<Way> = keys.iter().map(|key| way(queue, key, purpose)).collect();
            let alike = |lane: &Lane| {
                lane.purpose == purpose
                    && lane.ways.len() == ways.len()
                    && lane
                        .ways
                        .iter()
                        .zip(&ways)
                        .all(|(a, b)| a.credential == b.credential && a.meters == b.meters)
            };
            let index = queue.lanes.iter().position(alike).unwrap_or_else(|| {
                queue.lanes.push(Lane::new(ways, purpose, &settings));
                queue.lanes.len() - 1
            });
            LaneId(index)
        }))
    }

    /// Takes a place in the line, or refuses at once.
    ///
    /// # Errors
    /// [`Refused`], when too many wait, the caller has had its share, or the turn is sure to come
    /// too late.
    pub fn join(&self, ask: &Ask<'_>) -> Result<Place, Refused> {
        let now = Instant::now();
        self.shared.with(|queue| {
            let seat = seat(queue, ask);
            let ticket = queue.join(now, Request { seat, max_wait: ask.max_wait })?;
            Ok(Place { shared: self.shared.clone(), ticket, joined: now })
        })
    }

    /// What a call that comes now may expect.
    pub fn outlook(&self, ask: &Ask<'_>) -> Outlook {
        let now = Instant::now();
        self.shared.with(|queue| {
            queue.advance(now);
            let seat = seat(queue, ask);
            let (free, next) = queue.outlook(seat, now);
            let paused = queue.is_paused(seat.lane, now);
            let lane = &queue.lanes[seat.lane];
            Outlook { free, next, paused, crowded: lane.queued * 2 >= lane.max_queued }
        })
    }

    /// What a call that comes now would be told, had it come: how many go before it and when its turn
    /// would be, or the refusal that [`Shaper::join`] would give. It takes no place.
    ///
    /// # Errors
    /// As [`Shaper::join`].
    pub fn foresee(&self, ask: &Ask<'_>) -> Result<Foreseen, Refused> {
        let now = Instant::now();
        self.shared.with(|queue| {
            let seat = seat(queue, ask);
            let expected = queue.expect(now, Request { seat, max_wait: ask.max_wait })?;
            Ok(Foreseen { position: expected.position, wait: expected.estimate })
        })
    }

    /// How long a call such as this waits at most: what it says, or what its budgets say for its
    /// priority.
    pub fn max_wait(&self, ask: &Ask<'_>) -> Duration {
        let of_lane = || self.shared.with(|queue| queue.lanes[ask.lane.0].max_wait(ask.priority));
        ask.max_wait.unwrap_or_else(of_lane)
    }

    /// Takes a key out of service, or back in. While it is out, calls that have no other key are
    /// refused, those that wait too.
    pub fn set_service(&self, credential: &CredentialId, service: Service) {
        self.shared.with(|queue| queue.set_service(Instant::now(), credential, service));
    }

    /// From now on nothing is sent that is charged to this budget, or nothing at all, for so long or
    /// until somebody resumes; of several pauses of the same the last counts. Calls keep waiting, in
    /// their order, and those are refused that do not wait so long. A permit in hand may still begin,
    /// for as long as any permit may: a tenth of a second. A budget that is not there has nothing
    /// to pause.
    pub fn pause(&self, budget: Option<&BudgetId>, time: Option<Duration>) {
        let now = Instant::now();
        self.shared.with(|queue| {
            let stop = Stop::lasting(now, time);
            queue.tell_stop(now, budget, stop);
            queue.pause(now, budget, stop);
        });
    }

    /// Ends the pause by hand of this budget, or every one. What Omni asked for stays.
    pub fn resume(&self, budget: Option<&BudgetId>) {
        let now = Instant::now();
        self.shared.with(|queue| {
            queue.tell_stop(now, budget, Stop::Off);
            queue.resume(now, budget);
        });
    }

    /// What each budget looks like now, in the order of their names.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let now = Instant::now();
        let mut all: Vec<Snapshot> = self.shared.with(|queue| {
            queue.advance(now);
            let shown = |(index, meter): (usize, &crate::shape::meter::Meter)| Snapshot {
                id: meter.budget.clone(),
                key: meter.key.clone(),
                limit: meter.schedule.limit(),
                used: meter.used(),
                queued: queue.queued(index),
                paused: meter.pause.is_on().then(|| {
                    let until = meter.pause.until().unwrap_or(now);
                    until.saturating_duration_since(now)
                }),
                held: meter.stop.max(queue.stop).holds(now),
                strict: meter.schedule.is_strict(),
            };
            queue.meters.iter().enumerate().map(shown).collect()
        });
        all.sort_by(|a, b| (&a.id, &a.key).cmp(&(&b.id, &b.key)));
        all
    }

    /// From now on keeps only calls that are expected to go within `time`, and refuses the rest.
    pub fn drain(&self, time: Duration) {
        let now = Instant::now();
        self.shared.with(|queue| queue.drain(now, now + time));
    }

    /// From now on shares its budgets with all who use the same store: nothing is sent without its yes.
    /// `hear` is called with what the others tell. Called once, before the first call; it needs a
    /// runtime, and what it starts there ends with the shaper.
    pub fn join_fleet(
        &self,
        settings: &FleetSettings,
        store: Arc<dyn BudgetStore>,
        hear: impl Fn(News) + Send + Sync + 'static,
    ) {
        let bell = Arc::new(Notify::new());
        let span = self.settings.iter().map(|one| one.window + one.guard).max().unwrap_or_default();
        let names = self.shared.with(|queue| {
            let fleet = Membership::new(settings.on_lost, bell.clone(), span, Instant::now());
            queue.fleet = Some(fleet);
            queue.advance(Instant::now());
            queue
                .meters
                .iter()
                .map(|meter| (meter.name(), meter.schedule.settings().clone()))
                .collect()
        });
        let names: Vec<(String, BudgetSettings)> = names;
        let constants = Constants {
            meters: names.iter().map(|(name, settings)| meter_words(name, settings)).collect(),
            names: names.into_iter().map(|(name, _)| name).collect(),
            guard: self.settings.iter().map(|one| one.guard).min().unwrap_or_default(),
            trust: settings.trust_empty,
            on_lost: settings.on_lost,
            name: settings.name.clone(),
        };
        let instance = Uuid::now_v7().simple().to_string().split_off(16);
        let inner = Arc::new(Inner::new(instance, bell));
        let queue = self.shared.clone();
        let speaker = Speaker::new(inner.clone(), queue.clone(), store, Box::new(hear), constants);
        let speaks = tokio::spawn(speaker.run()).abort_handle();
        let fleet = Fleet::new(inner, queue, settings.on_lost);
        if let Err((_, speaks)) = self.fleet.set((fleet, speaks)) {
            speaks.abort();
        }
    }

    /// The other instances; `None` where the budgets are this process's own.
    pub fn fleet(&self) -> Option<&Fleet> {
        self.fleet.get().map(|(fleet, _)| fleet)
    }

    /// Whether what is sent is written down, so that another process will know of it.
    pub fn is_kept(&self) -> bool {
        self.journal.is_some()
    }

    /// Marks the ledger as complete. Called last, when nothing can be sent any more.
    pub fn close(&self) {
        if let Some(journal) = &self.journal {
            journal.close();
        }
    }
}

impl Drop for Shaper {
    fn drop(&mut self) {
        self.pump.abort();
        if let Some((_, speaks)) = self.fleet.get() {
            speaks.abort();
        }
    }
}

/// One meter for each budget, or for each of its keys; the one that counts longest first, since it
/// keeps the record of a send that several count.
fn plans(budgets: &[BudgetSettings], keys: &[Key]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for budget in budgets {
        match budget.scope {
            Scope::Organization => plans.push((budget.clone(), None)),
            Scope::Credential => {
                let charged = keys.iter().filter(|key| key.budgets.contains(&budget.id));
                let own: BTreeSet<&CredentialId> = charged.map(|key| &key.credential).collect();
                plans.extend(own.into_iter().map(|key| (budget.clone(), Some(key.clone()))));
            }
        }
    }
    plans.sort_by_key(|(budget, _)| Reverse(budget.window + budget.guard));
    plans
}

fn way(queue: &Queue, key: &Key, purpose: Purpose) -> Way {
    let charged = |meter: &crate::shape::meter::Meter| {
        key.budgets.contains(&meter.budget)
            && meter.key.as_ref().is_none_or(|own| *own == key.credential)
    };
    let meters = queue.meters.iter().enumerate().filter(|(_, meter)| charged(meter));
    let calls = queue.lanes.iter().filter(|lane| lane.purpose == Purpose::Calls);
    let twin = calls.flat_map(|lane| &lane.ways).find(|way| way.credential == key.credential);
    Way {
        credential: key.credential.clone(),
        sender: Sender::credential(&key.credential),
        meters: meters.map(|(index, _)| index).collect(),
        service: match purpose {
            Purpose::Calls => twin.map_or(Service::In, |way| way.service),
            Purpose::Probes => Service::In,
        },
        last_used: 0,
    }
}

pub(crate) fn seat(queue: &mut Queue, ask: &Ask<'_>) -> Seat {
    Seat { priority: ask.priority, caller: queue.callers.index(ask.caller), lane: ask.lane.0 }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::shape::folder::LOCK;
    use crate::shape::settings::{ColdStart, Profile};

    const SECOND: Duration = Duration::from_secs(1);

    /// A machine whose clocks the test moves.
    struct Machine {
        folder: tempfile::TempDir,
        start: Moment,
        settings: Vec<BudgetSettings>,
    }

    impl Machine {
        fn new(cold_start: ColdStart) -> Self {
            let settings = BudgetSettings {
                id: BudgetId::new("omni"),
                limit: NonZeroU32::new(6).unwrap(),
                window: 60 * SECOND,
                guard: SECOND,
                profile: Profile::Burst,
                max_queued: 100,
                max_wait: 600 * SECOND,
                batch_max_wait: 600 * SECOND,
                reserve: 0,
                scope: Scope::Organization,
                cold_start,
            };
            let start = Moment {
                instant: Instant::now(),
                uptime: 5_000 * SECOND,
                calendar: 1_700_000_000 * SECOND,
                boot: [7; 16],
            };
            Self { folder: tempfile::tempdir().unwrap(), start, settings: vec![settings] }
        }

        fn place(&self) -> StatePlace {
            StatePlace { folder: self.folder.path().to_owned(), upstream: "https://o".to_owned() }
        }

        fn moment(&self) -> Moment {
            let passed = self.start.instant.elapsed();
            Moment {
                instant: Instant::now(),
                uptime: self.start.uptime + passed,
                calendar: self.start.calendar + passed,
                boot: self.start.boot,
            }
        }

        fn boot(&self) -> Shaper {
            self.boot_at(self.moment())
        }

        fn boot_at(&self, moment: Moment) -> Shaper {
            self.open(&self.place(), moment).unwrap()
        }

        /// The key `org`, charged to every budget.
        fn keys(&self) -> Vec<Key> {
            let budgets = self.settings.iter().map(|budget| budget.id.clone()).collect();
            vec![Key { credential: CredentialId::new("org"), budgets }]
        }

        fn open(&self, place: &StatePlace, moment: Moment) -> Result<Shaper, StateError> {
            let settings = ShaperSettings {
                budgets: self.settings.clone(),
                keys: self.keys(),
                callers: Vec::new(),
            };
            Shaper::open_at(settings, Some(place), moment)
        }

        /// Spends a used ledger: six sends, two seconds apart, and a kill.
        async fn spend(&self) {
            let shaper = self.boot();
            for _ in 0..6 {
                send(&shaper).await;
                tokio::time::sleep(2 * SECOND).await;
            }
        }
    }

    /// The permit of a call that may go with any key, as if it were the only lane.
    async fn permit(shaper: &Shaper) -> crate::shape::place::Permit {
        let budgets: Vec<BudgetId> = shaper.settings.iter().map(|one| one.id.clone()).collect();
        let key = Key { credential: CredentialId::new("org"), budgets };
        let ask = Ask {
            lane: shaper.lane(&[key]).unwrap(),
            caller: &CallerId::new("anonymous"),
            priority: Priority::Normal,
            max_wait: None,
        };
        let mut place = shaper.join(&ask).unwrap();
        place.near().await.unwrap();
        place.turn().await.unwrap()
    }

    async fn send(shaper: &Shaper) {
        permit(shaper).await.begin();
    }

    async fn first_send(shaper: &Shaper) -> Duration {
        let start = Instant::now();
        send(shaper).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_process_has_not_forgotten_what_it_sent() {
        let machine = Machine::new(ColdStart::Trust);
        machine.spend().await;
        // Sent at 0, 2, … 10 s and killed at 12 s: the first slot is free again at 61 s.
        assert_eq!(first_send(&machine.boot()).await, 49 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_in_hand_at_the_kill_counts_to_the_last_moment_of_its_life() {
        let machine = Machine::new(ColdStart::Trust);
        let shaper = machine.boot();
        let mut permits = Vec::new();
        for _ in 0..6 {
            permits.push(permit(&shaper).await);
        }
        permits.into_iter().for_each(std::mem::forget);
        drop(shaper);
        tokio::time::sleep(SECOND).await;
        assert_eq!(first_send(&machine.boot()).await, Duration::from_millis(60_100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_survives_a_kill() {
        let machine = Machine::new(ColdStart::Trust);
        let shaper = machine.boot();
        let refused = permit(&shaper).await;
        let outcome = refused.outcome();
        refused.begin();
        outcome.limited(Some(30 * SECOND));
        drop(shaper);
        tokio::time::sleep(10 * SECOND).await;
        let shaper = machine.boot();
        assert_eq!(shaper.snapshots()[0].paused, Some(20 * SECOND));
        assert_eq!(first_send(&shaper).await, 20 * SECOND);
        drop(shaper);
        tokio::time::sleep(SECOND).await;
        assert_eq!(machine.boot().snapshots()[0].paused, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_that_came_back_is_not_remembered() {
        let machine = Machine::new(ColdStart::Trust);
        let shaper = machine.boot();
        for _ in 0..100 {
            drop(permit(&shaper).await);
        }
        drop(shaper);
        assert_eq!(first_send(&machine.boot()).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_process_is_turned_away_by_the_pid_of_the_first() {
        let machine = Machine::new(ColdStart::Trust);
        let _first = machine.boot();
        let again = machine.open(&machine.place(), machine.moment());
        let Err(StateError::InUse { holder: Some(pid), .. }) = again else { panic!("{again:?}") };
        assert_eq!(pid, std::process::id());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_cut_at_any_byte_keeps_the_gate_shut_for_a_span() {
        let machine = Machine::new(ColdStart::Trust);
        machine.spend().await;
        let file = machine.place().file();
        let whole = std::fs::read(&file).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&file, &whole[..length]).unwrap();
            assert_eq!(
                journal::read(&file, &machine.moment(), 61 * SECOND),
                Past::Unreadable,
                "cut to {length} of {} bytes",
                whole.len()
            );
        }
        std::fs::write(&file, &whole[..whole.len() - 32]).unwrap();
        assert_eq!(first_send(&machine.boot()).await, 61 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_with_any_flipped_bit_keeps_the_gate_shut() {
        let machine = Machine::new(ColdStart::Trust);
        machine.spend().await;
        let file = machine.place().file();
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1 << (at % 8);
            std::fs::write(&file, &bent).unwrap();
            let past = journal::read(&file, &machine.moment(), 61 * SECOND);
            assert_eq!(past, Past::Unreadable, "byte {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_deleted_keeps_the_gate_shut_for_a_span() {
        let machine = Machine::new(ColdStart::Trust);
        machine.spend().await;
        std::fs::remove_file(machine.place().file()).unwrap();
        assert_eq!(first_send(&machine.boot()).await, 61 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_from_the_future_counts_as_now() {
        let machine = Machine::new(ColdStart::Trust);
        machine.spend().await;
        let past = Moment { uptime: 100 * SECOND, ..machine.moment() };
        assert_eq!(first_send(&machine.boot_at(past)).await, 61 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_crash_of_the_machine_the_gate_stays_shut_for_a_span() {
        let machine = Machine::new(ColdStart::Trust);
        machine.spend().await;
        let later = machine.moment();
        let rebooted = Moment {
            uptime: 20 * SECOND,
            calendar: later.calendar + 600 * SECOND,
            boot: [8; 16],
            ..later
        };
        assert_eq!(first_send(&machine.boot_at(rebooted)).await, 61 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_orderly_reboot_the_calendar_decides() {
        let machine = Machine::new(ColdStart::Trust);
        let shaper = machine.boot();
        for _ in 0..6 {
            send(&shaper).await;
        }
        shaper.close();
        drop(shaper);
        let at =
            |calendar| Moment { uptime: 3 * SECOND, calendar, boot: [8; 16], ..machine.moment() };
        let saved = std::fs::read(machine.place().file()).unwrap();
        let forty = at(machine.start.calendar + 40 * SECOND);
        assert_eq!(first_send(&machine.boot_at(forty)).await, 21 * SECOND);
        // A calendar that was set back must not open the gate either.
        std::fs::write(machine.place().file(), saved).unwrap();
        let back = at(machine.start.calendar - 4_000 * SECOND);
        assert_eq!(first_send(&machine.boot_at(back)).await, 61 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_start_ever_begins_at_pace() {
        let machine = Machine::new(ColdStart::Pace);
        let shaper = machine.boot();
        let start = Instant::now();
        let mut sends = Vec::new();
        for _ in 0..7 {
            send(&shaper).await;
            sends.push(start.elapsed().as_secs_f64());
        }
        for (nth, at) in sends.iter().enumerate() {
            assert!((at - nth as f64 * 61.0 / 6.0).abs() < 0.01, "{sends:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_start_at_pace_stays_at_pace_through_a_kill() {
        let machine = Machine::new(ColdStart::Pace);
        send(&machine.boot()).await;
        assert!(first_send(&machine.boot()).await > 10 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_follows_its_credential_into_a_renamed_budget() {
        let mut machine = Machine::new(ColdStart::Trust);
        machine.spend().await;
        machine.settings[0].id = BudgetId::new("renamed");
        let used = machine.boot().snapshots()[0].used;
        assert_eq!(used, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_was_lowered_forgets_nothing_through_two_kills() {
        let mut machine = Machine::new(ColdStart::Trust);
        machine.settings[0].limit = NonZeroU32::new(500).unwrap();
        let shaper = machine.boot();
        for _ in 0..400 {
            send(&shaper).await;
        }
        drop(shaper);
        machine.settings[0].limit = NonZeroU32::new(6).unwrap();
        let start = Instant::now();
        let shaper = machine.boot();
        for _ in 0..6 {
            send(&shaper).await;
        }
        assert_eq!(start.elapsed(), 61 * SECOND);
        drop(shaper);
        assert_eq!(first_send(&machine.boot()).await, 61 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_journal_that_broke_before_it_was_published_leaves_no_file() {
        let machine = Machine::new(ColdStart::Trust);
        let file = machine.place().file();
        let journal = Journal::create(&file, 1, machine.moment()).unwrap();
        let sender = Sender::unseen(&BudgetId::new("omni"), None);
        assert!(journal.record(Instant::now(), sender).is_some());
        assert!(journal.record(Instant::now(), sender).is_none());
        assert!(journal.publish().is_err());
        assert!(!file.exists() && !file.with_extension("new").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_that_counts_against_two_budgets_is_one_send_after_every_restart() {
        let mut machine = Machine::new(ColdStart::Trust);
        send(&machine.boot()).await;
        let other = BudgetSettings { id: BudgetId::new("other"), ..machine.settings[0].clone() };
        machine.settings.push(other);
        for _ in 0..10 {
            let snapshots = machine.boot().snapshots();
            let used: Vec<_> = snapshots.iter().map(|one| one.used).collect();
            assert_eq!(used, [1, 1]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_was_used_and_cannot_be_written_any_more_keeps_the_gate_shut() {
        let machine = Machine::new(ColdStart::Trust);
        machine.spend().await;
        // As good as a read-only file system, also for root.
        let lock = machine.folder.path().join(LOCK);
        std::fs::remove_file(&lock).unwrap();
        std::fs::create_dir(&lock).unwrap();
        assert_eq!(first_send(&machine.boot()).await, 61 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_cannot_be_written_does_not_stop_the_service() {
        let machine = Machine::new(ColdStart::Trust);
        let blocked = machine.folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let place = StatePlace { folder: blocked, ..machine.place() };
        let shaper = machine.open(&place, machine.moment());
        assert_eq!(first_send(&shaper.unwrap()).await, Duration::ZERO);
    }
}
