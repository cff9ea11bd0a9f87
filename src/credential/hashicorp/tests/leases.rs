use tokio::time::{Instant, sleep};

use super::*;
use crate::fake_vault::Trouble;

/// Reads ten times a second for `long`: each read succeeds.
async fn read_without_a_gap(kept: &Kept, long: Duration) {
    let started = Instant::now();
    while started.elapsed() < long {
        assert_eq!(read(&kept.session).await.unwrap(), "first", "{:?}", started.elapsed());
        sleep(SECOND / 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_30_s_is_renewed_20_times_without_a_gap() {
    let house = House::new(Terms::renewable(TTL));
    let kept = house.kept();
    // A renewal comes 22 s after the one before at the latest, and 18 s at the earliest.
    read_without_a_gap(&kept, Duration::from_secs(22 * 20 + 1)).await;
    assert!((20..=24).contains(&house.renewals()), "{}", house.renewals());
    assert_eq!(house.log_ins(), 1);
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_reads_with_is_kept_all_the_same() {
    let house = House::new(Terms::renewable(TTL));
    let kept = house.kept();
    read(&kept.session).await.unwrap();
    sleep(TTL * 100).await;
    read(&kept.session).await.unwrap();
    assert_eq!(house.log_ins(), 1);
    house.check();
}

#[tokio::test(start_paused = true)]
async fn at_its_greatest_age_a_token_is_followed_by_another_without_a_gap() {
    let max_ttl = Some(Duration::from_secs(100));
    let house = House::new(Terms { max_ttl, ..Terms::renewable(TTL) });
    let kept = house.kept();
    read_without_a_gap(&kept, Duration::from_secs(1000)).await;
    assert!((10..=14).contains(&house.log_ins()), "{}", house.log_ins());
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_renewed_is_followed_by_another_without_a_gap() {
    let house = House::new(Terms { renewable: false, ..Terms::renewable(TTL) });
    let kept = house.kept();
    read_without_a_gap(&kept, Duration::from_secs(300)).await;
    assert_eq!(house.renewals(), 0);
    assert!((13..=17).contains(&house.log_ins()), "{}", house.log_ins());
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_denied_is_followed_by_a_log_in_without_a_gap() {
    let house = House::new(Terms::renewable(TTL));
    house.vault.set_renews(false);
    let kept = house.kept();
    read_without_a_gap(&kept, Duration::from_secs(100)).await;
    assert_eq!(house.log_ins(), house.renewals() + 1);
    assert!((5..=6).contains(&house.log_ins()), "{}", house.log_ins());
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_while_a_renewal_is_due_leaves_no_gap_when_it_is_back_in_time() {
    let house = House::new(Terms::renewable(TTL));
    let kept = house.kept();
    read_without_a_gap(&kept, SECOND * 17).await;
    house.vault.set_trouble(Some(Trouble::Status(502)));
    // The renewal is due 18 to 22 s after the log-in, and tried again 2 s and then 4 s later.
    sleep(SECOND * 5).await;
    house.vault.set_trouble(None);
    read_without_a_gap(&kept, SECOND * 60).await;
    assert_eq!(house.log_ins(), 1);
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ended_while_the_server_was_away_is_followed_by_another() {
    let house = House::new(Terms::renewable(TTL));
    let kept = house.kept();
    read(&kept.session).await.unwrap();
    house.vault.set_trouble(Some(Trouble::Down));
    sleep(Duration::from_secs(3600)).await;
    let (tries, hour) = (house.vault.asked().len(), 3600 / 60);
    assert!(tries < 2 * hour, "{tries} tries in an hour");
    house.vault.set_trouble(None);
    sleep(Duration::from_secs(70)).await;
    let log_ins = house.log_ins();
    assert_eq!(read(&kept.session).await.unwrap(), "first");
    assert_eq!(house.log_ins(), log_ins, "it was back before it was needed");
}

#[tokio::test(start_paused = true)]
async fn revoked_tokens_cost_one_log_in_and_no_failed_read() {
    let house = House::new(Terms::renewable(Duration::from_secs(3600)));
    let kept = house.kept();
    read(&kept.session).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    house.vault.revoke_tokens();
    let reads = (0..50).map(|_| read(&kept.session));
    let reads = futures_util::future::join_all(reads).await;
    assert!(reads.into_iter().all(|read| read.unwrap() == "first"));
    assert_eq!(house.log_ins(), 2);
    read_without_a_gap(&kept, SECOND * 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_given_token_is_renewed_and_its_file_is_looked_at_again_when_it_ends() {
    let mut house = House::new(Terms::renewable(TTL));
    let terms = Terms { max_ttl: Some(Duration::from_secs(100)), ..Terms::renewable(TTL) };
    let path = house.keep("token", &house.vault.token(terms));
    house.log_in_by(Login::Token(Held::File(path)));
    let kept = house.kept();
    read_without_a_gap(&kept, SECOND * 90).await;
    assert!(house.renewals() >= 3, "{}", house.renewals());
    house.keep("token", &house.vault.token(terms));
    read_without_a_gap(&kept, SECOND * 60).await;
    house.check();
    // Nobody brings another.
    sleep(SECOND * 200).await;
    let error = read(&kept.session).await.unwrap_err();
    assert!(matches!(error, HashicorpError::TokenRefused), "{error}");
    house.keep("token", &house.vault.token(terms));
    assert_eq!(read(&kept.session).await.unwrap(), "first");
}
