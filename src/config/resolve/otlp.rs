//! `[telemetry] otlp`, and the variables of OpenTelemetry that say the same. The file counts more; those
//! that switch everything off count most.

use std::time::Duration;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};
use percent_encoding::percent_decode_str;

use crate::config::at::At;
use crate::config::file::Otlp;
use crate::config::resolve::{Notes, Surroundings, some_time, upstream};
use crate::net::TlsRoots;
use crate::telemetry::{ExportFields, TraceSettings};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// OpenTelemetry's own defaults.
const TIMEOUT: Duration = Duration::from_secs(10);
const QUEUE: usize = 2_048;
const HERE: &str = "http://localhost:4318/v1/traces";
const PATH: &str = "/v1/traces";

/// So many spans are some 100 MB.
const MOST_QUEUED: usize = 65_536;

/// A URL that spans are posted to.
struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    https: bool,
}

/// What the section comes to.
pub(super) enum Export {
    /// Nothing is exported.
    Off,
    /// Spans are.
    To(Box<TraceSettings>),
}

/// `None` for a mistake.
pub(super) fn resolve(
    said: Option<&At<Otlp>>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<Export> {
    // What the file says must be right, also where a variable switches it off.
    let of_file = match said {
        Some(said) => Some(of_file(&said.value, around, notes)?),
        None => None,
    };
    if is_off(around, notes) {
        return Some(Export::Off);
    }
    warn_of_what_is_ignored(around, notes);
    let queue = queue(around, notes);
    let settings = match of_file {
        Some(settings) => settings,
        None => match endpoint_of_variables(around, notes)? {
            None => return Some(Export::Off),
            Some(endpoint) => {
                let roots = roots_of_variables(around, notes)?;
                settings(endpoint, roots, None, timeout_of_variables(around).unwrap_or(TIMEOUT))
            }
        },
    };
    warn_of_open_headers(&settings, around, notes);
    let service = variable(around, "OTEL_SERVICE_NAME");
    Some(Export::To(Box::new(TraceSettings { queue, service, fields: fields(around), ..settings })))
}

fn of_file(said: &Otlp, around: &Surroundings<'_>, notes: &mut Notes) -> Option<TraceSettings> {
    let endpoint = said.endpoint.as_ref().and_then(|said| {
        let problem = match endpoint(&said.value, true) {
            Ok(endpoint) => return Some(endpoint),
            Err(problem) => problem,
        };
        notes
            .problems
            .at(&said.span, format!("`endpoint`: {problem}"))
            .help("such as \"http://127.0.0.1:4318\"");
        None
    });
    let sample = match &said.sample {
        Some(said) if !(0.0..=1.0).contains(&said.value) => {
            notes
                .problems
                .at(&said.span, "`sample` must be from 0 to 1")
                .help("0.01 keeps one trace in a hundred");
            None
        }
        said => Some(said.as_ref().map(|said| said.value)),
    };
    let roots = match said.tls_roots {
        Some(_) => upstream::tls_roots(&said.tls_roots, around, notes),
        None => roots_of_variables(around, notes),
    };
    let usual = timeout_of_variables(around).unwrap_or(TIMEOUT);
    let timeout = some_time("timeout", &said.timeout, usual, notes);
    Some(settings(endpoint?, roots?, sample?, timeout?))
}

fn settings(
    endpoint: Endpoint,
    roots: TlsRoots,
    sample: Option<f64>,
    timeout: Duration,
) -> TraceSettings {
    let Endpoint { uri, host, port, https } = endpoint;
    let tls = https.then_some(roots);
    TraceSettings {
        endpoint: uri,
        host,
        port,
        tls,
        sample,
        timeout,
        queue: QUEUE,
        service: None,
        fields: ExportFields::default(),
    }
}

/// Reads a URL; what is wrong with it is said without its text.
fn endpoint(text: &str, adds_path: bool) -> Result<Endpoint, &'static str> {
    const NOT_A_URL: &str = "this is not a URL such as http://127.0.0.1:4318";
    let uri: Uri = text.trim().parse().map_err(|_| NOT_A_URL)?;
    let mut parts = uri.into_parts();
    let (scheme, authority) =
        parts.scheme.as_ref().zip(parts.authority.as_ref()).ok_or(NOT_A_URL)?;
    let https = *scheme == Scheme::HTTPS;
    if !https && *scheme != Scheme::HTTP {
        return Err("the scheme must be http or https");
    }
    if authority.as_str().contains('@') {
        return Err("a user or a password in a URL is not sent; use OTEL_EXPORTER_OTLP_HEADERS");
    }
    let host = authority.host().to_owned();
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    if host.is_empty() || port == 0 {
        return Err(NOT_A_URL);
    }
    let bare = parts.path_and_query.as_ref().is_none_or(|path| path.as_str() == "/");
    if bare && adds_path {
        parts.path_and_query = Some(PathAndQuery::from_static(PATH));
    }
    let uri = Uri::from_parts(parts).map_err(|_| NOT_A_URL)?;
    Ok(Endpoint { uri, host, port, https })
}

/// Where the variables say that spans go; `Some(None)` where they say nothing.
#[expect(clippy::option_option, reason = "the outer one says whether there was a mistake")]
fn endpoint_of_variables(around: &Surroundings<'_>, notes: &mut Notes) -> Option<Option<Endpoint>> {
    // That of traces alone is taken as it is; the general one is where `/v1/traces` starts from.
    let (name, text) = if let Some(text) = variable(around, TRACES_ENDPOINT) {
        (TRACES_ENDPOINT, text)
    } else if let Some(text) = variable(around, ENDPOINT) {
        (ENDPOINT, format!("{}{PATH}", text.trim_end_matches('/')))
    } else if variable(around, "OTEL_TRACES_EXPORTER").is_some() {
        // It was not `none`, and it was asked for.
        (ENDPOINT, HERE.to_owned())
    } else {
        return Some(None);
    };
    match endpoint(&text, false) {
        Ok(endpoint) => Some(Some(endpoint)),
        Err(problem) => {
            notes.problems.whole(format!("the variable {name}: {problem}"));
            None
        }
    }
}

fn roots_of_variables(around: &Surroundings<'_>, notes: &mut Notes) -> Option<TlsRoots> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
    let said = names.into_iter().find_map(|name| Some((name, variable(around, name)?)));
    let Some((name, path)) = said else { return Some(TlsRoots::System) };
    let roots = TlsRoots::File(around.path(path));
    match roots.client_config() {
        Ok(_) => Some(roots),
        Err(error) => {
            notes.problems.whole(format!("the variable {name}: {error}"));
            None
        }
    }
}

/// Milliseconds; what is no number says nothing, as the SDK has it.
fn timeout_of_variables(around: &Surroundings<'_>) -> Option<Duration> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let said = names.into_iter().find_map(|name| variable(around, name));
    said?.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis)
}

fn queue(around: &Surroundings<'_>, notes: &mut Notes) -> usize {
    let name = "OTEL_BSP_MAX_QUEUE_SIZE";
    let Some(said) = variable(around, name) else { return QUEUE };
    let fits = said.parse().ok().filter(|spans| (1..=MOST_QUEUED).contains(spans));
    fits.unwrap_or_else(|| {
        let text =
            format!("the variable {name} is no number from 1 to {MOST_QUEUED}; it is {QUEUE}");
        notes.warnings.whole(text);
        QUEUE
    })
}

/// Whether a variable switches the export off, or asks for one that there is not.
fn is_off(around: &Surroundings<'_>, notes: &mut Notes) -> bool {
    if variable(around, "OTEL_SDK_DISABLED").is_some_and(|said| said.eq_ignore_ascii_case("true")) {
        return true;
    }
    let exporter = variable(around, "OTEL_TRACES_EXPORTER");
    if let Some(said) = exporter.filter(|said| said != "otlp") {
        if said != "none" {
            notes.warnings.whole(
                "the variable OTEL_TRACES_EXPORTER names neither `otlp` nor `none`; no spans are exported",
            );
        }
        return true;
    }
    let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let said = names.into_iter().find_map(|name| Some((name, variable(around, name)?)));
    match said {
        Some((name, protocol)) if protocol != "http/protobuf" => {
            notes
                .warnings
                .whole(format!("the variable {name} is not `http/protobuf`; no spans are exported"))
                .help("nothing else is spoken here; collectors take it on port 4318");
            true
        }
        Some(_) | None => false,
    }
}

/// Those of the general variable, where the one for traces is there and empty: that is none, as
/// OpenTelemetry has it, and to the SDK it is one without fields.
fn fields(around: &Surroundings<'_>) -> ExportFields {
    let own = (around.variable)("OTEL_EXPORTER_OTLP_TRACES_HEADERS");
    let general = variable(around, "OTEL_EXPORTER_OTLP_HEADERS");
    let Some((_, general)) = own.filter(|own| own.is_empty()).zip(general) else {
        return ExportFields::default();
    };
    let field = |field: &str| {
        let (name, value) = field.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().to_owned(), value.into_owned()))
    };
    ExportFields(general.split(',').filter_map(field).collect())
}

/// What the SDK and we take no notice of is told, since it was meant to matter.
fn warn_of_what_is_ignored(around: &Surroundings<'_>, notes: &mut Notes) {
    type Fits = fn(&str) -> bool;
    let share: Fits = |said| said.parse().is_ok_and(|share: f64| (0.0..=1.0).contains(&share));
    let sampler: Fits = |said| {
        let kind = said.strip_prefix("parentbased_").unwrap_or(said);
        matches!(kind, "always_on" | "always_off" | "traceidratio")
    };
    let number: Fits = |said| said.parse().is_ok_and(|number: u64| number > 0);
    let coding: Fits = |said| matches!(said, "gzip" | "none");
    let fields: Fits = |said| said.split(',').all(|field| field.contains('='));
    let context: Fits = |said| said.split(',').any(|one| one.trim() == "tracecontext");
    for (name, fits, what) in [
        ("OTEL_TRACES_SAMPLER", sampler, "names no sampler that there is"),
        ("OTEL_TRACES_SAMPLER_ARG", share, "is no number from 0 to 1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", number, "is no number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", number, "is no number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", coding, "is neither `gzip` nor `none`"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", coding, "is neither `gzip` nor `none`"),
        ("OTEL_EXPORTER_OTLP_HEADERS", fields, "has something in it that is no NAME=VALUE"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", fields, "has something in it that is no NAME=VALUE"),
        ("OTEL_BSP_SCHEDULE_DELAY", number, "is no number of milliseconds"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", number, "is no number of spans"),
        (
            "OTEL_PROPAGATORS",
            context,
            "does not name `tracecontext`, which is what callers are heard in",
        ),
    ] {
        if variable(around, name).is_some_and(|said| !fits(&said)) {
            notes.warnings.whole(format!("the variable {name} {what}; it is ignored"));
        }
    }
}

/// Fields such as a vendor's key are shown to whoever is on the way.
fn warn_of_open_headers(settings: &TraceSettings, around: &Surroundings<'_>, notes: &mut Notes) {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
    let Some(name) = names.into_iter().find(|name| variable(around, name).is_some()) else {
        return;
    };
    let host = settings.host.trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>().ok();
    let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    if settings.tls.is_none() && !is_here {
        notes
            .warnings
            .whole(format!("the fields of {name} go to the collector without TLS"))
            .help("use https:// for its endpoint");
    }
}

/// An empty variable is none, as OpenTelemetry has it.
fn variable(around: &Surroundings<'_>, name: &str) -> Option<String> {
    let said = (around.variable)(name)?.into_string().ok()?;
    Some(said.trim().to_owned()).filter(|said| !said.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse_in;
    use crate::telemetry::TraceSettings;

    const START: &str = r#"
        state_dir = "/var/lib/omnigate"
        [upstream]
        base_url = "https://acme.omniapp.co"
        [vault]
        backend = "env"
        [credentials.org]
        kind = "organization"
        secret = "OMNI_API_KEY"
        [[routes]]
        name = "all"
        path = "/{*rest}"
        credential = "org"
        [telemetry]
    "#;

    fn traces(said: &str, variables: &[(&str, &str)]) -> Result<Option<TraceSettings>, String> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| v.into());
        let path = Path::new("/etc/omnigate/omnigate.toml");
        let config = parse_in(&format!("{START}{said}"), path, &variable);
        config.map(|config| config.telemetry.traces).map_err(|report| report.to_string())
    }

    fn endpoint(said: &str, variables: &[(&str, &str)]) -> Option<String> {
        let settings = traces(said, variables).unwrap_or_else(|report| panic!("{report}"));
        settings.map(|settings| settings.endpoint.to_string())
    }

    #[test]
    fn spans_go_where_the_file_says_or_else_the_variables() {
        let file = "otlp = { endpoint = \"http://file:4318\" }";
        let (general, own) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let (switch, exporter) = ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER");
        let protocol = "OTEL_EXPORTER_OTLP_PROTOCOL";
        for (said, variables, goes) in [
            ("", &[][..], None),
            (file, &[], Some("http://file:4318/v1/traces")),
            ("otlp = { endpoint = \"https://c/in?x=1\" }", &[], Some("https://c/in?x=1")),
            ("", &[(general, "http://env:4318")], Some("http://env:4318/v1/traces")),
            ("", &[(general, "http://env:4318/base/")], Some("http://env:4318/base/v1/traces")),
            ("", &[(own, "http://own:4318"), (general, "http://env")], Some("http://own:4318/")),
            (file, &[(general, "http://env:4318")], Some("http://file:4318/v1/traces")),
            ("", &[(exporter, "otlp")], Some("http://localhost:4318/v1/traces")),
            ("", &[(general, "http://env"), (exporter, "none")], None),
            ("", &[(general, "http://env"), (exporter, "zipkin")], None),
            ("", &[(general, "http://env"), (exporter, "")], Some("http://env/v1/traces")),
            (file, &[(switch, "TRUE")], None),
            (file, &[(switch, "1")], Some("http://file:4318/v1/traces")),
            (file, &[(protocol, "grpc")], None),
            (file, &[(protocol, "http/protobuf")], Some("http://file:4318/v1/traces")),
        ] {
            let goes = goes.map(str::to_owned);
            assert_eq!(endpoint(said, variables), goes, "{said} {variables:?}");
        }
    }

    #[test]
    fn what_the_file_does_not_say_the_variables_do() {
        let here = "otlp.endpoint = \"http://[::1]:4318\"";
        let of = |said: &str, variables: &[_]| traces(said, variables).unwrap().unwrap();
        let usual = of(here, &[]);
        assert_eq!((usual.host.as_str(), usual.port, &usual.tls), ("[::1]", 4318, &None));
        assert_eq!((usual.sample, usual.timeout.as_secs(), usual.queue), (None, 10, 2_048));
        assert_eq!(usual.shown(), "http://[::1]:4318");
        let long = ("OTEL_EXPORTER_OTLP_TIMEOUT", "20000");
        let all = [long, ("OTEL_BSP_MAX_QUEUE_SIZE", "77")];
        let told = of(here, &all);
        assert_eq!((told.timeout.as_secs(), told.queue), (20, 77));
        let told = of(&format!("{here}\notlp.timeout = \"3s\"\notlp.sample = 0.01"), &all);
        assert_eq!((told.timeout.as_secs(), told.sample), (3, Some(0.01)));
        assert_eq!(of(here, &[("OTEL_SERVICE_NAME", "gate")]).service.as_deref(), Some("gate"));
        for odd in ["0", "-1", "many", "65537"] {
            assert_eq!(of(here, &[("OTEL_BSP_MAX_QUEUE_SIZE", odd)]).queue, 2_048);
        }
        assert!(of("otlp.endpoint = \"https://c\"", &[]).tls.is_some());
    }

    #[test]
    fn a_variable_that_is_ignored_is_told() {
        let here = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        let warned = |name: &str, value: &str| {
            let all = [here, (name, value)];
            let variable =
                |name: &str| all.iter().find(|(key, _)| *key == name).map(|(_, v)| v.into());
            let config = parse_in(START, Path::new("/etc/omnigate.toml"), &variable);
            let warnings = config.unwrap_or_else(|report| panic!("{report}")).warnings;
            warnings.is_some_and(|warnings| warnings.to_string().contains(name))
        };
        for (name, good, bad) in [
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "xray"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25", "25%"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500", "10s"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "snappy"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,c=d", "a=b,secret"),
            ("OTEL_PROPAGATORS", "tracecontext,baggage", "b3"),
            ("OTEL_BSP_SCHEDULE_DELAY", "500", "soon"),
        ] {
            assert!(!warned(name, good), "{name}={good}");
            assert!(warned(name, bad), "{name}={bad}");
            assert!(!warned(name, ""), "{name}=");
        }
    }

    #[test]
    fn a_mistake_is_told_and_no_value_of_a_variable() {
        let secret = "http://user:hunter2@collector";
        for (said, variables, told) in [
            ("otlp = {}", &[][..], "`endpoint` is missing"),
            ("otlp = { endpoint = \"collector:4318\" }", &[], "this is not a URL"),
            ("otlp = { endpoint = \"grpc://c:4317\" }", &[], "the scheme must be http or https"),
            ("otlp = { endpoint = \"http://u:p@c\" }", &[], "OTEL_EXPORTER_OTLP_HEADERS"),
            ("otlp = { endpoint = \"http://c\", sample = 1.5 }", &[], "must be from 0 to 1"),
            ("otlp = { endpoint = \"http://c\", sample = nan }", &[], "must be from 0 to 1"),
            ("otlp = { endpoint = \"http://c\", sample = \"all\" }", &[], "must be a number"),
            ("otlp = { endpoint = \"http://c\", timeout = \"0s\" }", &[], "more than 0"),
            ("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", secret)], "OTEL_EXPORTER_OTLP_ENDPOINT: a user"),
            ("", &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "x")], "TRACES_ENDPOINT: this is not"),
        ] {
            let report = traces(said, variables).unwrap_err();
            assert!(report.contains(told) && !report.contains("hunter2"), "{told}: {report}");
        }
    }
}
