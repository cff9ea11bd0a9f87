//! ROOM: fewer calls for the same: larger pages of lists, and pollers who do not ask too often.
//!
//! Both are off unless a route says so. What a route says is [`Savers`]; it also answers what would
//! be done to a call without doing it. [`Pollers`] is what happened: who asked last, and who waits.

mod pages;
mod pollers;
mod question;

use std::num::NonZeroU32;
use std::time::Duration;

use http::Method;
use http::uri::PathAndQuery;

use crate::omni::{self, Endpoint};

pub use pollers::{Ask, Pollers, Slot, TooSoon, Turn};
pub use question::{Likeness, Question, Subject};

/// What a route does to have fewer calls made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Savers {
    /// How many records a page of a list has whose caller does not say.
    pub page_size: Option<NonZeroU32>,
    /// How long after one question about a job the next one goes.
    pub min_interval: Option<Duration>,
}

impl Savers {
    /// The target with the route's page size at its end; `None` where the call is sent as it came.
    ///
    /// It is added to reads of lists that are known to take a page so large, when their query says
    /// nothing of a page size in any spelling. All else of the query stays as it is, to the byte.
    pub fn sized(&self, method: &Method, target: &PathAndQuery) -> Option<PathAndQuery> {
        let size = self.page_size?;
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let takes = |one: &Endpoint| takes_pages_of(one, size);
        if !reads || !omni::endpoint(method, target.path()).is_some_and(takes) {
            return None;
        }
        pages::sized(target, size)
    }

    /// How long after the last question like it a call is sent; `None` where that does not count.
    pub fn interval(&self, method: &Method, path: &str) -> Option<Duration> {
        let interval = self.min_interval.filter(|_| *method == Method::GET)?;
        omni::endpoint(method, path).is_some_and(Endpoint::is_polled).then_some(interval)
    }
}

/// Whether a list is known to take pages of so many records.
pub fn takes_pages_of(endpoint: &Endpoint, size: NonZeroU32) -> bool {
    endpoint.largest_page().is_some_and(|most| size.get() <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(method: &str, target: &str, size: u32) -> Option<String> {
        let savers = Savers { page_size: NonZeroU32::new(size), min_interval: None };
        let target = PathAndQuery::try_from(target).unwrap();
        savers.sized(&method.parse().unwrap(), &target).map(|sent| sent.to_string())
    }

    #[test]
    fn lists_with_a_cursor_get_the_page_size_and_nothing_else_does() {
        for (target, sent) in [
            ("/api/v1/documents", "/api/v1/documents?pageSize=100"),
            ("/API/v1/Models/", "/API/v1/Models/?pageSize=100"),
            ("/api/v1/folders?path=", "/api/v1/folders?path=&pageSize=100"),
            ("/api/v1/content?cursor=a%2fb", "/api/v1/content?cursor=a%2fb&pageSize=100"),
        ] {
            assert_eq!(sized("GET", target, 100).as_deref(), Some(sent));
            assert_eq!(sized("HEAD", target, 100).as_deref(), Some(sent));
            assert_eq!(sized("POST", target, 100), None, "{target}");
        }
        for other in [
            "/api/scim/v2/Users",
            "/api/v1/labels",
            "/api/v1/documents/d",
            // It takes one of 20 at most.
            "/api/v1/users/email-only",
            // Omni's API document does not know whether these take it.
            "/api/v1/ai/conversations",
            "/api/v1/models/m/suggestions",
            "/api/v1/documents/d/favorites",
            "/api/v1/nobody/knows",
        ] {
            assert_eq!(sized("GET", other, 100), None, "{other}");
        }
        let email = sized("GET", "/api/v1/users/email-only", 20);
        assert_eq!(email.as_deref(), Some("/api/v1/users/email-only?pageSize=20"));
    }

    #[test]
    fn questions_about_jobs_are_held_apart_and_no_others() {
        let interval = Duration::from_secs(5);
        let savers = Savers { page_size: None, min_interval: Some(interval) };
        let of = |method: Method, path: &str| savers.interval(&method, path);
        for path in [
            "/api/v1/ai/jobs/j",
            "/api/v1/jobs/j/status/",
            "/api/v1/dashboards/d/download/j/status",
        ] {
            assert_eq!(of(Method::GET, path), Some(interval), "{path}");
            assert_eq!(of(Method::HEAD, path), None);
            assert_eq!(Savers::default().interval(&Method::GET, path), None);
        }
        assert_eq!(of(Method::POST, "/api/v1/ai/jobs/j/cancel"), None);
        for path in ["/api/v1/ai/jobs/j/result", "/api/v1/query/wait", "/api/v1/documents"] {
            assert_eq!(of(Method::GET, path), None, "{path}");
        }
    }
}
