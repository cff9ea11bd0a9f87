//! Who goes next: three classes, callers in turn within a class, first come first served within a
//! caller. Pure; it knows tickets and not times.
//!
//! Each row (a class, a caller, a lane) holds its waiters by ticket. A waiter is *waiting*, then told
//! to *prepare* when its turn is near, then *ready*. Only the ready are picked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::Priority;

/// A place in the order of arrival; lower came first. Never given twice.
pub(crate) type Ticket = u64;

/// The index of a caller; its grants are counted against the others' of its class.
pub(crate) type CallerIndex = usize;

/// The index of a lane: calls that may be charged to the same keys.
pub(crate) type LaneIndex = usize;

/// While it has waiters, a lower class is granted at the latest after this many grants to others.
/// Eight and not nine: two lower classes may fall due together, and one of them goes second.
const DUE: u32 = 8;

/// Where a waiter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) priority: Priority,
    pub(crate) caller: CallerIndex,
    pub(crate) lane: LaneIndex,
}

#[derive(Debug, Default)]
pub(crate) struct Line {
    /// By priority, the highest first.
    classes: [Class; 3],
}

#[derive(Debug, Default)]
struct Class {
    /// Callers with waiters, in the order of their turns.
    ring: VecDeque<CallerIndex>,
    callers: BTreeMap<CallerIndex, Caller>,
    queued: usize,
    /// The same by lane; only lanes that somebody waits for.
    by_lane: BTreeMap<LaneIndex, usize>,
    ready: usize,
    /// Grants to other classes since this one, while it had waiters. Those who are not ready count:
    /// they are told to prepare because their class is nearly due.
    passed_over: u32,
}

#[derive(Debug, Default)]
struct Caller {
    rows: BTreeMap<LaneIndex, Row>,
    queued: usize,
}

/// Waiters of one kind, in the order in which they came. The deque moves its shorter side, so that
/// leaving from the middle of 100,000 is a copy of some hundred kilobytes, and a rank a search.
#[derive(Debug, Default)]
struct Row {
    order: VecDeque<Ticket>,
    /// Those who were not told to prepare. Who was told elsewhere may stand behind them.
    waiting: BTreeSet<Ticket>,
    ready: BTreeSet<Ticket>,
}

/// How a rank is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Only the calls that are sure to go first.
    Sure,
    /// The calls that go first if nobody comes and nobody leaves.
    Expected,
}

impl Line {
    /// How many wait, over all.
    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.queued).sum()
    }

    pub(crate) fn join(&mut self, seat: Seat, ticket: Ticket) {
        let row = self.enter(seat);
        row.order.push_back(ticket);
        row.waiting.insert(ticket);
    }

    /// Takes a place again that was near its turn before.
    pub(crate) fn rejoin(&mut self, seat: Seat, ticket: Ticket) {
        let row = self.enter(seat);
        let at = row.before(ticket);
        row.order.insert(at, ticket);
    }

    /// Moves to another seat, where it stands by its arrival. Who was told to prepare, or is ready,
    /// still is.
    pub(crate) fn change(&mut self, from: Seat, to: Seat, ticket: Ticket) {
        let Some(row) = self.row(from).filter(|row| row.holds(ticket) && from != to) else {
            return;
        };
        let (waiting, ready) = (row.waiting.contains(&ticket), row.ready.contains(&ticket));
        // In before out: a class that it does not leave has a waiter all the time, and keeps what
        // it is owed.
        self.rejoin(to, ticket);
        self.leave(from, ticket);
        if let Some(row) = self.row_mut(to).filter(|_| waiting) {
            row.waiting.insert(ticket);
        }
        if ready {
            self.make_ready(to, ticket);
        }
    }

    fn enter(&mut self, seat: Seat) -> &mut Row {
        let class = &mut self.classes[seat.priority as usize];
        class.queued += 1;
        *class.by_lane.entry(seat.lane).or_default() += 1;
        let caller = class.callers.entry(seat.caller).or_default();
        if caller.queued == 0 {
            // A caller who comes waits for one round at most, and gains nothing by coming anew.
            class.ring.push_back(seat.caller);
        }
        caller.queued += 1;
        caller.rows.entry(seat.lane).or_default()
    }

    /// The turn of the first who was not told yet is near.
    pub(crate) fn prepare_next(&mut self, seat: Seat) {
        if let Some(row) = self.row_mut(seat) {
            row.waiting.pop_first();
        }
    }

    /// It can be picked from now on.
    pub(crate) fn make_ready(&mut self, seat: Seat, ticket: Ticket) {
        let entered = self.row_mut(seat).is_some_and(|row| row.ready.insert(ticket));
        self.classes[seat.priority as usize].ready += usize::from(entered);
    }

    /// Leaves the line, from wherever it stands.
    pub(crate) fn leave(&mut self, seat: Seat, ticket: Ticket) {
        let class = &mut self.classes[seat.priority as usize];
        let Some(caller) = class.callers.get_mut(&seat.caller) else { return };
        let Some(row) = caller.rows.get_mut(&seat.lane) else { return };
        let Ok(at) = row.order.binary_search(&ticket) else { return };
        row.order.remove(at);
        row.waiting.remove(&ticket);
        let was_ready = row.ready.remove(&ticket);
        if row.order.is_empty() {
            caller.rows.remove(&seat.lane);
        }
        caller.queued -= 1;
        class.queued -= 1;
        if let Some(queued) = class.by_lane.get_mut(&seat.lane) {
            *queued -= 1;
            if *queued == 0 {
                class.by_lane.remove(&seat.lane);
            }
        }
        class.ready -= usize::from(was_ready);
        if caller.queued == 0 {
            class.callers.remove(&seat.caller);
            class.ring.retain(|&one| one != seat.caller);
        }
        if class.queued == 0 {
            class.passed_over = 0;
        }
    }

    /// Takes the next one out of the line among those whose lane may send now.
    pub(crate) fn pick(
        &mut self,
        mut may_send: impl FnMut(LaneIndex, Priority) -> bool,
    ) -> Option<(Seat, Ticket)> {
        for class in self.order() {
            let Some((seat, ticket)) = self.first_of(class, &mut may_send) else { continue };
            self.grant(seat, ticket);
            return Some((seat, ticket));
        }
        None
    }

    /// Takes this one out of the line. Its caller has had its turn, and its class its due.
    pub(crate) fn grant(&mut self, seat: Seat, ticket: Ticket) {
        self.leave(seat, ticket);
        let class = seat.priority as usize;
        let ring = &mut self.classes[class].ring;
        if let Some(at) = ring.iter().position(|&one| one == seat.caller) {
            ring.remove(at);
            ring.push_back(seat.caller);
        }
        for (index, other) in self.classes.iter_mut().enumerate() {
            other.passed_over = match () {
                () if index == class || other.queued == 0 => 0,
                () => other.passed_over.saturating_add(1),
            };
        }
    }

    /// The first `most` of each row who are ready, with how many are ready before them in it. Class by
    /// class, and in each the callers in the order of their turns.
    pub(crate) fn ready(&self, most: usize) -> impl Iterator<Item = (Seat, usize, Ticket)> {
        let classes = self.classes.iter().zip(Priority::ALL).filter(|(class, _)| class.ready > 0);
        classes.flat_map(move |(class, priority)| {
            let turns = class.ring.iter();
            let in_turn = turns.filter_map(|&one| Some((one, class.callers.get(&one)?)));
            in_turn.flat_map(move |(caller, of_caller)| {
                of_caller.rows.iter().flat_map(move |(&lane, row)| {
                    let seat = Seat { priority, caller, lane };
                    let first = row.ready.iter().take(most).enumerate();
                    first.map(move |(nth, &ticket)| (seat, nth, ticket))
                })
            })
        })
    }

    /// Each row that has somebody, with how many and who came first.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Seat, usize, Ticket)> {
        self.classes.iter().zip(Priority::ALL).flat_map(|(class, priority)| {
            class.callers.iter().flat_map(move |(&caller, of_caller)| {
                of_caller.rows.iter().filter_map(move |(&lane, row)| {
                    let first = *row.order.front()?;
                    Some((Seat { priority, caller, lane }, row.order.len(), first))
                })
            })
        })
    }

    /// Every lane that has somebody ready, with the class; what an alarm has to know.
    pub(crate) fn ready_lanes(&self) -> BTreeSet<(LaneIndex, Priority)> {
        let mut lanes = BTreeSet::new();
        for (class, priority) in self.classes.iter().zip(Priority::ALL) {
            for caller in class.callers.values().filter(|_| class.ready > 0) {
                let ready = caller.rows.iter().filter(|(_, row)| !row.ready.is_empty());
                lanes.extend(ready.map(|(&lane, _)| (lane, priority)));
            }
        }
        lanes
    }

    /// The first of each row who waits and has not been told to prepare, with how many of it have.
    pub(crate) fn next_to_prepare(&self) -> Vec<(Seat, usize, Ticket)> {
        let mut next = Vec::new();
        for (class, priority) in self.classes.iter().zip(Priority::ALL) {
            for (&caller, of_caller) in &class.callers {
                for (&lane, row) in &of_caller.rows {
                    if let Some(&ticket) = row.waiting.first() {
                        let told = row.order.len() - row.waiting.len();
                        next.push((Seat { priority, caller, lane }, told, ticket));
                    }
                }
            }
        }
        next
    }

    /// How many calls go before this one, of those whose lane is in its `way`: they take what it waits
    /// for. Who waits for something else goes before nobody.
    pub(crate) fn rank(
        &self,
        seat: Seat,
        ticket: Ticket,
        count: Count,
        way: impl Fn(LaneIndex) -> bool,
    ) -> usize {
        let before = self.row(seat).map_or(0, |row| row.before(ticket));
        self.rank_at(seat, before, count, way)
    }

    /// How many calls would go before one that comes now.
    pub(crate) fn rank_of_next(
        &self,
        seat: Seat,
        count: Count,
        way: impl Fn(LaneIndex) -> bool,
    ) -> usize {
        self.rank_at(seat, self.row(seat).map_or(0, |row| row.order.len()), count, way)
    }

    /// The rank of the call that has `before` others before it in its row.
    fn rank_at(
        &self,
        seat: Seat,
        before: usize,
        count: Count,
        way: impl Fn(LaneIndex) -> bool,
    ) -> usize {
        let level = seat.priority as usize;
        let class = &self.classes[level];
        let own_turn = class.ring.iter().position(|&one| one == seat.caller);
        let mut rank = before;
        for (turn, caller) in class.ring.iter().enumerate().filter(|(_, c)| **c != seat.caller) {
            let Some(one) = class.callers.get(caller) else { continue };
            let rows = one.rows.iter().filter(|(lane, _)| way(**lane));
            let queued: usize = rows.map(|(_, row)| row.order.len()).sum();
            // By turns: for each of ours one of theirs, and one more of those whose turn is sooner.
            let turns = match count {
                // What they are granted elsewhere may cost them a turn each.
                Count::Sure => before.saturating_sub(one.queued - queued),
                Count::Expected => before + usize::from(own_turn.is_none_or(|own| turn < own)),
            };
            rank += queued.min(turns);
        }
        let higher: usize = self.classes[..level].iter().map(|class| class.in_way(&way)).sum();
        let owed = DUE.saturating_sub(class.passed_over) as usize;
        let due = (DUE as usize).saturating_mul(rank).saturating_add(owed);
        match count {
            Count::Sure => {
                // What others are granted elsewhere may bring the class its due, too.
                let others = self.classes.iter().enumerate().filter(|(other, _)| *other != level);
                let elsewhere = others.map(|(_, class)| class.queued - class.in_way(&way));
                rank + higher.min(due.saturating_sub(elsewhere.sum()))
            }
            Count::Expected => {
                rank += higher.min(due);
                let lower = self.classes[level + 1..].iter().map(|class| class.in_way(&way));
                rank + lower.sum::<usize>().min(rank / (DUE as usize + 1))
            }
        }
    }

    /// The classes in the order in which they may be granted: those that are due first, the longest
    /// passed over first, then by priority.
    fn order(&self) -> [usize; 3] {
        let mut order = [0, 1, 2];
        let due = |class: usize| match self.classes[class].passed_over {
            passed if class > 0 && passed >= DUE => u32::MAX - passed,
            _ => u32::MAX,
        };
        order.sort_by_key(|&class| (due(class), class));
        order
    }

    fn first_of(
        &self,
        class: usize,
        may_send: &mut impl FnMut(LaneIndex, Priority) -> bool,
    ) -> Option<(Seat, Ticket)> {
        let priority = Priority::ALL[class];
        let class = &self.classes[class];
        if class.ready == 0 {
            return None;
        }
        class.ring.iter().find_map(|&caller| {
            let rows = &class.callers.get(&caller)?.rows;
            let ready = rows.iter().filter_map(|(&lane, row)| Some((lane, *row.ready.first()?)));
            let can = ready.filter(|&(lane, _)| may_send(lane, priority));
            can.min_by_key(|&(_, ticket)| ticket)
                .map(|(lane, ticket)| (Seat { priority, caller, lane }, ticket))
        })
    }

    fn row(&self, seat: Seat) -> Option<&Row> {
        self.classes[seat.priority as usize].callers.get(&seat.caller)?.rows.get(&seat.lane)
    }

    fn row_mut(&mut self, seat: Seat) -> Option<&mut Row> {
        let class = &mut self.classes[seat.priority as usize];
        class.callers.get_mut(&seat.caller)?.rows.get_mut(&seat.lane)
    }
}

impl Class {
    /// How many wait for these lanes.
    fn in_way(&self, way: impl Fn(LaneIndex) -> bool) -> usize {
        self.by_lane.iter().filter(|(lane, _)| way(**lane)).map(|(_, queued)| queued).sum()
    }
}

impl Row {
    /// How many of the row come before `ticket`.
    fn before(&self, ticket: Ticket) -> usize {
        self.order.partition_point(|&other| other < ticket)
    }

    fn holds(&self, ticket: Ticket) -> bool {
        self.order.binary_search(&ticket).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seat(priority: Priority, caller: CallerIndex) -> Seat {
        Seat { priority, caller, lane: 0 }
    }

    /// A line in which everybody is ready.
    fn crowd(seats: &[(Priority, CallerIndex, usize)]) -> Line {
        let mut line = Line::default();
        let mut ticket = 0;
        for &(priority, caller, calls) in seats {
            for _ in 0..calls {
                enter(&mut line, seat(priority, caller), ticket);
                ticket += 1;
            }
        }
        line
    }

    fn enter(line: &mut Line, seat: Seat, ticket: Ticket) {
        line.join(seat, ticket);
        line.prepare_next(seat);
        line.make_ready(seat, ticket);
    }

    fn pick(line: &mut Line) -> Option<(Seat, Ticket)> {
        line.pick(|_, _| true)
    }

    #[test]
    fn a_class_that_is_passed_over_gets_one_grant_in_ten() {
        use Priority::{Batch, Interactive, Normal};
        let mut line = crowd(&[(Interactive, 0, 3_000), (Normal, 1, 400), (Batch, 2, 400)]);
        let picks: Vec<Priority> =
            (0..2_000).map(|_| pick(&mut line).unwrap().0.priority).collect();
        for class in Priority::ALL {
            let gaps = picks.split(|&one| one == class).map(<[_]>::len).max().unwrap();
            assert!(gaps <= 9, "{class:?} waited for {gaps} others");
        }
    }

    /// While nobody of it was told to prepare, a class did not fall due, and so its turn was never
    /// near: endless calls of a higher class starved it.
    #[test]
    fn a_class_falls_due_although_nobody_of_it_is_ready_yet() {
        let mut line = crowd(&[(Priority::Interactive, 0, 100)]);
        let far = seat(Priority::Batch, 1);
        line.join(far, 1_000);
        assert_eq!(line.rank(far, 1_000, Count::Sure, |_| true), DUE as usize);
        for _ in 0..DUE {
            pick(&mut line);
        }
        assert_eq!(line.rank(far, 1_000, Count::Sure, |_| true), 0);
        line.prepare_next(far);
        line.make_ready(far, 1_000);
        assert_eq!(pick(&mut line), Some((far, 1_000)));
    }

    /// Out before in would leave the class empty for a moment, and with it what the class is owed.
    #[test]
    fn a_class_whose_only_waiter_changes_its_caller_keeps_what_it_is_owed() {
        let mut line = crowd(&[(Priority::Interactive, 0, 100), (Priority::Batch, 1, 1)]);
        for _ in 0..DUE {
            pick(&mut line);
        }
        let to = seat(Priority::Batch, 2);
        line.change(seat(Priority::Batch, 1), to, 100);
        assert_eq!(pick(&mut line), Some((to, 100)));
    }

    #[test]
    fn who_changes_its_seat_is_as_near_its_turn_as_before_and_tells_nobody_else() {
        let (from, to) = (seat(Priority::Batch, 1), seat(Priority::Normal, 0));
        let mut line = Line::default();
        for ticket in [1, 3, 5] {
            line.join(to, ticket);
        }
        for ticket in [2, 4] {
            line.join(from, ticket);
        }
        line.prepare_next(from);
        line.make_ready(from, 2);
        line.change(from, to, 2);
        line.change(from, to, 4);
        let ranks: Vec<usize> =
            (1..=5).map(|one| line.rank(to, one, Count::Sure, |_| true)).collect();
        assert_eq!(ranks, [0, 1, 2, 3, 4]);
        assert_eq!(line.next_to_prepare().first().map(|next| (next.0, next.2)), Some((to, 1)));
        assert_eq!(pick(&mut line), Some((to, 2)));
        let order = std::iter::from_fn(|| {
            let next = line.next_to_prepare().first().copied()?;
            line.prepare_next(to);
            Some(next.2)
        });
        assert_eq!(order.collect::<Vec<_>>(), [1, 3, 4, 5]);
    }

    #[test]
    fn callers_of_one_class_take_turns_whatever_each_has_queued() {
        let many: Vec<_> = (0..10)
            .map(|caller| (Priority::Normal, caller, if caller == 0 { 5_000 } else { 100 }))
            .collect();
        let mut line = crowd(&many);
        let mut grants = [0usize; 10];
        for _ in 0..500 {
            grants[pick(&mut line).unwrap().0.caller] += 1;
            let (most, least) = (grants.iter().max().unwrap(), grants.iter().min().unwrap());
            assert!(most - least <= 1, "{grants:?}");
        }
    }

    #[test]
    fn a_caller_that_trickles_waits_for_one_round() {
        let mut line = crowd(&(0..9).map(|c| (Priority::Normal, c, 100)).collect::<Vec<_>>());
        for _ in 0..4 {
            pick(&mut line);
        }
        enter(&mut line, seat(Priority::Normal, 9), 10_000);
        let turn = (0..).find(|_| pick(&mut line).unwrap().0.caller == 9).unwrap();
        assert!(turn <= 9, "{turn}");
    }

    #[test]
    fn a_caller_whose_lane_cannot_send_keeps_its_turn() {
        let mut line = Line::default();
        let blocked = Seat { lane: 1, ..seat(Priority::Normal, 0) };
        enter(&mut line, blocked, 0);
        enter(&mut line, seat(Priority::Normal, 1), 1);
        assert_eq!(line.pick(|lane, _| lane == 0).unwrap().1, 1);
        assert_eq!(line.pick(|lane, _| lane == 0), None);
        assert_eq!(pick(&mut line).unwrap().1, 0);
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
        prop::collection::vec((0usize..3, 0usize..4, 0u8..12), 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Within a class and a caller the order is kept, nobody is lost, the counts are true, and
        /// an expected rank is never below a sure one.
        #[test]
        fn nobody_is_lost_and_nobody_overtakes_its_own(steps in steps()) {
            let mut line = Line::default();
            let mut inside: BTreeMap<Ticket, Seat> = BTreeMap::new();
            for (ticket, (class, caller, deed)) in steps.into_iter().enumerate() {
                let seat = seat(Priority::ALL[class], caller);
                match deed {
                    0..5 => {
                        let sure = line.rank_of_next(seat, Count::Sure, |_| true);
                        prop_assert!(sure <= line.rank_of_next(seat, Count::Expected, |_| true));
                        enter(&mut line, seat, ticket as Ticket);
                        inside.insert(ticket as Ticket, seat);
                    }
                    5..7 => if let Some((&gone, &seat)) = inside.iter().nth(inside.len() / 2) {
                        line.leave(seat, gone);
                        line.leave(seat, gone);
                        inside.remove(&gone);
                    },
                    7 => if let Some((seat, back)) = pick(&mut line) {
                        line.rejoin(seat, back);
                        line.make_ready(seat, back);
                    },
                    8..10 => if let Some((&moved, from)) = inside.iter_mut().nth(ticket % 7) {
                        line.change(*from, seat, moved);
                        line.change(*from, seat, moved);
                        *from = seat;
                    },
                    _ => match pick(&mut line) {
                        Some((seat, next)) => {
                            let first = inside.iter().find(|(_, s)| **s == seat).map(|(t, _)| *t);
                            prop_assert_eq!(first, Some(next));
                            inside.remove(&next);
                        }
                        None => prop_assert!(inside.is_empty()),
                    },
                }
                prop_assert_eq!(line.len(), inside.len());
            }
            while let Some((_, next)) = pick(&mut line) {
                prop_assert!(inside.remove(&next).is_some());
            }
            prop_assert!(inside.is_empty());
        }

        /// Whatever can be sent when, and whoever waits for something else: a sure rank is never more
        /// than goes first of what is in the way.
        #[test]
        fn who_is_sure_to_go_first_does(
            before in prop::collection::vec((0usize..3, 0usize..3, 0usize..2, 0u8..4), 1..60),
            open in prop::collection::vec((any::<bool>(), any::<bool>()), 400),
            target in any::<prop::sample::Index>(),
        ) {
            let mut line = Line::default();
            let mut inside: BTreeMap<Ticket, Seat> = BTreeMap::new();
            for (ticket, (class, caller, lane, deed)) in before.into_iter().enumerate() {
                let seat = Seat { lane, ..seat(Priority::ALL[class], caller) };
                if deed == 0 && let Some((_, gone)) = line.pick(|one, _| one == lane) {
                    inside.remove(&gone);
                }
                enter(&mut line, seat, ticket as Ticket);
                inside.insert(ticket as Ticket, seat);
            }
            let (&ticket, &seat) = inside.iter().nth(target.index(inside.len())).unwrap();
            let way = |lane: LaneIndex| lane == seat.lane;
            let sure = line.rank(seat, ticket, Count::Sure, way);
            prop_assert!(sure <= line.rank(seat, ticket, Count::Expected, way));
            let mut first = 0;
            for (one, other) in open.into_iter().chain(std::iter::repeat((true, true))) {
                let picked = line.pick(|lane, _| [one, other][lane]);
                match picked {
                    Some((_, next)) if next == ticket => break,
                    Some((at, _)) => first += usize::from(way(at.lane)),
                    None => {}
                }
            }
            prop_assert!(sure <= first, "{} were sure and {} went", sure, first);
        }
    }
}
