//! What the board tells, and that it does not grow.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A board whose time the test moves.
struct Wall {
    board: Board,
    route: RouteId,
    caller: CallerId,
    request_id: RequestId,
}

impl Wall {
    fn new() -> Self {
        Self {
            board: Board::default(),
            route: RouteId::new("lists"),
            caller: CallerId::new("nightly"),
            request_id: RequestId::from_caller(b"job-1").unwrap(),
        }
    }

    fn at(&self, age: Duration) -> Instant {
        self.board.began + age
    }

    /// A call that upstream answered at once.
    fn call(&self) -> Ended<'_> {
        Ended {
            route: Some(&self.route),
            caller: Some(&self.caller),
            method: &Method::GET,
            status: 200,
            refusal: None,
            cache: None,
            attempts: 1,
            waited: None,
            upstream: None,
            request_id: &self.request_id,
            trace: None,
        }
    }

    fn refused(&self, kind: &'static str, status: u16) -> Ended<'_> {
        Ended { refusal: Some(kind), status, attempts: 0, ..self.call() }
    }

    fn ended(&self, age: Duration, what: &Ended<'_>) {
        self.board.ended(self.at(age), what);
    }

    fn view(&self, age: Duration) -> BoardView {
        self.board.view(self.at(age))
    }

    fn tally(&self, age: Duration) -> Tally {
        self.view(age).callers[0].1
    }
}

/// What the structures of a board take up, their room that is not used yet included.
fn bytes(board: &Board) -> usize {
    fn names<N, T>(names: &Names<N, T>) -> usize {
        names.index.capacity() * size_of::<(N, usize)>()
            + names.all.capacity() * size_of::<(N, T)>()
    }
    let told = board.told();
    size_of::<Board>()
        + names(&told.callers)
        + names(&told.routes)
        + names(&told.budgets)
        + told.errors.bytes()
}

#[test]
fn calls_are_tallied_by_what_became_of_them() {
    let wall = Wall::new();
    let (wait, took) = (Some(3 * SECOND), Some(SECOND));
    wall.ended(SECOND, &Ended { attempts: 2, waited: wait, upstream: took, ..wall.call() });
    wall.ended(SECOND, &Ended { waited: Some(SECOND), upstream: took, ..wall.call() });
    wall.ended(SECOND, &Ended { status: 502, upstream: Some(4 * SECOND), ..wall.call() });
    let cache = Some(CacheOutcome::Hit);
    wall.ended(SECOND, &Ended { cache, attempts: 0, upstream: took, ..wall.call() });
    wall.ended(SECOND, &Ended { cache: Some(CacheOutcome::Miss), ..wall.call() });
    wall.ended(SECOND, &wall.refused("queue-full", 503));
    // A caller who left was neither refused nor failed.
    wall.ended(SECOND, &Ended { refusal: Some("draining"), status: 499, ..wall.call() });
    wall.ended(2 * SECOND, &Ended { route: None, caller: None, ..wall.refused("no-route", 404) });
    let view = wall.view(5 * SECOND);
    let expected = Tally {
        calls: 7,
        sent: 6,
        saved: 1,
        refused: 1,
        failed: 1,
        longest_wait: 3 * SECOND,
        mean_wait: Some(2 * SECOND),
        mean_upstream: Some(2 * SECOND),
        calls_ever: 7,
        saved_ever: 1,
        seen: Some(4 * SECOND),
    };
    assert_eq!(view.callers, [(wall.caller.clone(), expected)]);
    assert_eq!(view.routes, [(wall.route.clone(), expected)]);
    assert_eq!((view.cache.calls, view.cache.saved, view.cache.saved_ever), (2, 1, 1));
    let kinds: Vec<_> = view.errors.iter().map(|one| (one.kind, one.status, one.ago)).collect();
    let late = 4 * SECOND;
    assert_eq!(kinds[0], ("no-route", 404, 3 * SECOND));
    assert_eq!(kinds.len(), 3);
    assert!(kinds.contains(&("upstream", 502, late)) && kinds.contains(&("queue-full", 503, late)));
}

#[test]
fn a_call_is_told_for_the_minute_that_runs_and_fifteen_more() {
    let wall = Wall::new();
    let last = Duration::from_nanos(1);
    for (age, gone) in [(Duration::ZERO, 16), (MINUTE - last, 16), (MINUTE, 17), (90 * SECOND, 17)]
    {
        let wall = Wall { board: Board::default(), ..Wall::new() };
        wall.ended(age, &wall.call());
        wall.ended(age, &wall.refused("queue-full", 503));
        let (told, gone) = (wall.view(gone * MINUTE - last), wall.view(gone * MINUTE));
        assert_eq!((told.callers[0].1.calls, told.errors.len()), (2, 1));
        assert_eq!((gone.callers[0].1.calls, gone.errors.len()), (0, 0));
        assert_eq!((gone.callers[0].1.calls_ever, gone.callers[0].1.mean_wait), (2, None));
    }
    // What went by a long time ago does not come back in the same place of the ring.
    wall.ended(Duration::ZERO, &wall.call());
    wall.ended(32 * MINUTE, &wall.call());
    assert_eq!(wall.tally(32 * MINUTE).calls, 1);
    // Somebody who slept between the clock and the lock spoils nothing.
    wall.ended(Duration::ZERO, &wall.call());
    assert_eq!((wall.tally(32 * MINUTE).calls, wall.tally(32 * MINUTE).calls_ever), (1, 3));
}

#[test]
fn grants_are_told_in_steps_of_five_seconds() {
    let wall = Wall::new();
    let budget = BudgetId::new("omni");
    let granted = |age, priority| wall.board.granted(wall.at(age), &budget, priority);
    let steps = |age: Duration, class: usize| wall.view(age).budgets[0].1[class].clone();
    granted(Duration::ZERO, Priority::Normal);
    granted(Duration::from_millis(4_999), Priority::Normal);
    granted(5 * SECOND, Priority::Batch);
    assert_eq!(steps(6 * SECOND, 1)[178..], [2, 0]);
    assert_eq!(steps(6 * SECOND, 2)[178..], [0, 1]);
    assert!([0, 1, 2].iter().all(|&class| steps(6 * SECOND, class).len() == STEPS));
    assert_eq!(wall.view(7 * SECOND).into_step, 2 * SECOND);
    // The first step is told until 180 others have begun.
    let end = 15 * MINUTE;
    assert_eq!(steps(end - Duration::from_nanos(1), 1)[0], 2);
    assert_eq!(steps(end, 1)[0], 0);
    granted(40 * MINUTE, Priority::Normal);
    assert_eq!(steps(40 * MINUTE, 1).iter().sum::<u32>(), 1);
    assert_eq!(steps(40 * MINUTE, 2).iter().sum::<u32>(), 0);
    granted(20 * MINUTE, Priority::Normal);
    assert_eq!(steps(40 * MINUTE, 1).iter().sum::<u32>(), 1);
    assert_eq!(steps(54 * MINUTE + 59 * SECOND, 1)[0], 1);
    assert_eq!(steps(55 * MINUTE, 1).iter().sum::<u32>(), 0);
}

#[test]
fn like_errors_are_counted_together_and_the_last_one_has_the_word() {
    let wall = Wall::new();
    let (first, second) = (RequestId::fresh(), RequestId::fresh());
    let bad = Ended { status: 502, ..wall.call() };
    wall.ended(SECOND, &Ended { request_id: &first, ..bad });
    wall.ended(3 * SECOND, &Ended { request_id: &second, ..bad });
    // Later to the lock, and earlier by the clock.
    wall.ended(2 * SECOND, &Ended { request_id: &first, ..bad });
    wall.ended(4 * SECOND, &Ended { status: 503, ..bad });
    wall.ended(4 * SECOND, &Ended { status: 404, ..bad });
    let errors = wall.view(5 * SECOND).errors;
    assert_eq!(errors.len(), 2);
    let expected = ErrorView {
        ago: 2 * SECOND,
        count: 3,
        kind: "upstream",
        status: 502,
        method: "GET",
        route: Some(wall.route.clone()),
        caller: Some(wall.caller.clone()),
        request_id: second,
        trace: None,
    };
    assert_eq!((errors[0].status, &errors[1]), (503, &expected));
}

#[test]
fn nobody_washes_out_what_happened_to_others() {
    let wall = Wall::new();
    let routes: Vec<RouteId> = (0..50).map(|nth| RouteId::new(format!("r{nth}"))).collect();
    let methods = [Method::GET, Method::PUT, Method::POST, Method::DELETE];
    let others = ["upstream-timeout", "internal", "credential-rejected", "paused", "overloaded"];
    for kind in others {
        wall.ended(SECOND, &wall.refused(kind, 503));
    }
    wall.ended(SECOND, &Ended { status: 500, ..wall.call() });
    for nth in 0..5_000 {
        let (route, method) = (Some(&routes[nth % 50]), &methods[nth / 50 % 4]);
        let age = 2 * SECOND + Duration::from_millis(nth as u64);
        let kind = ["no-route", "caller-unknown", "method-not-allowed"][nth % 3];
        wall.ended(age, &Ended { route, method, ..wall.refused(kind, 404) });
        // A word in the request is enough for this one, on every route and with every method.
        wall.ended(age, &Ended { route, method, ..wall.refused("queue-deadline", 503) });
    }
    let errors = wall.view(10 * SECOND).errors;
    let count = |of: &dyn Fn(&ErrorView) -> bool| errors.iter().filter(|one| of(one)).count();
    assert_eq!(count(&|one| one.status < 500), 12);
    assert_eq!(count(&|one| one.kind == "queue-deadline"), 12);
    assert_eq!(count(&|one| others.contains(&one.kind) || one.kind == "upstream"), 6);
}

/// Whoever has three names for what goes wrong has room for more errors than there is.
#[test]
fn a_caller_washes_out_its_own_errors_and_not_those_of_others() {
    let wall = Wall::new();
    let routes: Vec<RouteId> = (0..50).map(|nth| RouteId::new(format!("r{nth}"))).collect();
    for (caller, kind) in [("sync", "credential-rejected"), ("ci", "paused")] {
        let caller = &CallerId::new(caller);
        wall.ended(SECOND, &Ended { caller: Some(caller), ..wall.refused(kind, 503) });
    }
    for nth in 0..5_000 {
        let age = 2 * SECOND + Duration::from_millis(nth as u64);
        let kind = ["queue-deadline", "queue-full", "upstream-timeout"][nth % 3];
        let route = Some(&routes[nth % 50]);
        wall.ended(age, &Ended { route, ..wall.refused(kind, 503) });
    }
    let errors = wall.view(10 * SECOND).errors;
    assert_eq!(errors.len(), 32);
    let others: Vec<&str> = errors
        .iter()
        .filter(|one| one.caller != Some(wall.caller.clone()))
        .map(|one| one.kind)
        .collect();
    assert_eq!(others, ["credential-rejected", "paused"]);
}

/// Whatever callers make up, in a day: ids, methods, what is refused and when.
#[test]
fn a_day_of_hostile_calls_leaves_the_board_as_large_as_its_first_hour() {
    let wall = Wall::new();
    let callers: Vec<CallerId> = (0..40).map(|nth| CallerId::new(format!("c{nth}"))).collect();
    let routes: Vec<RouteId> = (0..30).map(|nth| RouteId::new(format!("r{nth}"))).collect();
    let budgets: Vec<BudgetId> = (0..3).map(|nth| BudgetId::new(format!("b{nth}"))).collect();
    let kinds = ["no-route", "caller-unknown", "queue-full", "paused", "internal"];
    let mut after_an_hour = 0;
    for second in 0..86_400_usize {
        let age = Duration::from_secs(second as u64);
        let id = format!("{second:0>128}");
        let request_id = &RequestId::from_caller(id.as_bytes()).unwrap();
        let method = &Method::from_bytes(format!("M{}", second % 977).as_bytes()).unwrap();
        let (caller, route) = (Some(&callers[second % 40]), Some(&routes[second / 7 % 30]));
        let status = 400 + (second % 199) as u16;
        let refusal = Some(kinds[second % 5]).filter(|_| !second.is_multiple_of(3));
        let named = Ended { request_id, method, caller, route, status, refusal, ..wall.call() };
        wall.ended(age, &named);
        let priority = Priority::ALL[second % 3];
        wall.board.granted(wall.at(age), &budgets[second % 3], priority);
        if second == 3_600 {
            after_an_hour = bytes(&wall.board);
        }
        if second % 600 == 0 {
            assert!(wall.view(age).errors.len() <= 32);
        }
    }
    let day = bytes(&wall.board);
    println!("a board of 40 callers, 30 routes and 3 budgets: {day} bytes");
    assert_eq!(day, after_an_hour);
    let view = wall.view(86_400 * SECOND);
    assert!(view.errors.iter().all(|one| one.method == "other"));
    let calls: u64 = view.callers.iter().map(|(_, tally)| tally.calls).sum();
    let ever: u64 = view.callers.iter().map(|(_, tally)| tally.calls_ever).sum();
    // The minute that runs has just begun.
    assert_eq!((calls, ever), (900, 86_400));
}

#[test]
fn there_is_no_room_for_more_names_than_anybody_has() {
    let wall = Wall::new();
    let call = |nth: usize| {
        let caller = CallerId::new(format!("c{nth}"));
        wall.ended(SECOND, &Ended { caller: Some(&caller), ..wall.call() });
        let budget = BudgetId::new(format!("b{nth}"));
        wall.board.granted(wall.at(SECOND), &budget, Priority::Normal);
    };
    (0..MOST_NAMES).for_each(call);
    let full = bytes(&wall.board);
    (0..3 * MOST_NAMES).for_each(call);
    assert_eq!(bytes(&wall.board), full);
    let view = wall.view(SECOND);
    assert_eq!((view.callers.len(), view.budgets.len()), (MOST_NAMES, MOST_NAMES));
    println!("{MOST_NAMES} callers and as many budgets: {full} bytes");
    assert!(full < 8 << 20, "{full}");
    assert_eq!(view.routes[0].1.calls_ever, 4 * MOST_NAMES as u64);
}
