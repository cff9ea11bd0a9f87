//! A call that somebody asks about.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A call that somebody asks about, in the words in which it is said on a command line. Its fields and
/// its body may hold secrets; `Debug` shows neither.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The method.
    pub method: String,
    /// A path with its query, or a URL of the gateway or of upstream.
    pub url: String,
    /// Names and values.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body; `None` where it is not known. In JSON as `body_base64`.
    #[serde(
        default,
        rename = "body_base64",
        serialize_with = "write_body",
        deserialize_with = "read_body"
    )]
    pub body: Option<Vec<u8>>,
    /// Whose call it is, a name from the config.
    #[serde(default)]
    pub caller: Option<String>,
    /// Where it comes from: an IP address, or `uid:1001` for the user of a unix socket.
    #[serde(default)]
    pub from: Option<String>,
    /// The names in the certificate that it shows.
    #[serde(default)]
    pub san: Vec<String>,
    /// By which listener it comes in, counted from 1 in the config's order.
    #[serde(default)]
    pub listener: Option<usize>,
}

fn write_body<S: Serializer>(body: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    body.as_ref().map(|body| STANDARD.encode(body)).serialize(to)
}

fn read_body<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text: Option<String> = Option::deserialize(from)?;
    // Nothing of it is repeated.
    let read = |text| STANDARD.decode(text).map_err(|_| serde::de::Error::custom("no base64"));
    text.map(read).transpose()
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("headers", &names)
            .field("body", &self.body.as_ref().map(Vec::len))
            .field("caller", &self.caller)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// Why nobody could make such a call. Repeats no value of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    /// The method.
    #[error("the method is not one word of letters, such as GET")]
    Method,
    /// The URL.
    #[error(
        "no request can have this URL: {0}; give a path such as /api/v1/documents?pageSize=20, or a whole \
         URL"
    )]
    Url(String),
    /// A field.
    #[error("header {0} is no `Name: value`; write it like -H 'Accept: text/html'")]
    Header(usize),
    /// Nobody has this name.
    #[error("there is no caller `{name}`; there are: {known}")]
    Caller {
        /// What was said.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Only the token's digest is known.
    #[error(
        "`{0}` is told by its token, which the config does not have; show it with --header \
         'X-Omnigate-Token: …'"
    )]
    Token(String),
    /// The origin.
    #[error("`from` is an IP address such as 10.20.1.5, or uid:1001 for the user of a unix socket")]
    From,
    /// The listener.
    #[error("there is no listener {number}; there are: {known}")]
    Listener {
        /// What was said.
        number: usize,
        /// Those that there are.
        known: String,
    },
    /// No listener takes such a connection.
    #[error("no listener {wanted}; there are: {known}")]
    NoListener {
        /// What was wanted of it.
        wanted: &'static str,
        /// Those that there are.
        known: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_the_same_after_json_and_shows_no_secret() {
        let call = Call {
            method: "POST".to_owned(),
            url: "/api/v1/query/run".to_owned(),
            headers: vec![("Authorization".to_owned(), "Bearer zqsecretzq".to_owned())],
            body: Some(b"zqsecretzq\xff".to_vec()),
            ..Call::default()
        };
        let json = serde_json::to_string(&call).unwrap();
        assert_eq!(serde_json::from_str::<Call>(&json).unwrap(), call);
        let shown = format!("{call:?}");
        assert!(shown.contains("Authorization") && !shown.contains("zqsecretzq"), "{shown}");
        for bad in [r#"{"method":"GET"}"#, r#"{"method":"GET","url":"/","headres":[]}"#] {
            assert!(serde_json::from_str::<Call>(bad).is_err(), "{bad}");
        }
        let bad = r#"{"method":"GET","url":"/","body_base64":"zqsecretzq!"}"#;
        assert!(!serde_json::from_str::<Call>(bad).unwrap_err().to_string().contains("zq"));
    }
}
