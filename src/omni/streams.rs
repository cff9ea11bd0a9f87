//! Which calls stream: their answers come bit by bit, over minutes.

/// Whether a call to this canonical path streams: queries, long polls, downloads and MCP. Such a call
/// is never sent a second time once upstream may have begun on it.
pub fn is_streaming(path: &str) -> bool {
    // As the server does: letter case and one trailing slash do not count.
    let path = path.strip_suffix('/').unwrap_or(path).to_ascii_lowercase();
    let whole = ["/mcp", "/api/v1/query/run", "/api/v1/query/wait"];
    whole.contains(&path.as_str())
        || path.starts_with("/mcp/")
        || path.starts_with("/api/v1/dashboards/") && path.split('/').any(|one| one == "download")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_downloads_and_mcp_stream_and_lists_do_not() {
        for streams in [
            "/api/v1/query/run",
            "/api/v1/Query/Wait/",
            "/mcp/https",
            "/api/v1/dashboards/d1/download/j1",
        ] {
            assert!(is_streaming(streams), "{streams}");
        }
        for does_not in ["/api/v1/documents", "/api/v1/dashboards/d1/filters", "/mcpx"] {
            assert!(!is_streaming(does_not), "{does_not}");
        }
    }
}
