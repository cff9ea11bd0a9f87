//! Who is at the other end, by its answer to `INFO`.

use crate::shape::fleet::StoreError;

/// The longest id that is believed; Redis' have 40 digits.
const LONGEST_ID: usize = 64;

/// `run_id/master_replid`: another one after a restart, and after a failover.
///
/// # Errors
/// [`StoreError::Unusable`] for a server that others write for, or that has not read its file yet.
pub(super) fn of(info: &str) -> Result<String, StoreError> {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    let unusable = |why: &str| Err(StoreError::Unusable(why.to_owned()));
    if field("loading").is_some_and(|loading| loading != "0") {
        return unusable("it is loading its data");
    }
    match field("role") {
        Some("master") => {}
        Some("slave") => return unusable("it is a replica; name the primary"),
        Some("sentinel") => return unusable("it is a sentinel; name the primary"),
        Some(_) | None => return unusable("it does not say that it is a primary"),
    }
    let id = |name| {
        let plain = |id: &&str| {
            (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        field(name).filter(plain)
    };
    match (id("run_id"), id("master_replid")) {
        (Some(run), Some(replication)) => Ok(format!("{run}/{replication}")),
        (_, None) | (None, _) => unusable("it does not say which server it is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:aa11\r\nloading:0\r\n\
        async_loading:1\r\n# Replication\r\nrole:master\r\nmaster_replid:bb22\r\n\
        master_replid2:cc33\r\n";

    #[test]
    fn a_primary_is_known_by_its_run_and_its_data() {
        assert_eq!(of(INFO).unwrap(), "aa11/bb22");
    }

    #[test]
    fn nobody_else_is_of_use() {
        for (said, other, told) in [
            ("role:master", "role:slave", "a replica"),
            ("role:master", "role:sentinel", "a sentinel"),
            ("role:master", "role:zq\u{1b}zq", "does not say that it is"),
            ("loading:0", "loading:1", "loading its data"),
            ("run_id:aa11", "run_id:", "which server"),
            ("run_id:aa11", "run_id:a/b", "which server"),
            ("master_replid:", "master_replid9:", "which server"),
        ] {
            let error = of(&INFO.replace(said, other)).unwrap_err();
            assert!(error.to_string().contains(told), "{other}: {error}");
        }
        assert!(of("").is_err());
    }
}
