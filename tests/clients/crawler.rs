//! DataHub's crawler of metadata, from end to end.

use tokio::process::Command;

use crate::stage::{Plan, beside, install};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs a client; tests/run --all"]
async fn datahub_crawls_all_that_there_is() {
    let datahub = install("datahub").await;
    let stage = Plan::default().start().await;
    let mut client = Command::new(datahub.join("bin/python"));
    client.arg(beside("crawler.py")).arg(stage.url()).arg(stage.folder());
    let said = stage.play(client).await;
    assert!(said.contains("all of it holds"), "{said}");
    let arrivals = stage.judge("acryl-datahub");
    // Two calls for each dashboard and one for each other document, whatever else was asked.
    let of_documents = |target: &str| target.starts_with("/api/v1/documents/");
    let calls = arrivals.iter().filter(|one| of_documents(one.target.path())).count();
    assert_eq!(calls, 450);
}
