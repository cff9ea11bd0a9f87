//! `GET /-/events`: the facts, once a second, to everybody who watches.
//!
//! One task reads them and writes them down for all, and runs only while somebody watches. It keeps the
//! latest event and no other: who reads slowly misses some. What waits for a viewer is what its connection
//! holds, and a connection that takes nothing is ended by the server's own clocks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::MissedTickBehavior;

use super::{Desk, Status, answer, problem};
use crate::base::{Body, BoxError};
use crate::telemetry;

/// How often the facts are read.
const EVERY: Duration = Duration::from_secs(1);
/// How many may watch, where there is room for so many.
pub(super) const MOST: usize = 64;
/// When to ask again, in seconds, where that many do.
const LATER: &str = "10";

/// Who watches, and what they see.
pub(super) struct Viewers {
    desk: Arc<dyn Desk>,
    most: usize,
    places: Arc<Semaphore>,
    /// The latest event, while the task runs.
    latest: Mutex<Option<watch::Sender<Bytes>>>,
}

/// One who watches, until it is dropped.
struct Viewer {
    events: watch::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
    _counted: telemetry::Viewer,
}

impl Viewers {
    pub(super) fn new(desk: Arc<dyn Desk>, most: usize) -> Arc<Self> {
        let most = most.min(MOST);
        let places = Arc::new(Semaphore::new(most));
        Arc::new(Self { desk, most, places, latest: Mutex::default() })
    }

    /// The facts of this moment.
    pub(super) fn status(&self) -> Status {
        Status { viewers: self.most - self.places.available_permits(), ..self.desk.status() }
    }

    /// The answer to one more who watches: an event at once, and then one each second, until the connection
    /// ends.
    pub(super) fn watch(self: &Arc<Self>) -> Response<Body> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let detail = format!(
                "{} watch already, as many as may; /-/status.json has the same facts.",
                self.most
            );
            let mut response =
                problem(StatusCode::SERVICE_UNAVAILABLE, "too-many-viewers", &detail);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(LATER));
            return response;
        };
        let viewer = Viewer { events: self.events(), _place: place, _counted: self.desk.views() };
        let mut response = answer(StatusCode::OK, "text/event-stream", String::new());
        *response.body_mut() = Body::boxed(StreamBody::new(stream::unfold(viewer, next)));
        // nginx would collect them first.
        let buffering = HeaderName::from_static("x-accel-buffering");
        response.headers_mut().insert(buffering, HeaderValue::from_static("no"));
        response
    }

    /// The events from the latest one on; begins to make them where nobody watched.
    fn events(self: &Arc<Self>) -> watch::Receiver<Bytes> {
        let mut latest = self.latest();
        let mut events = match &*latest {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, events) = watch::channel(event(&self.status()));
                *latest = Some(sender.clone());
                tokio::spawn(Arc::clone(self).write(sender));
                events
            }
        };
        events.mark_changed();
        events
    }

    /// Writes the events, until nobody watches.
    async fn write(self: Arc<Self>, sender: watch::Sender<Bytes>) {
        let over = Over(&self);
        let mut seconds = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
        // After a standstill one event is enough.
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = sender.closed() => {
                    let mut latest = over.0.latest();
                    // Somebody may have come meanwhile; nobody can while we look.
                    if sender.receiver_count() == 0 {
                        *latest = None;
                        return;
                    }
                }
                _ = seconds.tick() => {
                    sender.send_replace(event(&self.status()));
                }
            }
        }
    }

    fn latest(&self) -> MutexGuard<'_, Option<watch::Sender<Bytes>>> {
        // Each change is whole.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// However the task ends, those who watch are not left without events: their answers end too, and the
/// next one to come begins anew.
struct Over<'a>(&'a Viewers);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.latest() = None;
        }
    }
}

async fn next(mut viewer: Viewer) -> Option<(Result<Frame<Bytes>, BoxError>, Viewer)> {
    viewer.events.changed().await.ok()?;
    let event = viewer.events.borrow_and_update().clone();
    Some((Ok(Frame::data(event)), viewer))
}

/// The document on one line.
pub(super) fn document(status: &Status) -> String {
    // Names and figures: nothing in it can fail to be written.
    serde_json::to_string(status).unwrap_or_default()
}

fn event(status: &Status) -> Bytes {
    Bytes::from(format!("event: status\ndata: {}\n\n", document(status)))
}
