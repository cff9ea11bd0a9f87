//! What belongs together: the answers that one write leaves stale.

use super::{Endpoint, endpoints};

/// Things that Omni keeps, with their lists and whatever else shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collection {
    /// Documents, their drafts, permissions, favorites and dashboards' filters.
    Documents,
    /// The list of all content.
    Content,
    /// Folders and who may see them.
    Folders,
    /// Labels, with how often each is used.
    Labels,
    /// Models and all that is derived from them.
    Models,
    /// What is suggested for models.
    Suggestions,
    /// Connections, their environments, dbt settings and schedules.
    Connections,
    /// Deliveries and who receives them.
    Schedules,
    /// Users, groups and their roles.
    Users,
    /// The attributes that users may have.
    UserAttributes,
    /// Uploaded tables.
    Uploads,
    /// What is known of API keys.
    ApiKeys,
    /// Conversations with the AI.
    Conversations,
    /// Runs of prompts, and the sets of prompts.
    Evals,
    /// What the AI does by the calendar.
    Routines,
    /// Who may spend how much on AI.
    CreditControls,
    /// Color palettes.
    Palettes,
}

impl Collection {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Documents,
        Self::Content,
        Self::Folders,
        Self::Labels,
        Self::Models,
        Self::Suggestions,
        Self::Connections,
        Self::Schedules,
        Self::Users,
        Self::UserAttributes,
        Self::Uploads,
        Self::ApiKeys,
        Self::Conversations,
        Self::Evals,
        Self::Routines,
        Self::CreditControls,
        Self::Palettes,
    ];

    /// The lists and items that show it.
    pub fn endpoints(self) -> impl Iterator<Item = &'static Endpoint> {
        endpoints().filter(move |endpoint| endpoint.shows() == Some(self))
    }
}

/// What a call leaves stale, besides the path that it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stales {
    /// Nothing.
    Nothing,
    /// All that shows one of these.
    These(&'static [Collection]),
    /// Every answer of the organization: rights changed, or nobody knows.
    Everything,
}

impl Stales {
    /// Whether an answer of `read` is stale now.
    pub fn covers(self, read: &Endpoint) -> bool {
        match self {
            Self::Nothing => false,
            Self::These(these) => read.shows().is_some_and(|shown| these.contains(&shown)),
            Self::Everything => true,
        }
    }
}
