//! Awaiting: a condition is asked for until it holds or its deadline has passed.

use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(10);

/// The first thing that `look` finds. After `seconds` a panic that says `what` was awaited, and why
/// it was not so when last looked for.
pub async fn until_found<T>(
    what: &str,
    seconds: u64,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => {
                panic!("not within {seconds} s: {what}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(STEP).await,
        }
    }
}

/// The same where there is nothing to say about what was seen.
pub async fn until<T>(what: &str, seconds: u64, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async || look().await.ok_or_else(|| "nothing".to_owned());
    until_found(what, seconds, found).await
}

/// The same for what is either so or not.
pub async fn until_true(what: &str, seconds: u64, mut look: impl AsyncFnMut() -> bool) {
    until(what, seconds, async || look().await.then_some(())).await;
}
