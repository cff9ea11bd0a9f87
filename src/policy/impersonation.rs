//! For whom a call may act: an organization key can act for any user.
//!
//! Looked at here are the query and the field `X-MCP-User-ID`; `body` looks into JSON bodies.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::body::{Inspection, Unread};
use crate::omni;

/// Makes an MCP call act for a user.
const RUN_AS: HeaderName = HeaderName::from_static("x-mcp-user-id");

/// Makes a REST call act for a user, in the query.
pub(super) const USER_ID: &str = "userId";

/// How many members of a query are read by Node's and Express' parsers. They skip the rest.
const MEMBERS_READ: usize = 1000;

/// For whom the calls of a route may act.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Impersonation {
    /// For the owner of the key alone.
    #[default]
    Deny,
    /// For whomever the caller names.
    Allow,
    /// For this member alone.
    Pin(Membership),
}

/// The id of a user's membership in the organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership(HeaderValue);

/// For whom a call must not act, and how it says that it would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongUser {
    /// By its query.
    #[error("this route does not let a call act for another user; leave `userId` out of the query")]
    Query,
    /// By a field. Dropping it would let the call act for the key's owner instead.
    #[error("this route does not let a call act for another user; leave X-MCP-User-ID out")]
    Field,
    /// The query does not name the one member.
    #[error(
        "this route acts for one user alone; the query must have `userId` once, with that user's \
         membership id, and no other spelling of it"
    )]
    NotPinnedQuery,
    /// By its body.
    #[error("this route does not let a call act for another user; leave `userId` out of the body")]
    Body,
    /// The body, perhaps.
    #[error("this call may name in its body for whom it acts, and the body cannot be read; {0}")]
    Unread(#[from] Unread),
    /// Neither the query nor the body names the one member, or both do.
    #[error(
        "this route acts for one user alone; the query must have `userId` once, with that user's \
         membership id, or the JSON body must, but not both, and no other spelling of it"
    )]
    NotPinnedBody,
    /// A field names another member.
    #[error("this route acts for one user alone, and X-MCP-User-ID names another; leave it out")]
    NotPinnedField,
}

impl Membership {
    /// Takes 1 to 128 letters, digits, `-`, `_` and `.`, which mean the same wherever they stand.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(plain);
        HeaderValue::from_str(text).ok().filter(|_| fits).map(Self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        // Its characters are all plain.
        self.0.to_str().unwrap_or_default()
    }
}

impl Impersonation {
    /// # Errors
    /// The call would act for somebody for whom it must not.
    pub(super) fn check(
        &self,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<(), WrongUser> {
        let query = query.unwrap_or_default();
        let mut fields = headers.iter().filter(|(name, _)| is_run_as(name));
        match self {
            Self::Allow => Ok(()),
            Self::Deny if names_a_user(query) > 0 => Err(WrongUser::Query),
            Self::Deny if fields.next().is_some() => Err(WrongUser::Field),
            Self::Deny => Ok(()),
            Self::Pin(member) => {
                let times = names_a_user(query);
                // MCP is told by the field, which we set; some others may be told by the body.
                let told_else = || is_mcp(path) || omni::may_name_user_in_body(path);
                let told = times == 0 && told_else() || times == 1 && member.is_named_in(query);
                if !told {
                    return Err(WrongUser::NotPinnedQuery);
                }
                let same = fields.all(|(_, value)| *value == member.0);
                if same { Ok(()) } else { Err(WrongUser::NotPinnedField) }
            }
        }
    }

    /// What has to be found out about the body of a call that has passed [`Self::check`].
    pub(super) fn inspection(
        &self,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Option<Inspection<'_>> {
        let member = match self {
            Self::Allow => return None,
            Self::Deny => None,
            Self::Pin(member) => Some(member),
        };
        let by_query = || names_a_user(query.unwrap_or_default()) > 0;
        omni::may_name_user_in_body(path).then(|| Inspection::new(member, by_query(), headers))
    }

    /// Whether the caller's own field goes upstream.
    pub(super) fn forwards(&self, name: &HeaderName) -> bool {
        *self == Self::Allow && *name == RUN_AS
    }

    /// Sets the field that makes an MCP call act for the one member. Nothing is ever added to a
    /// query: Omni refuses parameters that an endpoint does not know.
    pub(super) fn set(&self, path: &str, headers: &mut HeaderMap) {
        match self {
            Self::Pin(member) if is_mcp(path) => {
                headers.insert(RUN_AS, member.0.clone());
            }
            Self::Pin(_) | Self::Deny | Self::Allow => {}
        }
    }
}

impl Membership {
    /// Whether the query says `userId` with this value, so that every parser reads it so.
    fn is_named_in(&self, query: &str) -> bool {
        let members = query.split('&').take(MEMBERS_READ);
        members.filter_map(|member| member.split_once('=')).any(|(name, value)| {
            decode_once(name) == USER_ID.as_bytes() && decode_once(value) == self.0.as_bytes()
        })
    }
}

/// Some servers take `_` for `-`.
fn is_run_as(name: &HeaderName) -> bool {
    name.as_str().replace('_', "-") == RUN_AS.as_str()
}

/// Letter case does not count to the server.
fn is_mcp(path: &str) -> bool {
    path.get(.."/mcp".len()).is_some_and(|start| start.eq_ignore_ascii_case("/mcp"))
}

/// How many members of the query name a user, to any parser there is.
fn names_a_user(query: &str) -> usize {
    // Old parsers take `;` for `&`.
    query.split(['&', ';']).filter(|member| may_be_user_id(name_of(member))).count()
}

/// What stands before the value. To `qs`, Express' parser, a `]=` counts more than an earlier `=`, also
/// where the bracket is escaped.
fn name_of(member: &str) -> &str {
    let closes =
        |at: usize| matches!(&member.as_bytes()[..at], [.., b']'] | [.., b'%', b'5', b'd' | b'D']);
    let mut ends = member.match_indices('=').map(|(at, _)| at);
    let end = ends.clone().find(|&at| closes(at)).or_else(|| ends.next());
    &member[..end.unwrap_or(member.len())]
}

/// Whether `userId` is a word of the name, however it is escaped and in any letter case.
///
/// `userId[]`, `userId[$ne]`, `[userId]`, `a[userId]` and `userId.x` are, or hold, a `userId` to
/// `qs`. `user_id` is not Omni's name for it.
pub(super) fn may_be_user_id(name: &str) -> bool {
    let name = decode_fully(name.as_bytes());
    // Capitals, since `ı` and `ſ` have the capitals of `i` and `s`.
    let name = String::from_utf8_lossy(&name).to_uppercase();
    let mut words = name.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| word.eq_ignore_ascii_case(USER_ID))
}

/// As a form is decoded (WHATWG URL §5.1): what is no escape stays.
fn decode_once(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match (first, after) {
            (b'%', [high, low, after @ ..]) => match byte_of(*high, *low) {
                Some(byte) => {
                    rest = after;
                    byte
                }
                None => b'%',
            },
            (b'+', _) => b' ',
            (other, _) => *other,
        });
    }
    decoded
}

/// Until there is nothing left to decode, in one pass: whatever ends in an escape is replaced.
fn decode_fully(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    for &byte in text {
        decoded.push(byte);
        while let Some((length, byte)) = escape_at_end(&decoded) {
            decoded.truncate(decoded.len() - length);
            decoded.push(byte);
        }
    }
    decoded
}

/// The length of the escape that a text ends in, and what it stands for. `%u0049` is how JavaScript's
/// `escape` writes.
fn escape_at_end(text: &[u8]) -> Option<(usize, u8)> {
    match text {
        [.., b'%', b'u' | b'U', b'0', b'0', high, low] => Some((6, byte_of(*high, *low)?)),
        [.., b'%', high, low] => Some((3, byte_of(*high, *low)?)),
        _ => None,
    }
}

fn byte_of(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "/api/v1/documents";
    const MCP: &str = "/mcp/https";

    fn pin() -> Impersonation {
        Impersonation::Pin(Membership::parse("m-1").unwrap())
    }

    fn field(name: &str, values: &[&'static str]) -> HeaderMap {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn query(rule: &Impersonation, path: &str, query: &str) -> Result<(), WrongUser> {
        rule.check(path, Some(query), &HeaderMap::new())
    }

    #[test]
    fn no_spelling_of_user_id_passes_where_it_is_denied() {
        let long = format!("user%{}49d=7", "25".repeat(5000));
        let late = format!("{}userId=7", "a=1&".repeat(3000));
        for said in [
            "userId=7",
            "userId=",
            "userId",
            "userid=7",
            "USERID=7",
            "uSeRiD=7",
            "a=1&userId=7",
            "userId=7&userId=8",
            "userId=&a",
            "a=1;userId=7",
            "&&userId=7",
            "?userId=7",
            "user%49d=7",
            "%75%73%65%72%49%64=7",
            "%75serId",
            "user%2549d=7",
            "user%25%34%39d=7",
            "user%4%39d=7",
            "%2575serId=7",
            "user%u0049d=7",
            "user%25u0049d=7",
            "userId[]=7",
            "userId[0]=7",
            "userId[$ne]=7",
            "userId%5B%5D=7",
            "userId%255B0%255D=7",
            "userId[a][b]=7",
            "userId[=7",
            "userId]=7",
            "[userId]=7",
            "[userId][]=7",
            "a[userId]=7",
            "a[b][userId]=7",
            "a=1[userId]=7",
            "a=1[userId%5D=7",
            "a=1%5BuserId%5d=7",
            "a%5BuserId%5D=7",
            "__proto__[userId]=7",
            "userId.x=7",
            ".userId=7",
            "a.userId=7",
            "userId.=7",
            "+userId=7",
            "%20userId=7",
            "userId+=7",
            "userId%20=7",
            "userId%00=7",
            "userId%00x=7",
            "%00userId=7",
            "userId%0A=7",
            "%EF%BB%BFuserId=7",
            "userId%=7",
            "userId%zz=7",
            "userId%ff=7",
            "a%26userId=7",
            "userId%3D7",
            "\"userId\"=7",
            "u%C5%BFerId=7",
            "user%C4%B1d=7",
            &long,
            &late,
        ] {
            assert_eq!(query(&Impersonation::Deny, REST, said), Err(WrongUser::Query), "{said}");
            assert_eq!(query(&Impersonation::Deny, MCP, said), Err(WrongUser::Query), "{said}");
            assert_eq!(query(&Impersonation::Allow, REST, said), Ok(()), "{said}");
        }
    }

    #[test]
    fn other_names_and_values_pass() {
        for said in [
            "",
            "user_id=7",
            "user-id=7",
            "userIds=7",
            "user+Id=7",
            "auserId=7",
            "my_userId=7",
            "userId_=7",
            "user%5FId=7",
            "id=userId",
            "sortField=userId",
            "filter=userName+eq+%22userId%22",
            "a=b=userId=7",
            "%=%&%2=1",
        ] {
            assert_eq!(query(&Impersonation::Deny, REST, said), Ok(()), "{said}");
        }
        assert_eq!(Impersonation::Deny.check(REST, None, &HeaderMap::new()), Ok(()));
    }

    #[test]
    fn a_field_passes_only_where_calls_may_act_for_anybody() {
        for name in ["x-mcp-user-id", "X-MCP-User-ID", "x_mcp_user_id", "x-mcp-user_id"] {
            for values in [&["7"][..], &[""], &["7", "8"]] {
                let headers = field(name, values);
                let denied = Impersonation::Deny.check(MCP, None, &headers);
                assert_eq!(denied, Err(WrongUser::Field), "{name}");
                assert_eq!(Impersonation::Allow.check(MCP, None, &headers), Ok(()));
            }
        }
        let model = field("x-mcp-model-id", &["7"]);
        assert_eq!(Impersonation::Deny.check(MCP, None, &model), Ok(()));
    }

    #[test]
    fn a_pinned_call_names_the_one_user_and_nobody_else() {
        for said in ["userId=m-1", "a=1&userId=m-1&b", "user%49d=m%2D1", "userId=%6d-1"] {
            for path in [REST, MCP] {
                assert_eq!(query(&pin(), path, said), Ok(()), "{said}");
            }
        }
        let late = format!("{}userId=m-1", "a&".repeat(MEMBERS_READ));
        for said in [
            "userId=m-2",
            "userId=M-1",
            "userId=",
            "userId",
            "userId=m-1+",
            "userId=m-1%00",
            "userId=m-1,m-2",
            "userId=m%252D1",
            "userid=m-1",
            "userId[]=m-1",
            "[userId]=m-1",
            "userId.x=m-1",
            "?userId=m-1",
            "+userId=m-1",
            "user%2549d=m-1",
            "user%u0049d=m-1",
            "userId%3Dm-1",
            "userId=m-1&userId=m-1",
            "userId=m-1&userId=m-2",
            "userId=m-1&userid=m-2",
            "userId=m-1&userId[]=m-2",
            "userId=m-1&a[userId]=m-2",
            // To some the query of an `a` alone.
            "a=1;userId=m-1",
            "userId=m-1;a=1",
            &late,
        ] {
            for path in [REST, MCP] {
                assert_eq!(query(&pin(), path, said), Err(WrongUser::NotPinnedQuery), "{said}");
            }
        }
        for missing in ["", "a=1", "user_id=m-1"] {
            assert_eq!(query(&pin(), REST, missing), Err(WrongUser::NotPinnedQuery), "{missing}");
            assert_eq!(query(&pin(), MCP, missing), Ok(()), "{missing}");
        }
    }

    #[test]
    fn a_pinned_calls_field_is_ours() {
        let told = Some("userId=m-1");
        for path in [REST, MCP, "/mcp", "/MCP/https/"] {
            assert_eq!(pin().check(path, told, &field("x-mcp-user-id", &["m-1"])), Ok(()));
            for values in [&["m-2"][..], &["M-1"], &["m-1", "m-2"], &[""], &["m-1, m-2"]] {
                let headers = field("x-mcp-user-id", values);
                let refused = Err(WrongUser::NotPinnedField);
                assert_eq!(pin().check(path, told, &headers), refused, "{values:?}");
            }
            let mut headers = field("x-mcp-user-id", &["m-2", "m-3"]);
            pin().set(path, &mut headers);
            let expected = if path == REST { &["m-2", "m-3"][..] } else { &["m-1"] };
            assert!(headers.get_all(RUN_AS).iter().eq(expected), "{path}");
            for rule in [Impersonation::Deny, Impersonation::Allow] {
                let mut none = HeaderMap::new();
                rule.set(path, &mut none);
                assert!(none.is_empty());
            }
        }
    }

    #[test]
    fn a_membership_id_is_one_plain_word() {
        for text in ["7", "9f1c2d3e-0a1b-4c5d-8e9f-001122334455", "a_b.c", &"a".repeat(128)] {
            assert!(Membership::parse(text).is_some(), "{text}");
        }
        for text in ["", "a b", "a,b", "a&b", "a%41", "a+b", "é", "a\n", &"a".repeat(129)] {
            assert!(Membership::parse(text).is_none(), "{text:?}");
        }
    }
}
