//! What somebody may have meant.

/// The name among `known` that `name` was most likely meant to be, where one is near enough.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let wanted = plain(name);
    // A third of the letters may be wrong; beyond that a guess confuses more than it helps.
    let most = (wanted.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= most && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognized() {
        let known = ["methods", "max_wait", "path"];
        assert_eq!(nearest("metods", known), Some("methods"));
        assert_eq!(nearest("Max-Wait", known), Some("max_wait"));
        assert_eq!(nearest("ptah", known), Some("path"));
    }

    #[test]
    fn a_far_name_is_not_guessed_at() {
        assert_eq!(nearest("cache", ["methods", "max_wait", "path"]), None);
        assert_eq!(nearest("x", ["a", "b"]), None);
        assert_eq!(nearest("", ["a"]), None);
    }
}
