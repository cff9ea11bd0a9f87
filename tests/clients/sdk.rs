//! PyPI `omni-python-sdk`.

use std::time::Duration;

use omnigate::fake_omni::Settings;
use tokio::process::Command;

use crate::stage::{Plan, beside, install};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_does_all_that_it_can() {
    let sdk = install("sdk").await;
    // A query that is done when the first answer ends, and one that the SDK has to wait for.
    for (patience, waits) in [(10_000, 0), (50, 1)] {
        let fake = Settings {
            query_time: Duration::from_millis(200),
            query_patience: Duration::from_millis(patience),
            ..Settings::default()
        };
        let stage = Plan { fake, ..Plan::default() }.start().await;
        let mut client = Command::new(sdk.join("bin/python"));
        client.arg(beside("sdk.py")).arg(stage.url());
        let said = stage.play(client).await;
        assert!(said.contains("all of it holds"), "{said}");
        assert!(!said.contains("Request Failed"), "{said}");
        let arrivals = stage.judge("omni-python-sdk");
        let asked = |path: &str| arrivals.iter().filter(|one| one.target.path() == path).count();
        assert_eq!((asked("/api/v1/query/run"), asked("/api/v1/query/wait")), (1, waits));
        // The SDK's empty `path=` is passed on as it came.
        let empty = arrivals.iter().filter(|one| one.target.query() == Some("path=")).count();
        assert_eq!(empty, 5);
    }
}
