//! Those that share the budgets, as operators see them.

use crate::admin::status::{BlockedStatus, InstanceStatus, SharedStatus};
use crate::app::office::status::seconds;
use crate::shape::{Blocked, FleetView, InstanceView, OnLost, Standing};
use crate::telemetry::SharedGauges;

/// The most instances that are shown. Their names are their own, so they are cut as well.
const MOST: usize = 200;
/// The longest name of a host (RFC 1035 §2.3.4), in characters.
const LONGEST: usize = 255;

/// Whether nothing would be sent, since nobody knows whether it may be.
pub(in crate::app) fn keeps_from_serving(fleet: &FleetView) -> bool {
    match (fleet.standing, fleet.on_lost) {
        (Standing::Joining, _) | (Standing::Lost(_), OnLost::Hold) => true,
        (Standing::Joined, _) | (Standing::Lost(_), OnLost::Share { .. } | OnLost::Local) => false,
    }
}

pub(in crate::app) fn gauges(fleet: &FleetView) -> SharedGauges {
    SharedGauges {
        up: fleet.standing == Standing::Joined,
        // It is not among them while it is not joined, and it is there all the same.
        instances: fleet.instances.iter().filter(|one| !one.is_this).count() + 1,
        unshared: fleet.unshared,
    }
}

pub(super) fn shared(fleet: &FleetView) -> SharedStatus {
    let (standing, lost_s) = match fleet.standing {
        Standing::Joining => ("joining", None),
        Standing::Joined => ("joined", None),
        Standing::Lost(time) => ("lost", Some(seconds(time))),
    };
    let (on_lost, share_of) = match fleet.on_lost {
        OnLost::Hold => ("hold", None),
        OnLost::Share { instances } => ("share", Some(instances.get())),
        OnLost::Local => ("local", None),
    };
    let blocked = fleet.blocked.map(|(left, why)| BlockedStatus {
        why: match why {
            Blocked::Empty => "empty",
            Blocked::Server => "server",
            Blocked::Clock => "clock",
            Blocked::Loss => "loss",
        },
        ends_in_s: seconds(left),
    });
    SharedStatus { standing, lost_s, on_lost, share_of, blocked, unshared: fleet.unshared }
}

/// All of them, this one first; its own facts are its own, whatever it is heard of.
pub(super) fn instances(fleet: Option<&FleetView>, up_s: f64) -> Vec<InstanceStatus> {
    let this = InstanceStatus {
        instance: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        up_s,
        heard_s: None,
        is_this: true,
    };
    let all = fleet.map_or(&[][..], |fleet| &fleet.instances);
    let mut others: Vec<&InstanceView> = all.iter().filter(|one| !one.is_this).collect();
    others.sort_by_key(|one| (&one.name, &one.id));
    let cut = |text: &str| text.chars().take(LONGEST).collect();
    let others = others.into_iter().map(|one| InstanceStatus {
        instance: cut(&one.name),
        version: cut(&one.version),
        up_s: seconds(one.up),
        heard_s: Some(seconds(one.heard)),
        is_this: false,
    });
    std::iter::once(this).chain(others).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn view(standing: Standing, on_lost: OnLost) -> FleetView {
        FleetView { standing, on_lost, blocked: None, unshared: 0, instances: Vec::new() }
    }

    fn instance(name: &str, is_this: bool) -> InstanceView {
        InstanceView {
            id: format!("id of {name}"),
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            up: 90 * SECOND,
            heard: SECOND / 2,
            is_this,
        }
    }

    #[test]
    fn who_would_hold_every_call_is_not_ready() {
        let share = OnLost::Share { instances: NonZeroU32::MIN };
        for (on_lost, holds) in [(OnLost::Hold, true), (share, false), (OnLost::Local, false)] {
            assert!(keeps_from_serving(&view(Standing::Joining, on_lost)));
            assert!(!keeps_from_serving(&view(Standing::Joined, on_lost)));
            assert_eq!(keeps_from_serving(&view(Standing::Lost(SECOND), on_lost)), holds);
        }
    }

    #[test]
    fn this_one_is_the_first_and_there_whether_it_is_heard_of_or_not() {
        let mut fleet = view(Standing::Joined, OnLost::Hold);
        let names = |fleet: &FleetView| -> Vec<(String, bool)> {
            let all = instances(Some(fleet), 7.0).into_iter();
            all.skip(1).map(|one| (one.instance, one.is_this)).collect()
        };
        assert_eq!(names(&fleet), []);
        for (name, is_this) in [("c", false), ("b", true), ("a", false)] {
            fleet.instances.push(instance(name, is_this));
        }
        assert_eq!(names(&fleet), [("a".to_owned(), false), ("c".to_owned(), false)]);
        let first = &instances(Some(&fleet), 7.0)[0];
        assert_eq!((first.is_this, first.up_s, first.heard_s), (true, 7.0, None));
        assert_eq!(instances(None, 7.0), std::slice::from_ref(first));
        assert_eq!(gauges(&fleet).instances, 3);
        fleet.instances = (0..1_000).map(|nth| instance(&"n".repeat(nth), false)).collect();
        let all = instances(Some(&fleet), 7.0);
        assert!(all.len() == MOST && all.iter().all(|one| one.instance.len() <= LONGEST));
    }

    #[test]
    fn what_is_lost_or_blocked_is_said_with_its_time() {
        let instances = NonZeroU32::new(4).unwrap();
        let mut fleet = view(Standing::Lost(90 * SECOND), OnLost::Share { instances });
        fleet.blocked = Some((SECOND / 2, Blocked::Server));
        fleet.unshared = 12;
        let expected = SharedStatus {
            standing: "lost",
            lost_s: Some(90.0),
            on_lost: "share",
            share_of: Some(4),
            blocked: Some(BlockedStatus { why: "server", ends_in_s: 0.5 }),
            unshared: 12,
        };
        assert_eq!(shared(&fleet), expected);
        assert!(!gauges(&fleet).up && gauges(&fleet).unshared == 12);
    }
}
