//! What `tracing` tells of an end, in order.

use std::sync::{Arc, Mutex};

use pgdeadline_tests::listen;
use pgdeadline_tests::scripted::Expect;
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::Attributes;
use tracing::{Event, Id, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::stage::*;

/// Collects the messages of this crate's events, and the pids of its spans.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Told {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().target() == "pgdeadline" {
            let mut words = Words::default();
            attributes.record(&mut words);
            let name = attributes.metadata().name();
            self.0
                .lock()
                .unwrap()
                .push(format!("span {name} of {}", words.process_id));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "pgdeadline" {
            let mut words = Words::default();
            event.record(&mut words);
            let why = [words.message, words.why].join(" ");
            self.0.lock().unwrap().push(why.trim_end().to_owned());
        }
    }
}

#[derive(Default)]
struct Words {
    message: String,
    why: String,
    process_id: i64,
}

impl Visit for Words {
    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "process_id" {
            self.process_id = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "cause" | "reason" => self.why = format!("({value:?})"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_step_by_step() {
    let told = Told::default();
    let _listening = listen(told.clone());

    let Stage {
        net,
        client,
        session,
        mut backend,
        ..
    } = Stage::new().await;
    assert_eq!(told.take(), ["span connection of 42", "connected"]);

    let ctx = deadline(200);
    end_of(ctx.run(client.batch_execute(SLEEP)).await);
    backend.expect(Expect::query(SLEEP)).await;
    net.cancel().await.close();
    net.cancel().await.close();
    backend.send(canceled(b'I')).await;
    is_clean(&session).await;
    assert_eq!(
        told.take(),
        [
            "lease bound",
            "context ended (deadline passed)",
            "cancel sent",
            "cancel EOF",
            "cancel resent",
            "cancel EOF",
            "drained clean",
        ]
    );

    // And where it does not become clean: why.
    let ctx = deadline(200);
    end_of(ctx.run(client.batch_execute(SLEEP)).await);
    backend.expect(Expect::query(SLEEP)).await;
    net.cancel().await.reset();
    session.closed().await;
    sleep(ms(10)).await;
    let told = told.take();
    assert!(told.contains(&"cancel broke off".to_owned()), "{told:?}");
    let retired = "retired (a cancel broke off before its end was proven)";
    assert!(told.contains(&retired.to_owned()), "{told:?}");
}
