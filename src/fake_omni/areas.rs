//! Which write changes what which read shows, by the public facts of Omni and nobody's code.
//!
//! It is written down apart from `omni::catalogue`, whose staleness it judges, and must never ask
//! it. Each area has a revision that every answer of the area shows and every write to it raises.

use http::Method;

use super::paths::{READS, WRITES};
use super::text::segments;

/// What answers are about, as far as writes tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Area {
    /// Documents with their drafts, permissions, favorites and filters.
    Documents,
    /// The list of all content.
    Content,
    /// Folders and their permissions.
    Folders,
    /// Labels and how often they are used.
    Labels,
    /// The list of models, which the models of workbooks are part of.
    ModelList,
    /// What is in a model: topics, views, schemas, YAML, what was found wrong with it.
    ModelParts,
    /// What is suggested for models.
    Suggestions,
    /// Connections, environments, dbt settings and schema schedules.
    Connections,
    /// Deliveries and their recipients.
    Schedules,
    /// SCIM lists, roles, e-mail-only users.
    Users,
    /// The attributes that users may have.
    Attributes,
    /// Uploaded tables.
    Uploads,
    /// What is known of API keys.
    ApiKeys,
    /// Conversations with the AI.
    Conversations,
    /// Prompt sets and their runs.
    Evals,
    /// What the AI does by the calendar.
    Routines,
    /// Who may spend how much on AI.
    CreditControls,
    /// Color palettes.
    Palettes,
}

impl Area {
    /// All of them.
    pub(super) const ALL: &[Self] = &[
        Self::Documents,
        Self::Content,
        Self::Folders,
        Self::Labels,
        Self::ModelList,
        Self::ModelParts,
        Self::Suggestions,
        Self::Connections,
        Self::Schedules,
        Self::Users,
        Self::Attributes,
        Self::Uploads,
        Self::ApiKeys,
        Self::Conversations,
        Self::Evals,
        Self::Routines,
        Self::CreditControls,
        Self::Palettes,
    ];
}

/// How often each area was written to.
#[derive(Debug, Default)]
pub(super) struct Revisions([u64; Area::ALL.len()]);

impl Revisions {
    pub(super) fn of(&self, area: Area) -> u64 {
        self.0[area as usize]
    }

    pub(super) fn raise(&mut self, areas: &[Area]) {
        for &area in areas {
            self.0[area as usize] += 1;
        }
    }
}

/// What the answer to a read looks like where nothing real is held for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One thing.
    Item,
    /// A list under this member, all at once.
    Whole(&'static str),
    /// Pages behind a cursor, with the records under this member.
    Cursor(&'static str),
    /// Pages as SCIM has them.
    Scim,
}

/// What an endpoint does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    /// Shows an area, or something that no write changes.
    Show(Option<Area>, Shape),
    /// Changes these areas.
    Change(&'static [Area]),
}

/// An endpoint that the fake knows, and the path by which it was found.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The path's template, with `{}` for each parameter.
    pub(super) template: &'static str,
    /// What it does.
    pub(super) deed: Deed,
    /// The decoded segments of the path, its fixed ones spelled as in the template.
    pub(super) path: Vec<String>,
}

impl Known {
    /// The endpoint of a path, whatever its letter case and with or without a slash at its end.
    ///
    /// A fixed segment is preferred to a parameter.
    pub(super) fn find(method: &Method, path: &str) -> Option<Self> {
        let path = segments(path.strip_suffix('/').unwrap_or(path));
        let reads = READS
            .iter()
            .filter(|_| *method == Method::GET)
            .flat_map(|(area, rows)| rows.iter().map(move |row| (*area, row)))
            .map(|(area, (template, shape))| (*template, Deed::Show(area, *shape)));
        let writes = WRITES
            .iter()
            .flat_map(|(areas, rows)| rows.iter().map(move |row| (*areas, row)))
            .filter(|(_, (methods, _))| methods.split(' ').any(|one| one == method.as_str()))
            .map(|(areas, (_, template))| (*template, Deed::Change(areas)));
        reads
            .chain(writes)
            .filter_map(|(template, deed)| {
                let (path, parameters) = spelled(template, &path)?;
                Some((parameters, Self { template, deed, path }))
            })
            .min_by_key(|(parameters, _)| *parameters)
            .map(|(_, known)| known)
    }

    pub(super) fn shows(&self) -> Option<Area> {
        match self.deed {
            Deed::Show(area, _) => area,
            Deed::Change(_) => None,
        }
    }
}

/// The path as the template spells it, and how many of its segments are parameters.
fn spelled(template: &str, path: &[String]) -> Option<(Vec<String>, usize)> {
    let wanted: Vec<&str> = template.trim_start_matches('/').split('/').collect();
    let fits = |(wanted, found): (&&str, &String)| match *wanted {
        "{}" => !found.is_empty(),
        fixed => fixed.eq_ignore_ascii_case(found),
    };
    if wanted.len() != path.len() || !wanted.iter().zip(path).all(fits) {
        return None;
    }
    let parameters = wanted.iter().filter(|one| **one == "{}").count();
    let spell = |(wanted, found): (&&str, &String)| match *wanted {
        "{}" => found.clone(),
        fixed => fixed.to_owned(),
    };
    Some((wanted.iter().zip(path).map(spell).collect(), parameters))
}

/// Every read that the fake answers, with made-up ids in its path.
pub fn reads() -> impl Iterator<Item = String> {
    READS.iter().flat_map(|(_, rows)| rows.iter()).map(|(template, _)| made_up(template))
}

/// Every write that the fake takes, with made-up ids in its path, and the label `deprecated`.
///
/// With [`write_body`] as its body each is answered 2xx once, by an instance that is new.
pub fn writes() -> impl Iterator<Item = (Method, String)> {
    WRITES.iter().flat_map(|(_, rows)| rows.iter()).flat_map(|(methods, template)| {
        methods
            .split(' ')
            .filter_map(|method| method.parse().ok())
            .map(|method| (method, made_up(template)))
    })
}

/// A JSON body that satisfies every write but an upload, with this name.
pub fn write_body(name: &str) -> String {
    serde_json::json!({ "name": name, "userName": name, "displayName": name }).to_string()
}

/// A path of this template that the fake answers as if the thing existed.
///
/// `{anything}` stands for a parameter; a label's name becomes one that there is.
pub fn made_up(template: &str) -> String {
    let mut before = "";
    let segments = template.split('/').map(|segment| {
        let is_label = std::mem::replace(&mut before, segment) == "labels";
        match (segment.starts_with('{'), is_label) {
            (true, true) => "deprecated",
            (true, false) => "made-up",
            (false, _) => segment,
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(method: Method, path: &str) -> Option<&'static str> {
        Known::find(&method, path).map(|known| known.template)
    }

    #[test]
    fn a_path_is_found_as_a_lenient_server_finds_it() {
        let labels = Some("/api/v1/labels/{}");
        assert_eq!(template(Method::GET, "/api/v1/labels/a%2Fb"), labels);
        assert_eq!(template(Method::GET, "/API/v1/Labels/a/"), labels);
        assert_eq!(template(Method::GET, "/api/v1/labels/"), Some("/api/v1/labels"));
        assert_eq!(template(Method::GET, "/api/v1/labels//"), None);
        assert_eq!(template(Method::GET, "/api/v1/labels/a/b"), None);
        assert_eq!(template(Method::PATCH, "/api/v1/labels/a"), None);
        let spelled = Known::find(&Method::GET, "/API/V1/LABELS/Mine").unwrap().path;
        assert_eq!(spelled, ["api", "v1", "labels", "Mine"]);
    }

    #[test]
    fn a_fixed_segment_comes_before_a_parameter() {
        let runs = "/api/v1/models/{}/suggestions/runs/latest";
        assert_eq!(template(Method::GET, "/api/v1/models/m/suggestions/runs/latest"), Some(runs));
        let schedule = "/api/v1/models/{}/suggestions/schedule";
        assert_eq!(template(Method::DELETE, &schedule.replace("{}", "m")), Some(schedule));
    }

    #[test]
    fn each_area_has_a_number_of_its_own() {
        for (number, area) in Area::ALL.iter().enumerate() {
            assert_eq!(*area as usize, number);
        }
        let mut revisions = Revisions::default();
        revisions.raise(&[Area::Labels, Area::Palettes]);
        revisions.raise(&[Area::Labels]);
        assert_eq!(revisions.of(Area::Labels), 2);
        assert_eq!(revisions.of(Area::Palettes), 1);
        assert_eq!(revisions.of(Area::Documents), 0);
    }

    #[test]
    fn what_is_made_up_has_a_label_that_there_is() {
        let path = made_up("/api/v1/documents/{identifier}/labels/{labelName}");
        assert_eq!(path, "/api/v1/documents/made-up/labels/deprecated");
        for (method, path) in writes() {
            assert!(Known::find(&method, &path).is_some(), "{method} {path}");
        }
    }
}
