use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{advance, sleep};

use super::*;
use crate::base::CredentialId;
use crate::saver::Question;

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(5);

type Answers = Arc<Pollers<u32>>;

/// A call as a test says it.
#[derive(Clone, Debug)]
struct Who {
    job: String,
    accept: &'static str,
    caller: &'static str,
    priority: Priority,
    wait: Duration,
}

impl Default for Who {
    fn default() -> Self {
        let (accept, caller) = ("*/*", "ada");
        let (job, wait) = ("j".to_owned(), 60 * SECOND);
        Self { job, accept, caller, priority: Priority::Normal, wait }
    }
}

impl Who {
    async fn ask(self, pollers: Answers) -> Result<Turn<u32>, TooSoon> {
        let key = CredentialId::new("org");
        let question = Question { keys: &[&key], path: &self.job, query: None, acts_for: None };
        let mut fields = HeaderMap::new();
        fields.insert("accept", HeaderValue::from_static(self.accept));
        let ask = Ask {
            subject: &Subject::of(&question),
            likeness: &Likeness::of(&fields),
            caller: &CallerId::new(self.caller),
            priority: self.priority,
            interval: INTERVAL,
            until: Instant::now() + self.wait,
        };
        pollers.turn(&ask).await
    }

    async fn goes(self, pollers: &Answers) -> Slot<u32> {
        match self.ask(pollers.clone()).await.unwrap() {
            Turn::Goes(slot) => slot,
            Turn::Shared(answer) => panic!("was told {answer}"),
        }
    }

    /// A call in a task of its own, which waits by now, or is over. With it comes its time.
    async fn comes(self, pollers: &Answers) -> JoinHandle<(Result<Turn<u32>, TooSoon>, Duration)> {
        let (pollers, began) = (pollers.clone(), Instant::now());
        let task = tokio::spawn(async move { (self.ask(pollers).await, began.elapsed()) });
        settle().await;
        task
    }
}

async fn settle() {
    for _ in 0..4 {
        yield_now().await;
    }
}

fn who() -> Who {
    Who::default()
}

fn waiting(pollers: &Answers) -> usize {
    lock(&pollers.jobs).values().map(|job| job.waiters.len()).sum()
}

#[tokio::test(start_paused = true)]
async fn the_first_goes_at_once_and_the_next_an_interval_after_it_was_sent() {
    let pollers = Answers::default();
    let began = Instant::now();
    let mut slot = who().goes(&pollers).await;
    // So long it waits in the queue.
    sleep(3 * SECOND).await;
    slot.sent();
    sleep(SECOND).await;
    slot.landed(&1);
    drop(who().goes(&pollers).await);
    assert_eq!(began.elapsed(), 3 * SECOND + INTERVAL);
    let other = Who { job: "k".to_owned(), ..who() };
    drop(other.goes(&pollers).await);
    assert_eq!(began.elapsed(), 3 * SECOND + INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_share_the_answer_that_was_sent_for_after_they_came() {
    let pollers = Answers::default();
    let mut first = who().goes(&pollers).await;
    first.sent();
    first.landed(&1);
    let mut calls = Vec::new();
    for _ in 0..3 {
        sleep(SECOND).await;
        calls.push(who().comes(&pollers).await);
    }
    sleep(2 * SECOND).await;
    settle().await;
    let mut slot = None;
    for call in &mut calls {
        if call.is_finished()
            && let (Ok(Turn::Goes(one)), _) = call.await.unwrap()
        {
            assert!(slot.replace(one).is_none(), "two went");
        }
    }
    let mut slot = slot.unwrap();
    // Before it is sent, one more may come along; after it, none.
    let early = who().comes(&pollers).await;
    slot.sent();
    let late = who().comes(&pollers).await;
    assert!(slot.is_awaited());
    slot.landed(&2);
    settle().await;
    assert!(matches!(early.await.unwrap().0, Ok(Turn::Shared(2))));
    assert!(!late.is_finished());
    let (turn, took) = late.await.unwrap();
    assert!(matches!(turn, Ok(Turn::Goes(_))) && took == INTERVAL, "{turn:?} {took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_otherwise_is_not_told() {
    let pollers = Answers::default();
    let mut slot = who().goes(&pollers).await;
    let other = Who { accept: "text/csv", ..who() }.comes(&pollers).await;
    slot.sent();
    assert!(!slot.is_awaited());
    slot.landed(&1);
    settle().await;
    assert!(!other.is_finished());
    assert!(matches!(other.await.unwrap(), (Ok(Turn::Goes(_)), INTERVAL)));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_it_was_sent_gives_its_turn_back() {
    let pollers = Answers::default();
    let slot = who().goes(&pollers).await;
    let next = who().comes(&pollers).await;
    assert!(!next.is_finished());
    sleep(SECOND).await;
    drop(slot);
    let (turn, took) = next.await.unwrap();
    assert!(matches!(turn, Ok(Turn::Goes(_))) && took == SECOND);
    let Ok(Turn::Goes(mut slot)) = turn else { return };
    slot.sent();
    slot.not_sent();
    drop(slot);
    assert!(lock(&pollers.jobs).is_empty(), "nobody has asked");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_after_it_was_sent_has_asked() {
    let pollers = Answers::default();
    let mut slot = who().goes(&pollers).await;
    let next = who().comes(&pollers).await;
    slot.sent();
    drop(slot);
    assert!(matches!(next.await.unwrap(), (Ok(Turn::Goes(_)), INTERVAL)));
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_refused_at_once_where_that_is_sure() {
    let pollers = Answers::default();
    let mut slot = who().goes(&pollers).await;
    let short = Who { wait: SECOND, ..who() };
    // It may be sent any moment, and bring the answer.
    let (turn, took) = short.clone().comes(&pollers).await.await.unwrap();
    assert_eq!((turn.unwrap_err().after, took), (INTERVAL, SECOND));
    slot.sent();
    sleep(SECOND).await;
    let (turn, took) = short.clone().comes(&pollers).await.await.unwrap();
    assert_eq!((turn.unwrap_err().after, took), (4 * SECOND, Duration::ZERO));
    sleep(3 * SECOND).await;
    // Just in time.
    assert!(matches!(short.comes(&pollers).await.await.unwrap(), (Ok(Turn::Goes(_)), SECOND)));
    assert_eq!(waiting(&pollers), 0);
}

#[tokio::test(start_paused = true)]
async fn whose_question_is_under_way_at_its_deadline_has_its_answer() {
    let pollers = Answers::default();
    let mut slot = who().goes(&pollers).await;
    let short = Who { wait: SECOND, ..who() }.comes(&pollers).await;
    slot.sent();
    sleep(3 * SECOND).await;
    assert!(!short.is_finished());
    slot.landed(&7);
    assert!(matches!(short.await.unwrap(), (Ok(Turn::Shared(7)), took) if took == 3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_held_for_long_by_the_worse_place_of_another() {
    let pollers = Answers::default();
    let batch = Who { priority: Priority::Batch, ..who() };
    let _slow = batch.clone().goes(&pollers).await;
    let same = batch.comes(&pollers).await;
    let urgent = Who { priority: Priority::Interactive, ..who() }.comes(&pollers).await;
    let (turn, took) = urgent.await.unwrap();
    assert!(matches!(turn, Ok(Turn::Goes(_))) && took == INTERVAL);
    let mut slot = Who { caller: "bob", ..who() }.goes(&pollers).await;
    assert!(!same.is_finished());
    slot.sent();
    slot.landed(&3);
    // Whoever brings it, it was sent after this one had come.
    assert!(matches!(same.await.unwrap().0, Ok(Turn::Shared(3))));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_asks_in_many_ways_holds_another_for_one_interval_and_not_for_good() {
    let pollers = Answers::default();
    let greedy = |accept| Who { caller: "mal", accept, ..who() };
    greedy("a/0").goes(&pollers).await.sent();
    let mut floods = Vec::new();
    for accept in ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6"] {
        let (pollers, call) = (pollers.clone(), greedy(accept));
        floods.push(tokio::spawn(async move {
            let mut slot = call.goes(&pollers).await;
            slot.sent();
            slot.landed(&9);
        }));
    }
    settle().await;
    // A moment later, so that each of the others is first whenever the job is free.
    sleep(SECOND).await;
    let (turn, took) = who().comes(&pollers).await.await.unwrap();
    assert!(matches!(turn, Ok(Turn::Goes(_))), "{turn:?}");
    assert_eq!(took, INTERVAL);
    floods.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn one_that_the_limit_refused_waits_again_and_so_do_those_behind_it() {
    let pollers = Answers::default();
    let mut slot = who().goes(&pollers).await;
    slot.sent();
    slot.waits_again();
    let next = who().comes(&pollers).await;
    sleep(3 * INTERVAL).await;
    assert!(!next.is_finished());
    slot.sent();
    slot.landed(&4);
    assert!(matches!(next.await.unwrap().0, Ok(Turn::Shared(4))));
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
    let pollers = Arc::new(Pollers { jobs: Arc::default(), most: 10 });
    let of = |job: usize| Who { job: job.to_string(), ..who() };
    let mut first = of(0).goes(&pollers).await;
    first.sent();
    for job in 1..50 {
        advance(Duration::from_millis(10)).await;
        let mut slot = of(job).goes(&pollers).await;
        slot.sent();
        slot.landed(&0);
        assert!(lock(&pollers.jobs).len() <= 10);
    }
    // On its way, it is not forgotten, nor are the last ones.
    for job in [0, 41, 49] {
        let (turn, _) =
            Who { wait: Duration::ZERO, ..of(job) }.comes(&pollers).await.await.unwrap();
        assert!(turn.is_err(), "{job} {turn:?}");
    }
    // Where there is room for none, nobody is held back.
    let busy: Vec<_> = futures_util::future::join_all((60..69).map(|job| of(job).goes(&pollers)))
        .await
        .into_iter()
        .collect();
    assert!(of(70).goes(&pollers).await.0.is_none());
    assert_eq!(lock(&pollers.jobs).len(), 10);
    drop((first, busy));
}

#[tokio::test(start_paused = true)]
async fn beyond_so_many_who_wait_for_one_job_nobody_is_held_back() {
    let pollers = Answers::default();
    let _slot = who().goes(&pollers).await;
    let mut calls = Vec::new();
    for _ in 0..WAITERS {
        calls.push(tokio::spawn(who().ask(pollers.clone())));
    }
    while waiting(&pollers) < WAITERS {
        yield_now().await;
    }
    assert!(who().goes(&pollers).await.0.is_none());
    calls.iter().for_each(JoinHandle::abort);
    for call in calls {
        assert!(call.await.unwrap_err().is_cancelled());
    }
    assert_eq!(waiting(&pollers), 0);
}

/// What one poller does, over and over.
#[derive(Clone, Debug)]
struct Habit {
    every: u64,
    leaves_after: Option<u64>,
    queue: u64,
    answer: u64,
}

fn habit() -> impl Strategy<Value = Habit> {
    let leaves = prop_oneof![3 => Just(None), 1 => (0u64..9000).prop_map(Some)];
    (1u64..4000, leaves, 0u64..3000, 1u64..4000).prop_map(|(every, leaves_after, queue, answer)| {
        Habit { every, leaves_after, queue, answer }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sends_are_an_interval_apart_and_no_answer_is_older_than_its_question(
        habits in proptest::collection::vec(habit(), 1..6),
    ) {
        let ms = Duration::from_millis;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        let (sends, told, left) = runtime.block_on(async {
            let pollers = Answers::default();
            let began = Instant::now();
            let sends: Arc<Mutex<Vec<Instant>>> = Arc::default();
            let told: Arc<Mutex<Vec<(Instant, Instant)>>> = Arc::default();
            let tasks: Vec<_> = habits.into_iter().map(|habit| {
                let (pollers, sends, told) = (pollers.clone(), sends.clone(), told.clone());
                tokio::spawn(async move {
                    while began.elapsed() < 120 * SECOND {
                        let asked = Instant::now();
                        let call = async {
                            match who().ask(pollers.clone()).await {
                                Err(_) => {}
                                Ok(Turn::Shared(answer)) => {
                                    let sent = began + ms(u64::from(answer));
                                    told.lock().unwrap().push((asked, sent));
                                }
                                Ok(Turn::Goes(mut slot)) => {
                                    sleep(ms(habit.queue)).await;
                                    slot.sent();
                                    sends.lock().unwrap().push(Instant::now());
                                    let sent = began.elapsed().as_millis() as u32;
                                    sleep(ms(habit.answer)).await;
                                    slot.landed(&sent);
                                }
                            }
                        };
                        let patience = ms(habit.leaves_after.unwrap_or(600_000));
                        let _ = tokio::time::timeout(patience, call).await;
                        sleep(ms(habit.every)).await;
                    }
                })
            }).collect();
            for task in tasks {
                task.await.unwrap();
            }
            let left = waiting(&pollers);
            let (sends, told) = (sends.lock().unwrap().clone(), told.lock().unwrap().clone());
            (sends, told, left)
        });
        for pair in sends.windows(2) {
            prop_assert!(pair[1] - pair[0] >= INTERVAL, "{:?}", pair[1] - pair[0]);
        }
        for (asked, sent) in told {
            prop_assert!(asked <= sent);
        }
        prop_assert_eq!(left, 0);
    }
}
