//! What the system knows of us: the `process_*` metrics that every exporter has, under their usual names.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Ticks per second in `/proc`: part of Linux' interface to programs (USER_HZ), whatever the kernel counts in.
const TICKS: f64 = 100.0;

/// Read anew for each scrape; what a system does not tell is left out.
#[derive(Debug)]
pub(super) struct Vitals {
    /// Seconds since 1970.
    started: f64,
}

impl Vitals {
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { started: now.as_secs_f64() - running_for().unwrap_or(0.0) }
    }
}

impl Collector for Vitals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name: &str, help: &str, unit: Option<Unit>, value: &dyn Shown| {
            value.show(name, help, unit.as_ref(), &mut encoder)
        };
        let clock = clock_gettime(ClockId::ProcessCPUTime);
        let used = clock.tv_sec as f64 + clock.tv_nsec as f64 / 1e9;
        let name = "process_cpu";
        put(
            name,
            "Time that processors spent on us",
            Some(Unit::Seconds),
            &ConstCounter::new(used),
        )?;
        let name = "process_start_time";
        let help = "When we were started, in seconds since 1970";
        put(name, help, Some(Unit::Seconds), &ConstGauge::new(self.started))?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = kilobytes(&status, "VmRSS:") {
            let name = "process_resident_memory";
            put(name, "Memory in use", Some(Unit::Bytes), &ConstGauge::new(bytes))?;
        }
        if let Some(bytes) = kilobytes(&status, "VmSize:") {
            let name = "process_virtual_memory";
            put(name, "Memory that is mapped", Some(Unit::Bytes), &ConstGauge::new(bytes))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the look at them.
            let open = i64::try_from(open.count()).unwrap_or(i64::MAX).saturating_sub(1);
            put("process_open_fds", "Open file descriptors", None, &ConstGauge::new(open))?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            put("process_max_fds", "How many may be open", None, &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

/// One figure with its lines of description.
trait Shown {
    fn show(
        &self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> fmt::Result;
}

impl<T: EncodeMetric> Shown for T {
    fn show(
        &self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> fmt::Result {
        // The registry ends every help with a full stop; a collector's is its own.
        let help = format!("{help}.");
        self.encode(encoder.encode_descriptor(name, &help, unit, self.metric_type())?)
    }
}

/// One line of `/proc/self/status`, in bytes.
fn kilobytes(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1024)
}

/// Seconds since the process was started, as `/proc` tells.
fn running_for() -> Option<f64> {
    let up = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = up.split(' ').next()?.parse().ok()?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // proc_pid_stat(5): the 22nd; the second is a name in brackets, which may have blanks in it.
    let began: f64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    Some((up - began / TICKS).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_is_read_and_a_strange_one_is_left_out() {
        let status = "Name:\tomnigate\nVmSize:\t  20480 kB\nVmRSS:\tmany kB\n";
        assert_eq!(kilobytes(status, "VmSize:"), Some(20480 * 1024));
        assert_eq!(kilobytes(status, "VmRSS:"), None);
        assert_eq!(kilobytes(status, "VmHWM:"), None);
    }
}
