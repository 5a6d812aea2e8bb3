//! Hearing what `tracing` tells in one test.

use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// A layer that hears the events and spans of this thread until it is dropped.
#[must_use = "it hears nothing more once this is dropped"]
pub struct Listening {
    _default: DefaultGuard,
    _second: Dispatch,
}

/// Lets `layer` hear the events and spans of this thread.
///
/// While there is a single subscriber tracing asks, of an event that is new to
/// it, the subscriber of whichever thread has come to that event first: where
/// this is another test's, without one, the event is off in all threads. So
/// there are two.
pub fn listen(layer: impl Layer<Registry> + Send + Sync) -> Listening {
    let second = Dispatch::new(tracing_subscriber::registry());
    let subscriber = tracing_subscriber::registry().with(layer);
    Listening {
        _default: tracing::subscriber::set_default(subscriber),
        _second: second,
    }
}

/// With `PGDEADLINE_TEST_TRACE` set, everything that is traced is shown, by a
/// test that fails or with `--nocapture`.
pub fn trace_if_asked() {
    if std::env::var_os("PGDEADLINE_TEST_TRACE").is_some() {
        let all = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        // The first test of the binary has done it.
        let _ = all.with_test_writer().try_init();
    }
}
