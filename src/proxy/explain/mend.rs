//! What can be done about a refusal.

use crate::caller::{FromAPage, Unknown};
use crate::policy::{Denied, WrongUser};
use crate::proxy::error::Error;
use crate::route::{BadPath, BadTarget};
use crate::shape::Refused;

/// What can be done about a refusal; `None` where its own text says it, or nothing can.
pub(super) fn mend(error: &Error) -> Option<String> {
    Some(match error {
        Error::Target(target) => of_target(target)?.to_owned(),
        Error::Framing(_) => {
            "give the length once, or `Transfer-Encoding: chunked`, as every HTTP library does".into()
        }
        Error::Loop(_) => "see that `base_url` does not lead back to this gateway".to_owned(),
        Error::Browser(page) => of_page(page)?.to_owned(),
        Error::Caller(unknown) => of_unknown(unknown)?.to_owned(),
        Error::RouteDenied { caller, route } => {
            format!("add \"{route}\" to `routes` of [callers.{caller}], or call as somebody else")
        }
        Error::NoRoute { nearest } if nearest.is_empty() => {
            "add a [[routes]] whose `path` takes it; paths that lead MCP clients to a log-in never have \
             one, so that they use the key that is put in"
                .to_owned()
        }
        Error::NoRoute { nearest } => {
            let names: Vec<String> = nearest.iter().map(|id| format!("`{id}`")).collect();
            format!("see the path's spelling, or add a [[routes]]; nearest: {}", names.join(", "))
        }
        Error::EscapedSeparator => {
            "add a route that names the endpoint, such as /api/v1/models/{id}/branch/{name}/merge".into()
        }
        Error::Method { allowed } => {
            let names: Vec<&str> = allowed.iter().map(|method| method.as_str()).collect();
            format!("use {}, or add the method to a route's `methods`", names.join(", "))
        }
        Error::Denied(denied) => of_denied(denied)?.to_owned(),
        Error::Refused(refused) => of_refused(refused)?,
        Error::TooSoon(_) => "wait longer (`Prefer: wait=SECONDS`, `max_wait`), or ask later".into(),
        Error::Credential(missing) => {
            format!("see with `omnigate status` what is wrong with the place of `{}`", missing.credential)
        }
        Error::NotKept => "leave `only-if-cached` out, or ask once without it".to_owned(),
        Error::Overloaded => "try again in a moment, or raise `replay_total`".to_owned(),
        Error::Shared(error) => return mend(error),
        Error::Connect(_)
        | Error::Send(_)
        | Error::Upload(_)
        | Error::TooSlow(_)
        | Error::Unsteady
        | Error::Busy { .. }
        | Error::Replaced { .. }
        | Error::Incomplete
        | Error::Panic => return None,
    })
}

fn of_target(target: &BadTarget) -> Option<&'static str> {
    Some(match target {
        BadTarget::Path(path) => match path {
            BadPath::DotSegment => "write the path without `.` and `..`",
            BadPath::EmptySegment => "write one `/` between two names, and none at its end but one",
            BadPath::EscapedSeparator => {
                "write a plain `/` between names; only a model's branch, label, topic and view names may \
                 hold an escaped one"
            }
            BadPath::Unescaped { .. } | BadPath::BrokenEscape { .. } | BadPath::NotUtf8 => {
                "percent-encode the path as UTF-8, once"
            }
            BadPath::TooDeep => "percent-encode the path once",
            BadPath::Semicolon => "write what stands behind the `;` into the query",
            BadPath::Backslash => "write `/`",
            BadPath::TooLong | BadPath::NoSlash | BadPath::Control => return None,
        },
        BadTarget::QueryTooLong => "send long things in the body",
        BadTarget::BadQuery => "percent-encode what the query cannot have: %20, %23",
        BadTarget::NoHost | BadTarget::TwoHosts | BadTarget::BadHost | BadTarget::HostsDiffer => {
            "say one `Host`, the gateway's"
        }
        BadTarget::UserInfo => "leave the user out of the URL; the gateway has the key",
        BadTarget::Method | BadTarget::Form => return None,
    })
}

fn of_page(page: &FromAPage) -> Option<&'static str> {
    match page {
        FromAPage::Host => {
            Some("call the gateway by a name that it knows, or add it to `[server] hosts`")
        }
        FromAPage::Origin | FromAPage::FetchSite | FromAPage::Referer | FromAPage::Field(_) => {
            Some("have a server of yours ask, without the browser's fields")
        }
        // It says so itself.
        FromAPage::Silent => None,
    }
}

fn of_unknown(unknown: &Unknown) -> Option<&'static str> {
    match unknown {
        Unknown::Header { .. } => {
            Some("send the field that `require_header` of the listener asks for")
        }
        Unknown::Nobody => Some(
            "add a [callers.NAME] whose `match` fits, or `allow_anonymous = true` to the listener",
        ),
        Unknown::Token | Unknown::Tokens | Unknown::NoToken => None,
    }
}

fn of_denied(denied: &Denied) -> Option<&'static str> {
    match denied {
        Denied::BodyTooLarge { .. } => Some("raise the route's `max_body`, or send less"),
        Denied::BodyUnseen { .. } => {
            Some("send less, raise `replay_limit`, or say `impersonation = \"allow\"` on the route")
        }
        Denied::ContentEncoding => Some("send the body as it is, without Content-Encoding"),
        Denied::Expectation => Some("leave `Expect` out"),
        Denied::Upgrade => Some("leave `Upgrade` out"),
        Denied::Sensitive => Some(
            "add a route that names this endpoint, or `sensitive = true` to the one that takes it",
        ),
        Denied::Impersonation(wrong) => match wrong {
            WrongUser::Query | WrongUser::Field | WrongUser::Body => {
                Some("leave it out, or say `impersonation = \"allow\"` on the route")
            }
            WrongUser::NotPinnedQuery | WrongUser::NotPinnedBody => {
                Some("name the member that `impersonation = { pin = \"…\" }` of the route has")
            }
            WrongUser::NotPinnedField | WrongUser::Unread(_) => None,
        },
    }
}

fn of_refused(refused: &Refused) -> Option<String> {
    let text = match refused {
        Refused::Full { .. } => "try later, or raise the budget's `max_queued`",
        Refused::CallerFull { .. } => "try later, or raise the caller's `max_queued`",
        Refused::CallerLimit { .. } => "try later, or raise the caller's `rate`",
        Refused::Late { .. } => "wait longer (`Prefer: wait=SECONDS`, `max_wait`), or try later",
        Refused::Paused { .. } => "resume with POST /-/resume on the admin address",
        Refused::Unshared { .. } => "see that the shared store can be reached",
        Refused::Draining { .. } => "try again when the gateway has started anew",
        Refused::Rejected { credential } => {
            return Some(format!(
                "put a good key in the place of `{credential}`: omnigate vault rotate {credential}"
            ));
        }
    };
    Some(text.to_owned())
}
