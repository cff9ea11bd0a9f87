//! What kind of key it is, as a flag says it.

use crate::credential::Kind;

/// Nothing is said of each in the help: the flag says it of all.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Word {
    Organization,
    Personal,
    Mcp,
}

impl Word {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Organization => Kind::Organization,
            Self::Personal => Kind::Personal,
            Self::Mcp => Kind::Mcp,
        }
    }
}
