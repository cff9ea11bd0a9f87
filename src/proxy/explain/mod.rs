//! What becomes of a call, and why, without making it. It goes through the same steps as a call does
//! ([`Proxy::decide`], [`Proxy::sight`], [`Shaper::foresee`](crate::shape::Shaper::foresee)), so that it
//! cannot say anything else; nothing is sent, takes a place, or is counted.

mod call;
pub mod document;
mod facts;
mod fields;
mod mend;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request};
use tokio::time::Instant;

use crate::base::{Body, Peer};
use crate::cache::{Entry, Found, Lifetime};
use crate::caller::{Caller, ToldBy};
use crate::omni;
use crate::proxy::cache_status::Forward;
use crate::proxy::cached::Sight;
use crate::proxy::decide::{Decided, Witness};
use crate::proxy::error::Error;
use crate::proxy::plan::{Plan, PlannedRoute};
use crate::proxy::replay::Replay;
use crate::proxy::sought::{Sought, Unsought};
use crate::proxy::{Proxy, Wait};
use crate::route::{CanonicalPath, Target};

pub use call::{BadCall, Call};
pub use document::Explanation;
use document::{Keeping, Looked, Now, Outcome, Said, Verdict};

/// What was found out on the way, as far as it came.
#[derive(Default)]
struct Seen {
    path: Option<CanonicalPath>,
    target: Option<PathAndQuery>,
    caller: Option<(Arc<Caller>, ToldBy)>,
    route: Option<Arc<PlannedRoute>>,
    wait: Option<Wait>,
}

impl Witness for Seen {
    fn reads(&mut self, target: &Target) {
        self.path = Some(target.path().clone());
        self.target = Some(target.path_and_query().clone());
    }

    fn comes_from(&mut self, caller: &Arc<Caller>, told_by: ToldBy) {
        self.caller = Some((caller.clone(), told_by));
    }

    fn goes_by(&mut self, route: &Arc<PlannedRoute>) {
        self.route = Some(route.clone());
    }

    fn waits(&mut self, wait: &Wait) {
        self.wait = Some(wait.clone());
    }

    fn request_id(&self) -> Option<HeaderValue> {
        // One is made up for each call.
        Some(HeaderValue::from_static("explained"))
    }
}

/// How a call would go on that may be made.
enum Goes {
    /// Up, at once or when its turn comes; an answer may be kept by then.
    Up { may_be_kept: bool },
    /// With an answer that is kept now.
    Kept { why: String },
}

/// A question about a call.
#[derive(Debug)]
pub struct Question<'a> {
    /// The call.
    pub request: Request<()>,
    /// Its body, where that is known.
    pub body: Option<Bytes>,
    /// Whose it is.
    pub peer: &'a Peer,
    /// Whether the gateway runs, so that its keys, its queue and what it keeps say something.
    pub live: bool,
}

impl Proxy {
    /// Says what becomes of a call, and why, without making it.
    ///
    /// Cancel-safe: nothing changes by it.
    pub async fn explain(&self, question: Question<'_>) -> Explanation {
        let Question { request, body, peer, live } = question;
        let plan = self.plan.load_full();
        let (came, ()) = request.into_parts();
        let mut seen = Seen::default();
        let mut said = Explanation::default();
        let shown = body.clone().map_or_else(Body::empty, Body::full);
        let goes = match self.decide(&plan, came.clone(), &shown, peer, &mut seen) {
            Ok(decided) => self.goes(decided, &came.headers, body, live, &mut said).await,
            Err(error) => Err(error),
        };
        self.tell_of(&seen, &came, &plan, live, &mut said);
        said.call = Said {
            method: came.method.to_string(),
            path: seen.path.as_ref().map(ToString::to_string),
            notes: notes(&seen, &came),
            query: seen.target.as_ref().and_then(|target| target.query().map(str::to_owned)),
        };
        said.verdict = verdict(goes, &said);
        said
    }

    /// How a call goes on that may be made as far as its head says.
    async fn goes(
        &self,
        decided: Decided<'_>,
        came: &HeaderMap,
        body: Option<Bytes>,
        live: bool,
        said: &mut Explanation,
    ) -> Result<Goes, Error> {
        let Decided { route, wait, inspection, brought, head } = decided;
        let max_bytes = route.policy.max_body;
        let (word, why) = match (&inspection, &body) {
            (None, _) => ("no", "no `userId` in it would count, or any may"),
            (Some(_), None) => ("not-given", "it is looked into for a `userId`, and was not given"),
            (Some(_), Some(_)) => ("passed", "it was looked into for a `userId`"),
        };
        let looked = Looked { inspection: word.to_owned(), why: why.to_owned(), max_bytes };
        if let (Some(inspection), Some(body)) = (inspection, body) {
            // Not in the room that calls share.
            let room = self.room.another();
            let mut body = Replay::new(route.policy.limit(Body::full(body)), &room);
            body.pass(inspection, &wait.caller.id).await?;
        }
        said.body = Some(looked);
        let up = match brought {
            Ok(brought) => {
                let scrubbed = head.headers.clone();
                let sought = Sought::new(route, wait.clone(), brought, head);
                if let Some(kept) = self.keeping(&sought, came, &scrubbed, live, said)? {
                    return Ok(kept);
                }
                true
            }
            Err(unsought) => {
                said.fields = Some(fields::fields(came, &head.headers, &head.headers));
                said.cache = Some(not_kept(unsought, &head.method));
                false
            }
        };
        if live {
            route.any_bearer()?;
            let ask = wait.ask(route);
            let outlook = self.shaper.outlook(&ask);
            let foreseen = self.shaper.foresee(&ask)?;
            said.now = Some(Now {
                position: foreseen.position,
                wait_s: facts::seconds(foreseen.wait),
                free: outlook.free,
                paused: outlook.paused,
                draining: false,
            });
        }
        Ok(Goes::Up { may_be_kept: up })
    }

    /// What is kept for a call, and how it goes on by that; `None` where it goes up.
    fn keeping(
        &self,
        sought: &Sought<'_>,
        came: &HeaderMap,
        scrubbed: &HeaderMap,
        live: bool,
        said: &mut Explanation,
    ) -> Result<Option<Goes>, Error> {
        let is_current = self.others.is_current();
        let mut found: Option<Arc<Entry>> = None;
        let sight = self.sight(sought, |now| match is_current {
            true => {
                let peeked = self.cache.peek(&sought.key, sought.fields(), now);
                if let Found::Entry(entry) = &peeked {
                    found = Some(entry.clone());
                }
                peeked
            }
            false => Found::Nothing,
        });
        let fetch = matches!(sight, Sight::Fetch { .. });
        let goes = if fetch { sought.fetch_head().headers } else { sought.head.headers.clone() };
        said.fields = Some(fields::fields(came, scrubbed, &goes));
        let status = match &sight {
            Sight::Kept { .. } => "hit",
            Sight::NotKept => "not-kept",
            Sight::Pass(why) | Sight::Fetch { why, .. } => why.as_str(),
        };
        let rule = &sought.brought.keeps.rule;
        let (ttl, respect_upstream) = match rule.lifetime {
            Lifetime::Ours(ttl) => (Some(facts::seconds(ttl)), false),
            Lifetime::Upstream => (None, true),
        };
        let now = Instant::now();
        let standing = found.as_ref().map(|entry| (entry.life.ttl(now), entry.life.age(now)));
        let word = match (is_current, standing) {
            (false, _) => "unknown",
            (true, Some((0.., _))) => "fresh",
            (true, Some(_)) => "stale",
            (true, None) => "nothing",
        };
        said.cache = Some(Keeping {
            applies: true,
            why: facts::of_wishes(&sight, &sought.head),
            status: status.to_owned(),
            ttl_s: ttl,
            stale_s: Some(facts::seconds(rule.stale)),
            respect_upstream,
            key: Some(fields::kept_under(sought, live)),
            now: live.then(|| word.to_owned()),
            age_s: standing.map(|(_, age)| facts::seconds(age)),
            fresh_for_s: standing.map(|(ttl, _)| ttl as f64).filter(|ttl| *ttl >= 0.0),
        });
        match sight {
            Sight::Kept { .. } => {
                let why = match standing {
                    Some((0.., _)) => "answered from what is kept, at no cost".to_owned(),
                    _ => "answered from what is kept, although it is past its time".to_owned(),
                };
                Ok(Some(Goes::Kept { why }))
            }
            Sight::NotKept => Err(Error::NotKept),
            Sight::Pass(_) | Sight::Fetch { .. } => Ok(None),
        }
    }

    /// What is known of those who take part.
    fn tell_of(&self, seen: &Seen, came: &Parts, plan: &Plan, live: bool, said: &mut Explanation) {
        said.caller = seen
            .caller
            .as_ref()
            .map(|(caller, told_by)| facts::who(caller, *told_by, &came.headers));
        let Some(path) = &seen.path else { return };
        let endpoint = omni::endpoint(&came.method, path.as_str());
        said.endpoint = endpoint.map(facts::endpoint);
        let route = seen.route.as_deref();
        if seen.caller.is_some() {
            said.other_routes = facts::others(plan, &came.method, path, route);
        }
        let Some(route) = route else { return };
        said.route = Some(facts::taken(route, &said.other_routes));
        let credentials = route.credentials().iter();
        said.credentials = credentials.map(|one| facts::key(one, endpoint, live)).collect();
        let budgets = route.budgets.iter().filter_map(|quota| self.shaper.budget(&quota.budget));
        said.budgets = budgets.map(facts::charged).collect();
        said.impersonation = Some(facts::acts_for(&route.policy));
        if let Some(target) = &seen.target {
            said.savers = facts::savers(&route.savers, &came.method, target);
        }
        if let Some(wait) = &seen.wait {
            let within = self.shaper.max_wait(&wait.ask(route));
            said.priority = Some(facts::urgency(route, wait, &came.headers));
            said.max_wait = Some(facts::patience(route, wait, &came.headers, within));
            said.sending = Some(facts::sending(route, &came.method, path.as_str()));
        }
    }
}

/// What of a call is not as it was said.
fn notes(seen: &Seen, came: &Parts) -> Vec<String> {
    let path = seen.path.as_ref().map(CanonicalPath::as_str);
    let differs = path.filter(|path| *path != came.uri.path());
    differs.map(|path| format!("the path was made canonical: {path}")).into_iter().collect()
}

fn not_kept(unsought: Unsought, method: &Method) -> Keeping {
    let why = match unsought {
        Unsought::NoRule => "the route has no `cache`",
        Unsought::Method => "only GET and HEAD are answered from what is kept",
        Unsought::Body => "the call has a body, and what that asks for is in no key",
        Unsought::Users => "it names more than one user",
        Unsought::Never => "answers of this endpoint are true once, or decide about rights",
        Unsought::NoKey => "none of its keys is good",
    };
    let status = Forward::unkept(method).as_str().to_owned();
    Keeping { why: why.to_owned(), status, ..Keeping::default() }
}

fn verdict(goes: Result<Goes, Error>, said: &Explanation) -> Verdict {
    let keys: Vec<String> = said.credentials.iter().map(|key| format!("`{}`", key.name)).collect();
    let keys = keys.join(" or ");
    match goes {
        Ok(Goes::Kept { why }) => Verdict { outcome: Outcome::Kept, why, ..Verdict::default() },
        Ok(Goes::Up { may_be_kept }) => {
            let when = match &said.now {
                Some(now) if now.wait_s > 0.0 => format!(", in about {:.0} s", now.wait_s.ceil()),
                Some(_) => ", at once".to_owned(),
                None => String::new(),
            };
            let (outcome, unless) = match may_be_kept {
                true => (Outcome::SentOrKept, "; or answered from what is kept by then"),
                false => (Outcome::Sent, ""),
            };
            let why = format!("sent to Omni with {keys}{when}{unless}");
            Verdict { outcome, why, ..Verdict::default() }
        }
        Err(error) => Verdict {
            outcome: Outcome::Refused,
            status: Some(error.status().as_u16()),
            kind: Some(error.urn()),
            why: error.detail(),
            mend: mend::mend(&error),
        },
    }
}
