//! How many connections the process has file descriptors for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::server::ServerSettings;

/// Descriptors that are left for upstream, files and the rest: a share of all, and no fewer than
/// this.
const LEAST_SPARE: u64 = 32;
const SPARE_SHARE: u64 = 8;

impl ServerSettings {
    /// Raises the process's soft limit of file descriptors as far as the connections need it, and as many
    /// more `beside` them, and the hard limit lets it; bounds their number by what is then there. Says so
    /// where that is less than was asked for. Meant for the start of the process.
    ///
    /// It goes no further than that, since children inherit it: a hard limit may be a thousand
    /// million, and there are programs that close as many descriptors as they may have, one by one.
    pub fn fit_descriptors(&mut self, beside: usize) {
        let limit = getrlimit(Resource::Nofile);
        let (max_connections, beside) = (self.max_connections as u64, beside as u64);
        let wanted = max_connections.saturating_add(beside);
        let mut soft = limit.current;
        if let Some(raised) = raised(limit, wanted) {
            let new = Rlimit { current: Some(raised), maximum: limit.maximum };
            if setrlimit(Resource::Nofile, new).is_ok() {
                soft = Some(raised);
            }
        }
        let Some(soft) = soft else { return };
        let fit = shared(fit(soft), beside);
        if fit < max_connections {
            warn!(
                max_connections,
                now = fit,
                descriptors = soft,
                needed = needed(wanted),
                "fewer connections than `max_connections` fit into this process's file descriptors; \
                 raise their limit (`ulimit -Hn`, systemd's `LimitNOFILE=`), or lower `max_connections`"
            );
            self.max_connections = usize::try_from(fit).unwrap_or(usize::MAX);
        }
    }
}

/// How many connections fit into so many descriptors.
fn fit(descriptors: u64) -> u64 {
    let spare = (descriptors / SPARE_SHARE).max(LEAST_SPARE);
    descriptors.saturating_sub(spare).max(1)
}

/// How many of these places callers have; the others have at most half of them.
fn shared(places: u64, beside: u64) -> u64 {
    places.saturating_sub(beside.min(places / 2)).max(1)
}

/// The smallest number of descriptors that so many connections fit into.
fn needed(connections: u64) -> u64 {
    let by_share = connections.saturating_mul(SPARE_SHARE).div_ceil(SPARE_SHARE - 1);
    by_share.max(connections.saturating_add(LEAST_SPARE))
}

/// The soft limit that is wanted, where it is not there yet and may be had.
fn raised(limit: Rlimit, connections: u64) -> Option<u64> {
    let current = limit.current?;
    let most = limit.maximum.unwrap_or(u64::MAX);
    Some(needed(connections).min(most)).filter(|wanted| *wanted > current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_and_no_fewer_than_32_are_spared() {
        assert_eq!(fit(1024), 896);
        assert_eq!(fit(128), 96);
        assert_eq!(fit(20_000), 17_500);
        assert_eq!(fit(16), 1);
    }

    #[test]
    fn where_places_are_few_callers_have_half_of_them() {
        for (places, beside, callers) in
            [(10_128, 128, 10_000), (896, 128, 768), (100, 128, 50), (1, 128, 1), (7, 0, 7)]
        {
            assert_eq!(shared(places, beside), callers);
        }
    }

    #[test]
    fn what_is_needed_fits_and_two_less_do_not() {
        for connections in [1, 31, 100, 223, 224, 225, 896, 10_000, 1_000_000] {
            let needed = needed(connections);
            assert!(fit(needed) >= connections, "{connections} in {needed}");
            assert!(connections == 1 || fit(needed - 2) < connections, "{connections} in {needed}");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_as_far_as_needed_and_allowed() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(limit(Some(1024), Some(1 << 30)), 10_000), Some(11_429));
        assert_eq!(raised(limit(Some(1024), Some(4096)), 10_000), Some(4096));
        assert_eq!(raised(limit(Some(1024), None), 10_000), Some(11_429));
        assert_eq!(raised(limit(Some(20_000), Some(20_000)), 10_000), None);
        assert_eq!(raised(limit(None, None), 10_000), None);
    }
}
