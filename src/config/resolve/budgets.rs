//! `[budgets.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::BudgetId;
use crate::config::at::{At, TextOr};
use crate::config::file::{self, Budget};
use crate::config::resolve::{Notes, name_is_plain, period};
use crate::shape::{BudgetSettings, ColdStart, Profile, Scope};

/// Omni's limit: 60 requests in 60 seconds.
const LIMIT: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
const GUARD: Duration = Duration::from_secs(1);
/// A batch cannot spend the minute in a second, and a page that makes a few calls is not slowed.
const SMOOTH_BURST: u32 = 10;
const STRICT_BURST: u32 = 2;
const MAX_QUEUED: u32 = 10_000;
const MAX_WAIT: Duration = Duration::from_secs(120);
/// Nobody looks at a screen there.
const BATCH_MAX_WAIT: Duration = Duration::from_secs(60 * 60);
/// What a route says to be outside every budget.
pub(super) const NONE: &str = "none";

/// The budgets of a file.
pub(super) struct Budgets<'a> {
    /// All names that stand there, also of budgets that have a problem.
    pub(super) names: Vec<&'a str>,
    /// Those that count each credential on its own.
    by_credential: BTreeSet<&'a str>,
    pub(super) settings: Option<Vec<BudgetSettings>>,
}

impl Budgets<'_> {
    /// The budget of this name; where there is none, that is noted.
    fn find(&self, said: &At<String>, notes: &mut Notes) -> Option<BudgetId> {
        if let Some(name) = self.names.iter().find(|name| **name == said.value) {
            return Some(BudgetId::new(*name));
        }
        notes
            .problems
            .at(&said.span, format!("there is no budget `{}`", said.value))
            .help_with_name(&said.value, self.names.iter().copied());
        None
    }

    /// The budgets of these names, each once.
    pub(super) fn find_all(
        &self,
        said: &At<TextOr<Vec<At<String>>>>,
        notes: &mut Notes,
    ) -> Option<Vec<BudgetId>> {
        let names = said.texts();
        if names.is_empty() {
            notes
                .problems
                .at(&said.span, "`budget` is empty")
                .help("a route that is not charged says budget = \"none\"");
            return None;
        }
        let mut found: Vec<Option<BudgetId>> = Vec::new();
        for name in &names {
            let budget = self.find(name, notes);
            if budget.is_some() && found.contains(&budget) {
                notes.problems.at(&name.span, format!("`{}` stands here twice", name.value));
            }
            found.push(budget);
        }
        found.into_iter().collect()
    }

    /// Whether it counts each credential on its own.
    pub(super) fn counts_by_credential(&self, budget: &BudgetId) -> bool {
        self.by_credential.contains(budget.as_str())
    }

    /// The only budget.
    pub(super) fn only(&self) -> Option<BudgetId> {
        match self.names.as_slice() {
            [only] => Some(BudgetId::new(*only)),
            _ => None,
        }
    }
}

pub(super) fn resolve<'a>(
    said: &'a BTreeMap<At<String>, Budget>,
    notes: &mut Notes,
) -> Budgets<'a> {
    if said.is_empty() {
        let budget = budget("omni", &Budget::default(), notes);
        let settings = budget.map(|budget| vec![budget]);
        return Budgets { names: vec!["omni"], by_credential: BTreeSet::new(), settings };
    }
    let mut settings = Vec::new();
    for (name, said) in said {
        let mut fits = name_is_plain(&name.value, &name.span, "budget", notes);
        if name.value == NONE {
            notes
                .problems
                .at(&name.span, "a budget cannot be named `none`")
                .help("`budget = \"none\"` means that a route is not charged at all");
            fits = false;
        }
        settings.push(budget(&name.value, said, notes).filter(|_| fits));
    }
    let names = said.keys().map(|name| name.value.as_str()).collect();
    let by_credential = said.iter().filter(|(_, said)| scope(said) == Scope::Credential);
    let by_credential = by_credential.map(|(name, _)| name.value.as_str()).collect();
    Budgets { names, by_credential, settings: settings.into_iter().collect() }
}

fn budget(name: &str, said: &Budget, notes: &mut Notes) -> Option<BudgetSettings> {
    let limit = number("limit", &said.limit, LIMIT, notes);
    let window = period(&said.window, WINDOW);
    let profile = limit.and_then(|limit| profile(said, limit, notes));
    let reserve =
        limit.zip(profile).and_then(|(limit, profile)| reserve(said, limit, profile, notes));
    if let (Some(said), true) = (&said.window, window.is_zero()) {
        notes.problems.at(&said.span, "`window` must be more than 0").help("Omni's is \"60s\"");
        return None;
    }
    Some(BudgetSettings {
        id: BudgetId::new(name),
        limit: limit?,
        window,
        guard: period(&said.guard, GUARD),
        profile: profile?,
        reserve: reserve?,
        scope: scope(said),
        max_queued: usize::try_from(said.max_queued.as_ref().map_or(MAX_QUEUED, |n| n.value))
            .ok()?,
        max_wait: period(&said.max_wait, MAX_WAIT),
        batch_max_wait: period(&said.max_wait, BATCH_MAX_WAIT),
        cold_start: match said.cold_start.as_ref().map(|start| start.value) {
            None | Some(file::ColdStart::Pace) => ColdStart::Pace,
            Some(file::ColdStart::Trust) => ColdStart::Trust,
        },
    })
}

fn profile(said: &Budget, limit: NonZeroU32, notes: &mut Notes) -> Option<Profile> {
    let profile = said.profile.as_ref().map_or(file::Profile::Smooth, |profile| profile.value);
    let default = match profile {
        file::Profile::Burst => {
            if let Some(burst) = &said.burst {
                notes
                    .problems
                    .at(&burst.span, "`burst` has no meaning with profile \"burst\"")
                    .help("leave it out, or choose profile \"smooth\"");
                return None;
            }
            return Some(Profile::Burst);
        }
        file::Profile::Smooth => SMOOTH_BURST,
        file::Profile::Strict => STRICT_BURST,
    };
    // A default must not be what is wrong with a small limit.
    let burst = number("burst", &said.burst, default.min(limit.get()), notes)?;
    if let (Some(said), true) = (&said.burst, burst > limit) {
        notes
            .problems
            .at(&said.span, format!("`burst` is more than the limit of {limit}"))
            .help(format!("at most {limit}; profile \"burst\" allows the whole window at once"));
        return None;
    }
    match profile {
        file::Profile::Strict if limit.get() == 1 => {
            // It refills at limit - 1 a window.
            let span = said.profile.as_ref().map(|profile| profile.span.clone());
            let message = "profile \"strict\" never sends with a limit of 1";
            let problem = notes.problems.at(&span.unwrap_or_default(), message);
            problem.help("choose profile \"smooth\"");
            None
        }
        file::Profile::Strict => Some(Profile::Strict { burst }),
        file::Profile::Smooth | file::Profile::Burst => Some(Profile::Smooth { burst }),
    }
}

/// The slots for interactive calls; the others must have some left.
fn reserve(said: &Budget, limit: NonZeroU32, profile: Profile, notes: &mut Notes) -> Option<u32> {
    let Some(At { span, value: reserve }) = &said.reserve else { return Some(0) };
    // What a window has, and what may be sent at once.
    let (slots, bucket) = match profile {
        Profile::Burst => (limit.get(), limit),
        Profile::Smooth { burst } => (limit.get(), burst),
        Profile::Strict { burst } => (limit.get() - 1, burst),
    };
    if *reserve >= slots && *reserve > 0 {
        notes
            .problems
            .at(span, "`reserve` leaves nothing to calls that are not interactive")
            .help(format!("at most {}: a window has {slots} slots", slots.saturating_sub(1)));
        return None;
    }
    if *reserve > bucket.get() {
        notes
            .problems
            .at(span, format!("`reserve` is more than the `burst` of {bucket}, so that it is never there at once"))
            .help("lower it, or raise `burst`");
        return None;
    }
    Some(*reserve)
}

fn scope(said: &Budget) -> Scope {
    match said.scope.as_ref().map(|scope| scope.value) {
        None | Some(file::Scope::Organization) => Scope::Organization,
        Some(file::Scope::Credential) => Scope::Credential,
    }
}

/// The number that was said, or the default; not zero.
fn number(
    name: &str,
    said: &Option<At<u32>>,
    default: u32,
    notes: &mut Notes,
) -> Option<NonZeroU32> {
    let number = NonZeroU32::new(said.as_ref().map_or(default, |said| said.value));
    if let (None, Some(said)) = (number, said) {
        notes.problems.at(&said.span, format!("`{name}` must be at least 1"));
    }
    number
}
