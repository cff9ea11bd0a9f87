//! A page size at the end of a query that names none.

use std::num::NonZeroU32;

use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// How many members of a query are read by Node's and Express' parsers. They skip the rest.
const MEMBERS_READ: usize = 1000;

/// The target with this page size; `None` where it names one already.
pub(super) fn sized(target: &PathAndQuery, size: NonZeroU32) -> Option<PathAndQuery> {
    let query = target.query();
    let members = query.unwrap_or_default().split('&').count();
    if query.is_some_and(names_a_size) || members >= MEMBERS_READ {
        return None;
    }
    let between = match query {
        None => "?",
        Some(query) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    // One that becomes too long goes as it came.
    PathAndQuery::try_from(format!("{target}{between}pageSize={size}")).ok()
}

/// Whether a query may name a page size to anybody who reads it: by another case, escaped, with
/// `_`, as a list, after `;`, or with no value. To leave a query alone is always right.
fn names_a_size(query: &str) -> bool {
    query.split(['&', ';']).any(|member| {
        let name = member.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        let mut letters = name.chars().filter(char::is_ascii_alphanumeric);
        "pagesize"
            .chars()
            .all(|wanted| letters.next().is_some_and(|letter| letter.eq_ignore_ascii_case(&wanted)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn add(target: &str) -> Option<String> {
        let target = PathAndQuery::try_from(target).unwrap();
        sized(&target, NonZeroU32::new(100).unwrap()).map(|sent| sent.to_string())
    }

    #[test]
    fn whoever_names_a_page_size_in_any_spelling_keeps_it() {
        for query in [
            "pageSize=20",
            "pageSize=",
            "pageSize",
            "a=b&pagesize=7",
            "page_size=20&cursor=x",
            "page-size=20",
            "PAGESIZE=1",
            "p%61geSize=20",
            "page%5FSize=20",
            "page%53ize=20",
            "pageSize%5B%5D=20",
            "pageSize[]=20&pageSize[]=30",
            "page[size]=20",
            "page.size=20",
            "%20pageSize=20",
            "+pageSize=20",
            "a=b;pageSize=20",
            "?pageSize=20",
        ] {
            assert_eq!(add(&format!("/a?{query}")), None, "{query}");
        }
    }

    #[test]
    fn the_rest_of_a_query_stays_to_the_byte() {
        for (query, sent) in [
            ("", "?pageSize=100"),
            ("?", "?pageSize=100"),
            ("?a", "?a&pageSize=100"),
            ("?a=b&", "?a=b&pageSize=100"),
            ("?cursor=eyJ%2b&page=3", "?cursor=eyJ%2b&page=3&pageSize=100"),
            ("?q=pageSize=20", "?q=pageSize=20&pageSize=100"),
            ("?q=%zz&é=1", "?q=%zz&é=1&pageSize=100"),
            ("?sortField=name%26pageSize%3D3", "?sortField=name%26pageSize%3D3&pageSize=100"),
        ] {
            assert_eq!(add(&format!("/a{query}")).as_deref(), Some(&*format!("/a{sent}")));
        }
        // Beyond what is read of a query there is no use in adding to it.
        assert_eq!(add(&format!("/a?{}", "x&".repeat(MEMBERS_READ))), None);
    }

    proptest! {
        #[test]
        fn it_is_added_once_and_at_the_end(query in "[a-zA-Z0-9_=&;%.~-]{0,40}") {
            let target = format!("/api/v1/folders?{query}");
            if let Some(sent) = add(&target) {
                prop_assert!(sent.starts_with(&target) && sent.ends_with("pageSize=100"));
                prop_assert!(sent.len() - target.len() <= "&pageSize=100".len());
                prop_assert_eq!(add(&sent), None);
            }
        }
    }
}
