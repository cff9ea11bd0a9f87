//! What operators ask: is it alive, is it ready, what does it count; and what they tell it to do.

mod answers;
mod desk;
mod events;
mod explain;
mod exposition;
mod front;
mod pages;
mod purge;
mod query;
mod rules;
mod settings;
pub mod status;
mod steer;

use std::fmt;
use std::sync::Arc;

use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::base::{Body, Peer};
use crate::route::{BadTarget, Target};
use answers::{answer, closing, document, problem, ready, reason, shown, tested};
use events::Viewers;
use pages::Page;

pub use desk::{
    CredentialView, Desk, KeyAnswer, NoAnswer, NoSuchBudget, NoSuchRoute, Purged, Readiness, Reason,
};
pub use pages::Role;
pub use rules::Rules;
pub use settings::{AdminSettings, Place};
pub use status::Status;

/// Answers one listener's requests.
#[derive(Clone)]
pub struct Admin {
    role: Role,
    rules: Rules,
    desk: Arc<dyn Desk>,
    viewers: Arc<Viewers>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Admin {
    /// Answers as `role` what `desk` has to say. The rules are the operators'; probes have none.
    pub fn new(role: Role, rules: Rules, desk: Arc<dyn Desk>) -> Self {
        Self { role, rules, viewers: Viewers::new(desk.clone(), events::MOST), desk }
    }

    /// The same, on a listener with places for so many connections. Two in three may watch: who watches
    /// keeps a place for as long as it likes, and must not keep the others out.
    pub fn with_places(self, places: usize) -> Self {
        Self { viewers: Viewers::new(self.desk.clone(), places * 2 / 3), ..self }
    }

    /// Answers one request. Only a POST changes anything, and only on the operators' own listener. One
    /// page takes a body, a question about a call; on all others none is read.
    pub async fn answer(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        let (head, body) = request.into_parts();
        let has_body = !http_body::Body::is_end_stream(&body);
        let page = Page::at(head.uri.path(), self.role);
        match Target::read(&head.method, &head.uri, &head.headers) {
            Ok(target) if self.role == Role::Operator => {
                let is_open = page.as_ref().is_some_and(Page::is_open);
                if let Err(refused) = self.rules.let_in(&target, &head.headers, &peer, is_open) {
                    return refused.answer();
                }
            }
            Ok(_) => {}
            // Probes are written by hand, some without a Host.
            Err(BadTarget::NoHost) if self.role == Role::Probe => {}
            Err(bad) => {
                return closing(problem(StatusCode::BAD_REQUEST, "bad-request", &bad.to_string()));
            }
        }
        let Some(page) = page else {
            return problem(StatusCode::NOT_FOUND, "no-route", self.role.pages());
        };
        if let (false, allowed) = page.takes(&head.method) {
            let detail = format!("Only {allowed}.");
            let mut response =
                problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", &detail);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
        if has_body && page != Page::Explain {
            // What it says was meant to matter, and nobody knows how long it is.
            let detail = "No page here but /-/explain takes a body; what is to be done stands in the path and query.";
            return closing(problem(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail));
        }
        self.page(page, &head, body, &peer).await
    }

    async fn page(&self, page: Page, head: &Parts, body: Body, peer: &Peer) -> Response<Body> {
        let (desk, query) = (&*self.desk, head.uri.query());
        let steered = match page {
            Page::Live => {
                return answer(StatusCode::OK, "text/plain; charset=utf-8", "alive\n".to_owned());
            }
            Page::Ready => return ready(&desk.readiness()),
            Page::Metrics => return exposition::metrics(&head.headers, desk),
            Page::Front => return front::page(),
            Page::Status => {
                let facts = events::document(&self.viewers.status());
                return answer(StatusCode::OK, "application/json", format!("{facts}\n"));
            }
            Page::Events => return self.viewers.watch(),
            Page::Reload => {
                desk.reload().await;
                let credentials = desk.readiness().credentials;
                let all: Vec<Value> = credentials.iter().map(|one| shown(one, true)).collect();
                return document(StatusCode::OK, &json!({ "credentials": all }));
            }
            Page::Test(id) => return tested(&id, desk.test_key(id.clone()).await),
            Page::Purge => return purge::answer(query, desk).await,
            Page::Explain => return explain::explain(&head.headers, body, desk).await,
            Page::Pause => steer::pause(query, desk, peer),
            Page::Resume => steer::resume(query, desk, peer),
            Page::Log => steer::log(query, desk, peer),
        };
        steered.unwrap_or_else(|unchanged| unchanged.answer())
    }
}

#[cfg(test)]
mod tests;
