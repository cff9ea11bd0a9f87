//! `[upstream]`.

use std::time::Duration;

use crate::config::at::At;
use crate::config::file::Upstream;
use crate::config::resolve::{Notes, Surroundings, some_time};
use crate::config::units::Size;
use crate::net::TlsRoots;
use crate::proxy::ReplaySettings;
use crate::upstream::{Origin, OriginError, UpstreamSettings};

/// Beyond this, bodies belong on a disk.
const MOST_REPLAY_LIMIT: u64 = 1024 * 1024 * 1024;
const MOST_REPLAY_TOTAL: u64 = 64 * MOST_REPLAY_LIMIT;

pub(super) fn resolve(
    said: &Upstream,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<UpstreamSettings> {
    let origin = said.base_url.as_ref().and_then(|base_url| origin("base_url", base_url, notes));
    let roots = tls_roots(&said.tls_roots, around, notes);
    let mut time = |name, said, seconds| some_time(name, said, Duration::from_secs(seconds), notes);
    let connect_timeout = time("connect_timeout", &said.connect_timeout, 5);
    let response_timeout = time("response_timeout", &said.response_timeout, 120);
    let idle_timeout = time("idle_timeout", &said.idle_timeout, 90);
    Some(UpstreamSettings {
        origin: origin?,
        roots: roots?,
        connect_timeout: connect_timeout?,
        response_timeout: response_timeout?,
        idle_timeout: idle_timeout?,
    })
}

/// How much of request bodies is kept.
pub(super) fn replay(said: &Upstream, notes: &mut Notes) -> Option<ReplaySettings> {
    let usual = ReplaySettings::default();
    let mut size = |name, said: &Option<At<Size>>, usual, most: u64, most_text| match said {
        Some(said) if said.value.0 > most => {
            notes.problems.at(&said.span, format!("`{name}` must be at most {most_text}"));
            None
        }
        said => Some(said.as_ref().map_or(usual, |said| said.value.0)),
    };
    let limit =
        size("replay_limit", &said.replay_limit, usual.limit.into(), MOST_REPLAY_LIMIT, "1GiB");
    let usual_total = u64::try_from(usual.total).ok()?;
    let total = size("replay_total", &said.replay_total, usual_total, MOST_REPLAY_TOTAL, "64GiB");
    let (limit, total) = (limit?, total?);
    // One of them was said: the defaults go together.
    let said = said.replay_limit.as_ref().or(said.replay_total.as_ref());
    if let (Some(said), true) = (said, limit > total) {
        notes
            .problems
            .at(&said.span, "`replay_limit` is more than `replay_total`")
            .help("no body could be kept: `replay_total` is for all of them together");
        return None;
    }
    Some(ReplaySettings { limit: limit.try_into().ok()?, total: total.try_into().ok()? })
}

/// A scheme, a host and a port, as the key `name` says them.
pub(super) fn origin(name: &str, said: &At<String>, notes: &mut Notes) -> Option<Origin> {
    let error = match Origin::parse(&said.value) {
        Ok(origin) => return Some(origin),
        Err(error) => error,
    };
    let problem = notes.problems.at(&said.span, format!("`{name}`: {error}"));
    let host = said.value.split("://").last().unwrap_or_default();
    let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
    match error {
        OriginError::NotAUrl | OriginError::Scheme | OriginError::PlainHttp if plain => {
            problem.help(format!("write \"https://{host}\""));
        }
        OriginError::MoreThanAnOrigin => {
            problem.help("leave out what follows the host; requests bring their path with them");
        }
        OriginError::NotAUrl | OriginError::Scheme | OriginError::PlainHttp => {
            problem.help("such as \"https://acme.omniapp.co\"");
        }
    }
    None
}

/// `system`, or a PEM file that can be read.
pub(super) fn tls_roots(
    said: &Option<At<String>>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<TlsRoots> {
    let Some(said) = said.as_ref().filter(|said| said.value != "system") else {
        return Some(TlsRoots::System);
    };
    let roots = TlsRoots::File(around.path(&said.value));
    // Nobody's secret, so that it is read here already.
    if let Err(error) = roots.client_config() {
        notes
            .problems
            .at(&said.span, format!("`tls_roots`: {error}"))
            .help("\"system\", or a PEM file with the certificates to believe");
        return None;
    }
    Some(roots)
}
