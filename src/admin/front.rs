//! `GET /`: the status page. It is the same for everybody and holds no facts.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::answer;
use crate::base::Body;

const PAGE: &str = include_str!("page.html");

/// It runs the one script and the one style that we put into it, asks nobody but us, and stands in no
/// other page.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let [script, style] = ["script", "style"].map(|name| digest(inside(name).unwrap_or_default()));
    let policy = format!(
        "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    // Visible ASCII, which a field may have.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What the page can do without.
const PERMISSIONS: &str = "accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), \
     microphone=(), payment=(), usb=()";

const OTHERS: [(&str, &str); 3] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", PERMISSIONS),
];

pub(super) fn page() -> Response<Body> {
    let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    for (name, value) in OTHERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// The text of the page's one element of this name.
fn inside(name: &str) -> Option<&'static str> {
    let (_, after) = PAGE.split_once(&format!("<{name}>"))?;
    after.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

fn digest(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tags of the page, without what stands in its script and its style.
    fn tags() -> Vec<String> {
        let mut bare = PAGE.to_owned();
        for name in ["script", "style"] {
            bare = bare.replace(inside(name).unwrap(), "");
        }
        let from_each = bare.split('<').skip(1);
        from_each.map(|tag| tag.split('>').next().unwrap().to_ascii_lowercase()).collect()
    }

    #[test]
    fn the_page_has_one_script_and_one_style_and_the_policy_names_them() {
        let policy = POLICY.to_str().unwrap();
        for name in ["script", "style"] {
            for tag in [format!("<{name}"), format!("<{name}>"), format!("</{name}>")] {
                assert_eq!(PAGE.to_ascii_lowercase().matches(&tag).count(), 1, "{tag}");
            }
            let inside = inside(name).unwrap();
            assert!(!inside.trim().is_empty(), "{name}");
            // The browser makes `\n` of `\r\n` before it takes the digest.
            assert!(!inside.contains('\r'));
            assert!(policy.contains(&format!("{name}-src '{}'", digest(inside))), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(digest("alert('Hello, world.');"), HELLO);
    }

    /// The example of CSP Level 3 §8.3 has this one.
    const HELLO: &str = "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=";

    #[test]
    fn nothing_in_the_page_is_against_its_policy() {
        for tag in tags() {
            let attributes = tag.split_whitespace().skip(1);
            for attribute in attributes.map(|one| one.split('=').next().unwrap()) {
                assert!(attribute != "style" && !attribute.starts_with("on"), "<{tag}>");
            }
            assert!(!tag.starts_with("base") && !tag.starts_with("iframe"), "<{tag}>");
        }
    }

    #[test]
    fn the_page_names_no_other_place() {
        // The names of XML's vocabularies are no addresses.
        let text = PAGE.replace("http://www.w3.org/", "").to_ascii_lowercase();
        for other in
            ["http:", "https:", "ws:", "wss:", "src=\"//", "href=\"//", "@import", "url(//"]
        {
            assert!(!text.contains(other), "{other}");
        }
    }
}
