//! Answers that wait until a test lets them go.

use std::sync::Arc;

use tokio::sync::watch;

/// A bar that answers wait behind after their content was settled. Clones are the same bar.
///
/// Who is behind it sees nothing of what is written meanwhile.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Bar>);

#[derive(Debug)]
struct Bar {
    open: watch::Sender<bool>,
    came: watch::Sender<usize>,
}

impl Hold {
    /// A bar that is shut.
    pub fn new() -> Self {
        Self(Arc::new(Bar { open: watch::Sender::new(false), came: watch::Sender::new(0) }))
    }

    /// Lets go what is held, and whatever comes later.
    pub fn release(&self) {
        self.0.open.send_replace(true);
    }

    /// Waits until the content of `count` answers was settled since the bar was made.
    pub async fn wait_for(&self, count: usize) {
        // The sender lives as long as we do.
        let _ = self.0.came.subscribe().wait_for(|came| *came >= count).await;
    }

    /// Waits behind it. Cancel-safe.
    pub(super) async fn pass(&self) {
        self.0.came.send_modify(|came| *came += 1);
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self::new()
    }
}
