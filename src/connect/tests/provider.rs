//! A configuration that comes from a provider.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;
use tokio_postgres::Config;

use super::*;
use crate::error::Phase;

const ADDRESS: &str = "10.0.0.1:5432";

#[tokio::test(start_paused = true)]
async fn it_is_called_once_a_connection() {
    let calls = Arc::new(AtomicUsize::new(0));
    let provider = {
        let calls = calls.clone();
        move || {
            calls.fetch_add(1, Ordering::Relaxed);
            async { "host=10.0.0.1 user=me".parse::<Config>() }
        }
    };
    let builder = Connector::builder_with_provider(provider, NoTls);
    let network = Network::new(&[(ADDRESS, SERVES)]);
    let connector = builder.dial(network).build().unwrap();
    assert!(connector.config().is_none());
    for call in 1..=3 {
        drop(connector.connect(&Context::background()).await.unwrap());
        assert_eq!(calls.load(Ordering::Relaxed), call);
    }
}

#[tokio::test(start_paused = true)]
async fn its_time_is_the_connects_own() {
    let provider = || async {
        tokio::time::sleep(60 * S).await;
        io::Result::Ok(Config::new())
    };
    let connector = Connector::builder_with_provider(provider, NoTls)
        .build()
        .unwrap();
    let start = Instant::now();
    let error = failing(&connector, &Context::background()).await;
    assert_eq!(start.elapsed(), 10 * S);
    assert_eq!(error.phase(), Some(Phase::Outside));

    let ctx = Context::background().with_timeout(S);
    let error = failing(&connector, &ctx).await;
    assert!(error.is_deadline());
}

#[tokio::test(start_paused = true)]
async fn its_error_is_kept() {
    let provider = || async { Err::<Config, _>(io::Error::other("vault is sealed")) };
    let connector = Connector::builder_with_provider(provider, NoTls)
        .build()
        .unwrap();
    let error = failing(&connector, &Context::background()).await;
    assert!(
        error
            .to_string()
            .contains("provider failed: vault is sealed"),
        "{error}"
    );
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.downcast_ref::<io::Error>().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_it_gives_is_checked() {
    let provider = || async { io::Result::Ok(Config::new()) };
    let connector = Connector::builder_with_provider(provider, NoTls)
        .build()
        .unwrap();
    let error = failing(&connector, &Context::background()).await;
    assert!(error.is_config(), "{error}");
}
