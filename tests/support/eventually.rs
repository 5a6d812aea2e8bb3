use std::time::Duration;

use pgdeadline_tests::eventually;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn it_returns_the_first_answer() {
    let mut asked = 0;
    let answer = eventually(Duration::from_secs(5), "the third question", async || {
        asked += 1;
        (asked == 3).then_some("yes")
    })
    .await;
    assert_eq!((answer, asked), ("yes", 3));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "not within 5s: the moon is cheese")]
async fn it_says_what_never_came() {
    eventually(Duration::from_secs(5), "the moon is cheese", async || {
        None::<()>
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn it_stops_at_its_bound() {
    let began = Instant::now();
    let hopeless = tokio::spawn(eventually(Duration::from_secs(5), "never", async || {
        None::<()>
    }));
    assert!(hopeless.await.unwrap_err().is_panic());
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(5) && took < Duration::from_secs(6),
        "{took:?}"
    );
}
