//! Two ways to write the same series down: what Prometheus has always read, and OpenMetrics.

use std::fmt::Write;

/// How metrics are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The classic text of what is written in OpenMetrics.
///
/// The samples are the same in both. What differs is the lines above them: a counter's family bears the
/// sample's name, an info is a gauge, and there are no units, no times of creation and no end. Texts of
/// help and labels' values are escaped alike as long as no help has a quote in it. Ours have no exemplars.
pub(super) fn classic(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = None;
    let mut created = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            let (suffix, classic) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                same => ("", same),
            };
            // Writing to a string does not fail.
            if let Some((_, said)) = help.take_if(|(helped, _)| *helped == name) {
                let _ = writeln!(text, "# HELP {name}{suffix} {said}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {classic}");
            created = matches!(kind, "counter" | "histogram" | "summary")
                .then(|| format!("{name}_created"));
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next();
            if created.as_deref().is_none_or(|created| name != Some(created)) {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_twice_says_the_same_in_both() {
        let open = "# HELP a_wait_seconds Waits.\n# TYPE a_wait_seconds histogram\n\
            # UNIT a_wait_seconds seconds\na_wait_seconds_sum{b=\"c\"} 3.0\n\
            a_wait_seconds_bucket{le=\"+Inf\",b=\"c\"} 1\na_wait_seconds_created{b=\"c\"} 1.5\n\
            # HELP a_calls Calls.\n# TYPE a_calls counter\n\
            a_calls_total{b=\"# {x} \\\"y\\\" \\n\"} 4\na_calls_created{b=\"c\"} 1.5\n\
            # HELP a_build Which.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
            # TYPE a_thing unknown\na_thing 2\n\
            # HELP a_thing_created A gauge of that name.\n# TYPE a_thing_created gauge\n\
            a_thing_created 2\n# EOF\n";
        let said = "# HELP a_wait_seconds Waits.\n# TYPE a_wait_seconds histogram\n\
            a_wait_seconds_sum{b=\"c\"} 3.0\n\
            a_wait_seconds_bucket{le=\"+Inf\",b=\"c\"} 1\n\
            # HELP a_calls_total Calls.\n# TYPE a_calls_total counter\n\
            a_calls_total{b=\"# {x} \\\"y\\\" \\n\"} 4\n\
            # HELP a_build_info Which.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
            # TYPE a_thing untyped\na_thing 2\n\
            # HELP a_thing_created A gauge of that name.\n# TYPE a_thing_created gauge\n\
            a_thing_created 2\n";
        assert_eq!(classic(open), said);
    }
}
