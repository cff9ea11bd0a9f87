//! Where a process stands among others: its parent, its group, its session.
//!
//! In a pid namespace of its own (`unshare`, bubblewrap) a process may be in a group and a session from
//! outside, which have no number there: the kernel says 0.

/// Where a process stands; 0 is what has no number here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
}

impl Standing {
    /// Our own. What `/proc` is there may be another namespace's; its numbers fit to each other.
    #[cfg(target_os = "linux")]
    pub(super) fn ours() -> Option<Self> {
        Self::read("self")
    }

    /// That of a process; `None` where there is none, or the system does not tell.
    #[cfg(target_os = "linux")]
    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::read(&pid.to_string())
    }

    #[cfg(target_os = "linux")]
    fn read(process: &str) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&stat))
    }

    /// Our own.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn ours() -> Option<Self> {
        Self::of(std::process::id().cast_signed())
    }

    /// The same by system calls, where no number is ever 0; nobody tells whose child another is.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(pid: i32) -> Option<Self> {
        use rustix::process::{Pid, getpgid, getppid, getsid};
        let who = Pid::from_raw(pid)?;
        let own = pid == std::process::id().cast_signed();
        let parent = getppid().filter(|_| own).map_or(0, |pid| pid.as_raw_nonzero().get());
        let number = |pid: Pid| pid.as_raw_nonzero().get();
        let (group, session) = (getpgid(Some(who)).ok()?, getsid(Some(who)).ok()?);
        Some(Self { parent, group: number(group), session: number(session) })
    }

    /// One line of `/proc/PID/stat` (proc(5)); the program's name may have anything in it.
    #[cfg(any(target_os = "linux", test))]
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut numbers = rest.split_ascii_whitespace().skip(1).map(|word| word.parse().ok());
        Some(Self { parent: numbers.next()??, group: numbers.next()??, session: numbers.next()?? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_sessions_from_outside_are_none_and_names_have_anything() {
        let found = Standing::parse("7 (a) b (c) S 3 0 0 34816 -1 4194560 107");
        assert_eq!(found, Some(Standing { parent: 3, group: 0, session: 0 }));
        assert_eq!(Standing::parse("7 (a) S 3"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn we_stand_where_the_system_says() {
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        assert_eq!(Standing::ours().map(|ours| ours.parent), Some(parent));
        assert_eq!(Standing::of(0), None);
    }
}
