//! One moment, told by every clock that the journal writes down.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// How far the clocks' readings may lie apart. Every send is written down with this error.
const ONE_MOMENT: Duration = Duration::from_millis(1);

/// The same moment on the clock of this process, of this boot, and of the calendar.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// The process's own clock.
    pub(crate) instant: Instant,
    /// Since this boot, as `CLOCK_MONOTONIC` has it: it stands still while the machine is
    /// suspended, as `instant` does, so a suspended machine opens late and never early.
    pub(crate) uptime: Duration,
    /// Since 1970. It decides only across a reboot.
    pub(crate) calendar: Duration,
    /// Which boot this is; zero where the system does not tell.
    pub(crate) boot: [u8; 16],
}

impl Moment {
    pub(crate) fn now() -> Self {
        let boot = boot_id();
        loop {
            let instant = Instant::now();
            let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let calendar = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            // Read one after the other, they are one moment only if nobody else ran in between.
            if instant.elapsed() < ONE_MOMENT {
                let uptime = Duration::try_from(uptime).unwrap_or_default();
                return Self { instant, uptime, calendar, boot };
            }
        }
    }

    /// The uptime at `at`.
    pub(crate) fn uptime_at(&self, at: Instant) -> Duration {
        shift(self.uptime, self.instant, at)
    }

    /// The calendar time at `at`, as this moment's clocks have it.
    pub(crate) fn calendar_at(&self, at: Instant) -> Duration {
        shift(self.calendar, self.instant, at)
    }

    /// The instant that lies `age` before this moment, or this moment itself where an instant
    /// cannot lie so far back.
    pub(crate) fn before(&self, age: Duration) -> Instant {
        self.instant.checked_sub(age).unwrap_or(self.instant)
    }
}

fn shift(base: Duration, from: Instant, to: Instant) -> Duration {
    if to >= from { base.saturating_add(to - from) } else { base.saturating_sub(from - to) }
}

/// Linux's boot id; zero elsewhere, which makes the calendar decide.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    uuid::Uuid::parse_str(text.trim()).map(uuid::Uuid::into_bytes).unwrap_or_default()
}
