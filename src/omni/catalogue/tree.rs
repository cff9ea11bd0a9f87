//! From a path to its endpoint, segment by segment.

use super::Endpoint;

/// What may follow one beginning of a path.
#[derive(Debug, Default)]
pub(super) struct Node {
    fixed: Vec<(&'static str, Self)>,
    parameter: Option<Box<Self>>,
    /// The endpoints that end here, one per method.
    ends: Vec<&'static Endpoint>,
}

impl Node {
    pub(super) fn of(endpoints: impl Iterator<Item = &'static Endpoint>) -> Self {
        let mut root = Self::default();
        for endpoint in endpoints {
            let node = endpoint.segments().fold(&mut root, Self::child);
            node.ends.push(endpoint);
        }
        root
    }

    fn child(&mut self, segment: &'static str) -> &mut Self {
        if segment.starts_with('{') {
            return self.parameter.get_or_insert_default();
        }
        let known = self.fixed.iter().position(|(text, _)| text.eq_ignore_ascii_case(segment));
        let at = known.unwrap_or_else(|| {
            self.fixed.push((segment, Self::default()));
            self.fixed.len() - 1
        });
        &mut self.fixed[at].1
    }

    /// The first endpoint with this path that is `wanted`, fixed segments before parameters.
    pub(super) fn find(
        &self,
        path: &str,
        wanted: &dyn Fn(&Endpoint) -> bool,
    ) -> Option<&'static Endpoint> {
        let path = path.strip_prefix('/')?;
        self.follow(Some(path.strip_suffix('/').unwrap_or(path)), wanted)
    }

    fn follow(
        &self,
        rest: Option<&str>,
        wanted: &dyn Fn(&Endpoint) -> bool,
    ) -> Option<&'static Endpoint> {
        let Some(rest) = rest else {
            return self.ends.iter().copied().find(|endpoint| wanted(endpoint));
        };
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        let fixed = self.fixed.iter().find(|(text, _)| text.eq_ignore_ascii_case(segment));
        let found = fixed.and_then(|(_, node)| node.follow(rest, wanted));
        found.or_else(|| {
            let parameter = self.parameter.as_ref().filter(|_| !segment.is_empty());
            parameter?.follow(rest, wanted)
        })
    }
}
