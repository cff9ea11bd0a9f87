//! `page_size` and `min_interval` of a route.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::at::At;
use crate::config::file::Route;
use crate::config::resolve::catalogue::serves;
use crate::config::resolve::routes::Matched;
use crate::config::resolve::{Notes, some_time};
use crate::omni::{self, Endpoint};
use crate::route::Router;
use crate::saver::{Savers, takes_pages_of};

/// Common clients give up after less than twice this.
const LONG: Duration = Duration::from_secs(10);

pub(super) fn resolve(said: &Route, notes: &mut Notes) -> Option<Savers> {
    let page_size = said.page_size.as_ref().map(|said| page_size(said, notes));
    let min_interval = said.min_interval.as_ref().map(|at| {
        let interval = some_time("min_interval", &said.min_interval, LONG, notes)?;
        if interval > LONG {
            notes
                .warnings
                .at(&at.span, "`min_interval` is longer than many clients wait for an answer")
                .help("say 10s or less; httpx gives up after 5 s unless it is told otherwise");
        }
        Some(interval)
    });
    if let (Some(Some(interval)), Some(wait)) = (min_interval, &said.max_wait)
        && wait.value.0 < interval
    {
        notes
            .warnings
            .at(&wait.span, "`max_wait` is shorter than `min_interval`")
            .help("whoever asks about a job twice in a row is refused then; make it longer, or leave it out");
    }
    Some(Savers { page_size: flip(page_size)?, min_interval: flip(min_interval)? })
}

/// What is said must be right; nothing said is right too.
fn flip<T>(said: Option<Option<T>>) -> Option<Option<T>> {
    match said {
        None => Some(None),
        Some(right) => right.map(Some),
    }
}

/// The largest page that any list takes.
fn largest_page() -> u32 {
    omni::endpoints().filter_map(Endpoint::largest_page).max().unwrap_or_default()
}

fn page_size(said: &At<u32>, notes: &mut Notes) -> Option<NonZeroU32> {
    let most = largest_page();
    let size = NonZeroU32::new(said.value);
    if size.is_none() {
        notes
            .problems
            .at(&said.span, "`page_size` must be more than 0")
            .help("leave it out, and lists are asked for as they come");
    }
    if said.value > most {
        let message = format!("`page_size` must be at most {most}");
        notes
            .problems
            .at(&said.span, message)
            .help(format!("say {most}: Omni gives no more records at a time"));
        return None;
    }
    size
}

/// Notes routes that say how to save calls, and take none that could be saved.
pub(super) fn check(routes: &[Matched<'_>], router: &Router, notes: &mut Notes) {
    for (at, route) in routes.iter().enumerate() {
        let Some(name) = &route.said.name else { continue };
        let name = &name.value;
        let served = || {
            omni::endpoints().filter(move |endpoint| serves(router, at, &route.pattern, endpoint))
        };
        if let Some(said) = &route.said.page_size
            // What is wrong everywhere was noted.
            && let Some(size) = NonZeroU32::new(said.value)
            && said.value <= largest_page()
        {
            let lists: Vec<_> = served().filter(|one| one.largest_page().is_some()).collect();
            let most = lists.iter().filter_map(|one| one.largest_page()).max();
            match most {
                None => {
                    let message =
                        format!("route `{name}` takes no list that is known to have a page size");
                    notes.warnings.at(&said.span, message).help(
                        "lists with a cursor have one, such as /api/v1/documents; SCIM's have none",
                    );
                }
                Some(most) if !lists.iter().any(|one| takes_pages_of(one, size)) => {
                    let message = format!(
                        "`page_size` must be at most {most}: no list of the route `{name}` takes more"
                    );
                    notes.problems.at(&said.span, message).help(format!("say {most} or less"));
                }
                Some(_) => {}
            }
        }
        if let Some(said) = &route.said.min_interval
            && !served().any(Endpoint::is_polled)
        {
            let message = format!("route `{name}` takes no question about a job");
            notes.warnings.at(&said.span, message).help(
                "these are GET /api/v1/ai/jobs/{jobId}, /api/v1/jobs/{jobId}/status and \
                 /api/v1/dashboards/{identifier}/download/{jobId}/status",
            );
        }
    }
}
