//! Sessions, and streams that can be taken up again where they broke off.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::tools::Ends;
use super::{HEARTBEAT, STILL_HERE, VERSIONS};
use crate::base::Body;
use crate::fake_omni::bodies;

/// How many milliseconds a client is to wait before it comes back to a stream.
const RETRY: u32 = 50;

/// The sessions that are open.
#[derive(Debug, Default)]
pub(in crate::fake_omni) struct Sessions(HashMap<String, Session>);

/// One session: whose it is, and what was said in it.
#[derive(Debug)]
pub(super) struct Session {
    owner: String,
    /// Whether its revision lets streams begin with an event that has only an id.
    primes: bool,
    streams: Vec<Stream>,
    /// How often the client has reported progress.
    acknowledged: Arc<watch::Sender<usize>>,
    ended: CancellationToken,
}

/// Something that is said on a stream.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Not before this,
    pub(super) due: Instant,
    /// and not before the client has reported progress so often since the stream began.
    pub(super) acknowledged: usize,
    /// A message, or nothing.
    pub(super) data: String,
}

/// What is said on one stream. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Its number in its session, which its events' ids begin with.
    number: Option<usize>,
    events: Arc<[Event]>,
    /// Whether it stays open when all is said.
    lasts: bool,
    acknowledged: Arc<watch::Sender<usize>>,
    ended: CancellationToken,
}

impl Sessions {
    /// Opens a session with an id that nobody guesses.
    pub(super) fn open(&mut self, owner: &str, version: &str) -> String {
        // Two times 62 random bits.
        let [one, other] = [(); 2].map(|()| uuid::Uuid::now_v7().as_u64_pair().1);
        let id = format!("{one:016x}{other:016x}");
        let session = Session {
            owner: owner.to_owned(),
            primes: version == VERSIONS[2],
            streams: Vec::new(),
            acknowledged: Arc::default(),
            ended: CancellationToken::new(),
        };
        self.0.insert(id.clone(), session);
        id
    }

    /// The session with this id, if it is this owner's.
    pub(super) fn find(&mut self, id: &str, owner: &str) -> Option<&mut Session> {
        self.0.get_mut(id).filter(|session| session.owner == owner)
    }

    /// Ends a session with all its streams.
    pub(super) fn close(&mut self, id: &str) {
        if let Some(session) = self.0.remove(id) {
            session.ended.cancel();
        }
    }
}

impl Session {
    /// The client has reported progress.
    pub(super) fn acknowledge(&self) {
        self.acknowledged.send_modify(|count| *count += 1);
    }

    /// Begins a stream.
    pub(super) fn add(&mut self, mut events: Vec<Event>, lasts: bool) -> Stream {
        let before = *self.acknowledged.borrow();
        for event in events.iter_mut().filter(|event| event.acknowledged > 0) {
            event.acknowledged += before;
        }
        if self.primes {
            let (due, data) = (Instant::now(), String::new());
            events.insert(0, Event { due, acknowledged: 0, data });
        }
        let stream = Stream {
            number: Some(self.streams.len()),
            events: events.into(),
            lasts,
            acknowledged: self.acknowledged.clone(),
            ended: self.ended.clone(),
        };
        self.streams.push(stream.clone());
        stream
    }

    /// The stream of an event, and which of its events comes next.
    pub(super) fn after(&self, id: &str) -> Option<(&Stream, usize)> {
        let (stream, event) = id.split_once('-')?;
        let stream = self.streams.get(stream.parse::<usize>().ok()?)?;
        let event = event.parse::<usize>().ok().filter(|&event| event < stream.events.len())?;
        Some((stream, event + 1))
    }
}

impl Stream {
    /// One of no session, which nobody can take up again.
    pub(super) fn nameless(events: Vec<Event>) -> Self {
        let (acknowledged, ended) = (Arc::default(), CancellationToken::new());
        Self { number: None, events: events.into(), lasts: false, acknowledged, ended }
    }

    /// Says all from this event on.
    pub(super) fn body(&self, from: usize, ends: Ends) -> Body {
        let primed = self.events.first().is_some_and(|event| event.data.is_empty());
        // Of messages, not of the event before the first.
        let until = |messages: usize| messages + usize::from(primed);
        let said = stream::unfold((self.clone(), from), |(stream, at)| async move {
            let chunk = stream.chunk(at).await?;
            Some((Ok(chunk), (stream, at + 1)))
        });
        match ends {
            Ends::Whole => bodies::from_stream(said),
            Ends::Closes(messages) => {
                bodies::from_stream(said.take(until(messages).saturating_sub(from)))
            }
            Ends::Breaks(messages) => {
                // In the middle of the next event.
                let length = |at: usize| self.text(at).map_or(0, |text| text.len());
                let whole: usize = (from..until(messages)).map(length).sum();
                let keep = whole + length(until(messages)) / 2;
                bodies::cut(bodies::from_stream(said), Some(keep as u64))
            }
        }
    }

    /// What is said next, when it is time; none at the end.
    async fn chunk(&self, at: usize) -> Option<Bytes> {
        let (Some(event), Some(text)) = (self.events.get(at), self.text(at)) else {
            let heartbeat = async {
                sleep(HEARTBEAT).await;
                Bytes::from_static(STILL_HERE)
            };
            return match self.lasts {
                true => self.ended.run_until_cancelled(heartbeat).await,
                false => None,
            };
        };
        let turn = async {
            sleep_until(event.due).await;
            let mut heard = self.acknowledged.subscribe();
            // The sender lives as long as we do.
            let _ = heard.wait_for(|count| *count >= event.acknowledged).await;
            Bytes::from(text)
        };
        self.ended.run_until_cancelled(turn).await
    }

    /// An event as it is written.
    fn text(&self, at: usize) -> Option<String> {
        let data = &self.events.get(at)?.data;
        let id = self.number.map(|number| format!("id: {number}-{at}\n")).unwrap_or_default();
        Some(match data.is_empty() {
            true => format!("{id}retry: {RETRY}\ndata: \n\n"),
            false => format!("event: message\n{id}data: {data}\n\n"),
        })
    }
}
