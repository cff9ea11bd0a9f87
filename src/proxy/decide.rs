//! What is decided about a call before it waits.
//!
//! Nothing is sent for it, taken, counted or told here, so that `explain` goes through the very same
//! steps as a call does.

use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Uri};

use crate::base::{Body, CallerId, Peer};
use crate::caller::{self, Caller, Pages, ToldBy};
use crate::policy::{Asked, Denied, Inspection};
use crate::proxy::error::Error;
use crate::proxy::exchange::{Exchange, X_REQUEST_ID};
use crate::proxy::plan::{Plan, PlannedRoute};
use crate::proxy::replay::Replay;
use crate::proxy::sought::{Brought, Unsought};
use crate::proxy::{Proxy, Wait, headers};
use crate::route::Target;

/// Hears what was found out, as far as it came.
pub(super) trait Witness {
    /// The request has one reading.
    fn reads(&mut self, target: &Target);
    /// It is known who asks.
    fn comes_from(&mut self, caller: &Arc<Caller>, told_by: ToldBy);
    /// It is known whose route it is.
    fn goes_by(&mut self, route: &Arc<PlannedRoute>);
    /// The call may be made, as far as its head says, and waits so.
    fn waits(&mut self, wait: &Wait);
    /// Under which id upstream hears of it.
    fn request_id(&self) -> Option<HeaderValue>;
}

impl Witness for Exchange {
    fn reads(&mut self, _: &Target) {}

    fn comes_from(&mut self, caller: &Arc<Caller>, _: ToldBy) {
        self.comes_from(&caller.id);
    }

    fn goes_by(&mut self, route: &Arc<PlannedRoute>) {
        self.trail.goes_by(route);
    }

    fn waits(&mut self, wait: &Wait) {
        self.trail.waits(wait);
    }

    fn request_id(&self) -> Option<HeaderValue> {
        self.request_id_field()
    }
}

/// A call that may be made, as far as its head says.
pub(super) struct Decided<'a> {
    pub(super) route: &'a Arc<PlannedRoute>,
    pub(super) wait: Wait,
    /// What must be found out about its body first.
    pub(super) inspection: Option<Inspection<'a>>,
    /// Where it may be answered from what is kept.
    pub(super) brought: Result<Brought<'a>, Unsought>,
    /// As it goes up.
    pub(super) head: Parts,
}

impl Proxy {
    /// The way of a request up to its wait.
    pub(super) fn decide<'a>(
        &self,
        plan: &'a Plan,
        mut head: Parts,
        body: &Body,
        peer: &Peer,
        witness: &mut impl Witness,
    ) -> Result<Decided<'a>, Error> {
        let length = headers::framing(&head.headers)?;
        let target = Target::read(&head.method, &head.uri, &head.headers)?;
        witness.reads(&target);
        caller::check(&self.hosts, target.authority(), peer, &head.headers, Pages::None)?;
        let (caller, told_by) = self.callers.tell(peer, &head.headers)?;
        // Between the two of us.
        head.headers.remove(&caller::TOKEN);
        witness.comes_from(&caller, told_by);
        let route = plan.route(&head.method, target.path())?;

        witness.goes_by(route);
        if !caller.may_take(&route.id) {
            return Err(Error::RouteDenied { caller: caller.id.clone(), route: route.id.clone() });
        }
        let sent = target.path_and_query();
        let sent = route.savers.sized(&head.method, sent).unwrap_or_else(|| sent.clone());
        let (path, query) = (target.path().as_str(), sent.query());
        let (method, headers) = (&head.method, &head.headers);
        let asked = Asked { method, path, query, headers, length };
        route.policy.check(&asked)?;
        let inspection = route.policy.inspection(&asked);
        self.pseudonym.check(&head.headers)?;
        let asked = headers::preferred_wait(&head.headers);
        let wait = Wait {
            priority: caller.priority_of(route.priority, headers::asked_priority(&head.headers)),
            max_wait: asked.or(route.max_wait).or(caller.max_wait),
            caller,
        };
        witness.waits(&wait);
        let brought = Brought::read(route, &head, path, body);
        headers::scrub_request(&mut head.headers, &route.policy);
        route.policy.set_member(path, &mut head.headers);
        self.pseudonym.sign(&mut head.headers, head.version);
        head.uri = Uri::from(sent.clone());
        if let Ok(host) = HeaderValue::try_from(self.upstream.origin().authority().as_str()) {
            head.headers.insert(HOST, host);
        }
        if let Some(id) = witness.request_id() {
            head.headers.insert(X_REQUEST_ID, id);
        }
        head.version = http::Version::HTTP_11;
        Ok(Decided { route, wait, inspection, brought, head })
    }
}

impl Replay {
    /// Looks into the whole body. Before its call waits: what must not be made takes no place.
    pub(super) async fn pass(
        &mut self,
        inspection: Inspection<'_>,
        caller: &CallerId,
    ) -> Result<(), Error> {
        self.read_whole(caller).await?;
        Ok(self.look(|body| inspection.check(body)).map_err(Denied::from)?)
    }
}
