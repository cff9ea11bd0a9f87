//! What there is on each listener.

use http::Method;

use crate::base::CredentialId;

/// Which listener asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operators' own. Closed to web pages, and to whoever cannot show its token.
    Operator,
    /// For kubelets and Prometheus, which name any host.
    Probe,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Live,
    Ready,
    Metrics,
    /// The status page, for people.
    Front,
    /// Its facts, for programs.
    Status,
    /// The same, once a second.
    Events,
    Reload,
    Test(CredentialId),
    Purge,
    Pause,
    Resume,
    Log,
    Explain,
}

impl Page {
    /// What stands at a path. No page is at more than one.
    pub(super) fn at(path: &str, role: Role) -> Option<Self> {
        match (path, role) {
            ("/livez", _) => Some(Self::Live),
            ("/readyz", _) => Some(Self::Ready),
            ("/metrics", _) => Some(Self::Metrics),
            (_, Role::Probe) => None,
            ("/", Role::Operator) => Some(Self::Front),
            ("/-/status.json", Role::Operator) => Some(Self::Status),
            ("/-/events", Role::Operator) => Some(Self::Events),
            ("/-/reload", Role::Operator) => Some(Self::Reload),
            ("/-/cache/purge", Role::Operator) => Some(Self::Purge),
            ("/-/pause", Role::Operator) => Some(Self::Pause),
            ("/-/resume", Role::Operator) => Some(Self::Resume),
            ("/-/log", Role::Operator) => Some(Self::Log),
            ("/-/explain", Role::Operator) => Some(Self::Explain),
            (_, Role::Operator) => {
                let name = path.strip_prefix("/-/credentials/")?.strip_suffix("/test")?;
                Some(Self::Test(CredentialId::new(name)))
            }
        }
    }

    /// Whether it holds no secret of an operator's, so that it is shown without a token: signs of life,
    /// and the status page, which asks for the token itself and has no facts before.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Live | Self::Ready | Self::Front => true,
            Self::Metrics | Self::Status | Self::Events => false,
            Self::Reload | Self::Test(_) | Self::Purge => false,
            Self::Pause | Self::Resume | Self::Log | Self::Explain => false,
        }
    }

    /// Whether it is asked by this method, and which ones there are. What looks changes nothing, and what
    /// changes something is no look.
    pub(super) fn takes(&self, method: &Method) -> (bool, &'static str) {
        match self {
            Self::Live | Self::Ready | Self::Metrics | Self::Front | Self::Status => {
                (matches!(*method, Method::GET | Method::HEAD), "GET, HEAD")
            }
            Self::Events => (method == Method::GET, "GET"),
            Self::Reload | Self::Test(_) | Self::Purge => (method == Method::POST, "POST"),
            Self::Pause | Self::Resume | Self::Log | Self::Explain => {
                (method == Method::POST, "POST")
            }
        }
    }
}

impl Role {
    /// What there is, for those who are lost.
    pub(super) fn pages(self) -> &'static str {
        match self {
            Self::Operator => {
                "There are /, /livez, /readyz, /metrics, /-/status.json and /-/events here, and to POST \
                 to: /-/pause, /-/resume (?budget=NAME, &for=10m), /-/reload, \
                 /-/credentials/NAME/test, /-/cache/purge (?route=NAME), /-/log?filter=FILTER and /-/explain (a JSON document)."
            }
            Self::Probe => "There are /livez, /readyz and /metrics here.",
        }
    }
}
