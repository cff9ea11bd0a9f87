//! The relay: a loopback port of the program's own, from which each call goes on to the gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::base::{Body, BoxError, Peer, Remote};
use crate::caller::{self, FromAPage, Hosts, Pages};
use crate::cli::exec::fields::{Said, remove_hop_by_hop};
use crate::cli::exec::neighbour::Neighbours;
use crate::cli::exec::road::{Line, Lost, Road};
use crate::cli::exec::tally::{Call, Tally};
use crate::proxy::headers::{BadFraming, framing};
use crate::route::{BadTarget, Target};
use crate::server::{BindError, Bound, Listen, Server, ServerSettings, bind};

/// How long the program may keep an idle connection open. The gateway behind has its own idea.
const IDLE: Duration = Duration::from_secs(600);

const PRIORITY: HeaderName = HeaderName::from_static("priority");
const CALLER: HeaderName = HeaderName::from_static("x-omnigate-caller");

/// What is said for the program's calls, where they do not say it themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct Sayings {
    /// How urgent they are (RFC 9218).
    pub(super) priority: Option<HeaderValue>,
    /// Who makes them.
    pub(super) caller: Option<HeaderValue>,
    /// The token by which the gateway knows its caller.
    pub(super) token: Option<HeaderValue>,
}

/// A port that takes the program's calls.
#[derive(Debug)]
pub(super) struct Relay {
    bound: Vec<Bound>,
    address: SocketAddr,
    settings: ServerSettings,
}

/// What every call meets.
#[derive(Debug)]
struct Desk {
    road: Arc<Road>,
    sayings: Sayings,
    tally: Arc<Tally>,
    neighbours: Neighbours,
}

/// Why a call is not passed on.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(
        "another user of this machine holds the other end of this connection; whoever wants to make calls runs \
         `omnigate exec` too"
    )]
    Stranger,
    #[error(transparent)]
    Framing(#[from] BadFraming),
    #[error(transparent)]
    Target(#[from] BadTarget),
    #[error(transparent)]
    Page(#[from] FromAPage),
    #[error("the gateway does not answer: {0}")]
    Lost(#[from] Lost),
}

impl Relay {
    /// Opens a free port on the loopback.
    pub(super) fn open() -> Result<Self, BindError> {
        let place = Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let mut settings = ServerSettings::new(vec![place]);
        settings.idle_timeout = IDLE;
        settings.max_connections = connections();
        let bound = bind(&settings)?;
        let address = bound.iter().find_map(Bound::local_addr);
        // It was asked for one TCP address, so there is one.
        let address = address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(Self { bound, address, settings })
    }

    /// Where the program finds it.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes calls on. Cancel-safe: dropping the future ends every call.
    pub(super) async fn serve(self, road: Arc<Road>, sayings: Sayings, tally: Arc<Tally>) {
        let neighbours = Neighbours::at(self.address);
        let desk = Arc::new(Desk { road, sayings, tally, neighbours });
        let answer = move |request: Request<Body>, peer: Peer| {
            let desk = Arc::clone(&desk);
            async move { desk.answer(request, peer).await }
        };
        Server::new(self.settings).serve(self.bound, answer, CancellationToken::new()).await;
    }
}

/// As many connections as there are descriptors for, at two each. The limit is not raised: the program
/// would inherit that.
fn connections() -> usize {
    use rustix::process::{Resource, getrlimit};
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((soft.saturating_sub(64) / 2).clamp(8, 4096)).unwrap_or(8)
}

impl Desk {
    async fn answer(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        match self.check(&request, &peer) {
            Err(refusal) => {
                self.tally.turned_away();
                refusal.answer()
            }
            Ok(authority) => {
                let mut call = self.tally.begin();
                match self.pass_on(request, authority).await {
                    Ok((response, line)) => {
                        let said = Said::read(response.headers());
                        call.answered(response.status(), said);
                        self.bring(response, line, call)
                    }
                    Err(lost) => {
                        call.failed();
                        Refusal::from(lost).answer()
                    }
                }
            }
        }
    }

    /// Whether it can be the program who calls, and no web page and nobody else on this machine. Gives the
    /// host that the whole request agrees on.
    fn check(&self, request: &Request<Body>, peer: &Peer) -> Result<Authority, Refusal> {
        let (Remote::Tcp(remote), Some(local)) = (&peer.remote, peer.local) else {
            return Err(Refusal::Stranger);
        };
        if !self.neighbours.may_come_in(*remote, local) {
            return Err(Refusal::Stranger);
        }
        // What the gateway would refuse must not be made harmless by passing through here.
        framing(request.headers())?;
        let target = Target::read(request.method(), request.uri(), request.headers())?;
        let authority = target.authority();
        caller::check(&Hosts::default(), authority, peer, request.headers(), Pages::None)?;
        Ok(authority.clone())
    }

    async fn pass_on(
        &self,
        request: Request<Body>,
        authority: Authority,
    ) -> Result<(Response<Body>, Line), Lost> {
        let (mut head, body) = request.into_parts();
        remove_hop_by_hop(&mut head.headers);
        let host = self.road.host.as_ref().unwrap_or(&authority);
        if let Ok(host) = HeaderValue::try_from(host.as_str()) {
            head.headers.insert(HOST, host);
        }
        self.sayings.add(&mut head.headers);
        head.uri = head.uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        head.version = Version::HTTP_11;
        let (response, line) = self.road.send(Request::from_parts(head, body)).await?;
        Ok((response.map(Body::from), line))
    }

    fn bring(&self, mut response: Response<Body>, line: Line, call: Call) -> Response<Body> {
        remove_hop_by_hop(response.headers_mut());
        if response.body().is_end_stream() {
            self.road.keep(line);
            call.complete();
            return response;
        }
        let road = Arc::clone(&self.road);
        response.map(|body| Body::boxed(Followed { body, behind: Some((road, line, call)) }))
    }
}

impl Sayings {
    fn add(&self, headers: &mut HeaderMap) {
        // The gateway would take the program's dummy for a second, wrong token beside ours.
        if self.token.is_some() && !headers.contains_key(caller::TOKEN) {
            headers.remove(AUTHORIZATION);
        }
        let all =
            [(PRIORITY, &self.priority), (CALLER, &self.caller), (caller::TOKEN, &self.token)];
        for (name, value) in all {
            if let Some(value) = value {
                headers.entry(name).or_insert_with(|| value.clone());
            }
        }
    }
}

impl Refusal {
    fn answer(&self) -> Response<Body> {
        let (status, kind, title) = match self {
            Self::Stranger => (StatusCode::FORBIDDEN, "caller-denied", "You may not do this here"),
            Self::Framing(_) | Self::Target(_) => {
                (StatusCode::BAD_REQUEST, "bad-request", "This request cannot be passed on")
            }
            Self::Page(_) => {
                (StatusCode::FORBIDDEN, "browser-request", "Web pages may not ask here")
            }
            Self::Lost(_) => {
                (StatusCode::BAD_GATEWAY, "gateway-unreachable", "The gateway cannot be reached")
            }
        };
        let problem = json!({
            "type": format!("urn:omnigate:problem:{kind}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = Response::new(Body::full(problem.to_string()));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        if status == StatusCode::BAD_REQUEST {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

pin_project! {
    /// An answer's body on its way to the program. Dropping it before its end closes the connection that it
    /// comes by.
    struct Followed {
        #[pin]
        body: Body,
        behind: Option<(Arc<Road>, Line, Call)>,
    }
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let polled = this.body.as_mut().poll_frame(cx);
        let ended = match &polled {
            Poll::Pending => false,
            Poll::Ready(None) => true,
            // Whoever reads may not ask again.
            Poll::Ready(Some(Ok(_))) => this.body.is_end_stream(),
            Poll::Ready(Some(Err(_))) => {
                if let Some((_, _, call)) = this.behind.take() {
                    call.cut();
                }
                false
            }
        };
        if ended && let Some((road, line, call)) = this.behind.take() {
            road.keep(line);
            call.complete();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
