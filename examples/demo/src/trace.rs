//! pgdeadline's own events: printed for those who ask, and counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// How many cancels pgdeadline has sent so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct CancelsSent(Arc<AtomicUsize>);

/// Listens to pgdeadline from now on; prints what it says if `verbose`.
pub(crate) fn listen(verbose: bool) -> CancelsSent {
    let sent = CancelsSent::default();
    // sqlx has an event for each statement: what nobody looks at is not made.
    let ours = || Targets::new().with_target(TARGET, tracing::Level::TRACE);
    let printed = verbose.then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_filter(ours())
    });
    tracing_subscriber::registry()
        .with(sent.clone().with_filter(ours()))
        .with(printed)
        .init();
    sent
}

impl CancelsSent {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl<S: Subscriber> Layer<S> for CancelsSent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut is_it = Is {
            message: CANCEL_SENT,
            found: false,
        };
        event.record(&mut is_it);
        if is_it.found {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Looks whether an event has this message.
struct Is {
    message: &'static str,
    found: bool,
}

impl Visit for Is {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.found = format!("{value:?}") == self.message;
        }
    }
}

const TARGET: &str = "pgdeadline";
const CANCEL_SENT: &str = "cancel sent";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pgdeadlines_cancels_are_counted() {
        let sent = CancelsSent::default();
        let subscriber = tracing_subscriber::registry().with(sent.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "pgdeadline", pid = 7, "cancel sent");
            tracing::info!(target: "pgdeadline", "cancel sent");
            tracing::info!(target: "pgdeadline", "cancel EOF");
            tracing::info!(target: "somebody", "cancel sent");
        });
        assert_eq!(sent.count(), 2);
    }
}
