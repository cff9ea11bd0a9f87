//! Response fields that a test asked for.

use http::{HeaderMap, HeaderName, HeaderValue};

/// What was asked for, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<Field>);

#[derive(Clone, Debug)]
struct Field {
    prefix: String,
    name: HeaderName,
    /// `None` where it is to be missing.
    value: Option<HeaderValue>,
}

impl Fields {
    pub(super) fn push(&mut self, prefix: &str, name: HeaderName, value: Option<HeaderValue>) {
        if value.is_none() {
            self.0.retain(|field| field.prefix != prefix || field.name != name);
        }
        self.0.push(Field { prefix: prefix.to_owned(), name, value });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Those for one path.
    pub(super) fn of(&self, path: &str) -> Self {
        Self(self.0.iter().filter(|field| path.starts_with(&field.prefix)).cloned().collect())
    }

    /// Puts them in place of what an answer has under their names. To do it twice changes nothing.
    pub(super) fn put(&self, answer: &mut HeaderMap) {
        for field in &self.0 {
            answer.remove(&field.name);
        }
        for field in &self.0 {
            if let Some(value) = &field.value {
                answer.append(&field.name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{CACHE_CONTROL, SET_COOKIE, VARY};

    use super::*;

    #[test]
    fn a_field_replaces_the_answers_own_and_stands_beside_its_like() {
        let mut fields = Fields::default();
        let value = HeaderValue::from_static;
        fields.push("/api/v1/lab", SET_COOKIE, Some(value("a=1")));
        fields.push("/api/v1/labels", SET_COOKIE, Some(value("b=2")));
        fields.push("/api/v1/", CACHE_CONTROL, None);
        fields.push("/api/v2/", VARY, Some(value("*")));
        let mut answer = HeaderMap::new();
        answer.append(SET_COOKIE, value("own=0"));
        answer.append(CACHE_CONTROL, value("no-store"));
        let own = fields.of("/api/v1/labels");
        own.put(&mut answer);
        own.put(&mut answer);
        assert_eq!(answer.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert_eq!(answer.len(), 2);
    }
}
