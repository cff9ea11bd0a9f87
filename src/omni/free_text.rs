//! Which path parameters of Omni hold free text, and so may hold an escaped `/`, `%`, `;`, `?` or
//! `#`. Everywhere else such an escape has no business in a path.

/// Templates whose parameters written `{=name}` are free text; those written `{name}` are ids.
///
/// `feature/new-metrics` is Omni's own example of a branch name.
const TEMPLATES: &[&str] = &[
    "/api/v1/documents/{identifier}/labels/{=labelName}",
    "/api/v1/labels/{=name}",
    "/api/v1/models/{modelId}/branch/{=branchName}",
    "/api/v1/models/{modelId}/branch/{=branchName}/dbt",
    "/api/v1/models/{modelId}/branch/{=branchName}/merge",
    "/api/v1/models/{modelId}/topic/{=topicName}",
    "/api/v1/models/{modelId}/view/{=viewName}",
    "/api/v1/models/{modelId}/view/{=viewName}/field/{=fieldName}",
];

/// Whether segment number `segment` of `path` is a free-text parameter (counted from 0, after the
/// first slash). Letter case and a trailing slash count: a doubt is a no.
pub fn is_free_text(path: &str, segment: usize) -> bool {
    TEMPLATES.iter().any(|template| fits(template, path, segment))
}

fn fits(template: &str, path: &str, segment: usize) -> bool {
    let mut here = path.split('/').skip(1);
    let mut free = false;
    for (at, wanted) in template.split('/').skip(1).enumerate() {
        let Some(found) = here.next() else { return false };
        let fits = if wanted.starts_with('{') { !found.is_empty() } else { wanted == found };
        if !fits {
            return false;
        }
        free |= at == segment && wanted.starts_with("{=");
    }
    free && here.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_free_text_and_ids_are_not() {
        assert!(is_free_text("/api/v1/labels/a%2Fb", 3));
        assert!(is_free_text("/api/v1/models/m/branch/feature%2Fx/merge", 5));
        assert!(is_free_text("/api/v1/models/m/view/v/field/f", 7));
        for (path, segment) in [
            ("/api/v1/models/m%2F/branch/b", 3),
            ("/api/v1/labels/a/b", 3),
            ("/api/v1/labels/a/", 3),
            ("/api/v1/labels", 3),
            ("/API/v1/labels/a", 3),
            ("/api/v1/documents/a", 3),
            ("/api/v1/labels/", 3),
        ] {
            assert!(!is_free_text(path, segment), "{path}");
        }
    }
}
