//! `/metrics`, in the form that the scraper understands best.

use http::header::{ACCEPT, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::{Desk, answer};
use crate::base::Body;
use crate::telemetry::Exposition;

/// What is counted.
pub(super) fn metrics(fields: &HeaderMap, desk: &dyn Desk) -> Response<Body> {
    let form = wanted(fields);
    let mut response = answer(StatusCode::OK, form.media_type(), desk.metrics(form));
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// OpenMetrics for whoever names it and likes it no less than the classic text, which everybody else is
/// given: an `Accept` that fits neither is no reason to be without figures (RFC 9110 §12.5.1).
fn wanted(fields: &HeaderMap) -> Exposition {
    let said = fields.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut open, mut classic) = (0, None);
    // How exactly it was named: `*/*` is about what nothing else is about.
    let mut exactness = 0;
    for range in said.flat_map(ranges) {
        let (kind, weight) = (range.kind.as_str(), range.weight);
        match (kind, range.version) {
            ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => {
                open = open.max(weight);
            }
            ("text/plain", None | Some("0.0.4")) if exactness < 3 => {
                (classic, exactness) = (Some(weight), 3);
            }
            ("text/plain", None | Some("0.0.4")) => classic = classic.max(Some(weight)),
            ("text/*", _) if exactness < 2 => (classic, exactness) = (Some(weight), 2),
            ("*/*", _) if exactness < 1 => (classic, exactness) = (Some(weight), 1),
            (_, _) => {}
        }
    }
    if open > 0 && Some(open) >= classic { Exposition::OpenMetrics } else { Exposition::Classic }
}

/// One media range of `Accept`.
struct Range<'a> {
    kind: String,
    version: Option<&'a str>,
    /// Thousandths.
    weight: u16,
}

/// No parameter that matters here has a comma in it, so that none is looked for in quotes.
fn ranges(field: &str) -> impl Iterator<Item = Range<'_>> {
    field.split(',').map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut one = Range { kind, version: None, weight: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.eq_ignore_ascii_case("version") {
                one.version = Some(value.trim_matches('"'));
            } else if name.eq_ignore_ascii_case("q") {
                one.weight = weight(value);
            }
        }
        one
    })
}

/// RFC 9110 §12.4.2: 0 to 1 with up to three places; what is no weight is none.
fn weight(text: &str) -> u16 {
    match text.split_once('.').unwrap_or((text, "")) {
        ("0", places) if places.len() <= 3 && places.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{places:0<3}").parse().unwrap_or(0)
        }
        ("1", places) if places.len() <= 3 && places.bytes().all(|b| b == b'0') => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Exposition::{Classic, OpenMetrics};

    fn asked(fields: &[&str]) -> Exposition {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(ACCEPT, HeaderValue::from_str(field).unwrap());
        }
        wanted(&headers)
    }

    #[test]
    fn prometheus_is_given_what_it_likes_best() {
        for (accept, form) in [
            // Prometheus 2.42.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            // Prometheus 3.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;\
                 escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
            // Told to scrape the classic text alone.
            ("text/plain;version=0.0.4;q=0.6,*/*;q=0.5", Classic),
            ("text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.9", Classic),
            // curl, a browser, and whatever else.
            ("*/*", Classic),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Classic),
            ("application/json", Classic),
            ("application/openmetrics-text; version=\"1.0.0\"; charset=utf-8", OpenMetrics),
            ("Application/OpenMetrics-Text", OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Classic),
            ("application/openmetrics-text;q=0", Classic),
            ("application/openmetrics-text;q=0.0, */*;q=0.1", Classic),
            ("application/openmetrics-text;q=0.1, text/plain;q=0", OpenMetrics),
            ("text/plain;q=0, application/openmetrics-text;q=0.1, */*", OpenMetrics),
            ("application/openmetrics-text;q=1.1, text/plain;q=0.1", Classic),
            ("", Classic),
            (";,;=,;q=;q", Classic),
        ] {
            assert_eq!(asked(&[accept]), form, "{accept}");
        }
        assert_eq!(asked(&[]), Classic);
        assert_eq!(asked(&["text/plain;q=0.2", "application/openmetrics-text;q=0.3"]), OpenMetrics);
    }

    #[test]
    fn a_weight_has_up_to_three_places() {
        for (text, thousandths) in [
            ("0", 0),
            ("0.", 0),
            ("0.5", 500),
            ("0.05", 50),
            ("0.055", 55),
            ("1", 1000),
            ("1.000", 1000),
            ("1.001", 0),
            ("0.0001", 0),
            ("2", 0),
            ("-1", 0),
            ("0.x", 0),
            ("", 0),
            ("0.٣", 0),
        ] {
            assert_eq!(weight(text), thousandths, "{text}");
        }
    }
}
