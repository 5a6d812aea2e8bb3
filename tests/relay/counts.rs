//! A client that counts as sqlx 0.9 does, and whose caller lets go at any time,
//! hears as many ReadyForQuery as it counts on: no more, no less.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgdeadline::relay::Binding;
use pgdeadline::{Connector, Context};
use pgdeadline_tests::scripted::Net;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::client::{Client, Heard};
use crate::say;
use crate::server;
use crate::stage::*;

/// A client as sqlx's `PgConnection` is one.
struct Counting {
    client: Client,
    /// What is written with the next flush.
    buffer: Vec<u8>,
    /// `pending_ready_for_query_count`.
    pending: usize,
    /// In a COPY, of which it counts none, and with a sender that says so when it
    /// is dropped.
    copies: bool,
    sends: bool,
}

/// What a caller does with it.
#[derive(Clone, Debug)]
enum Deed {
    Query(String),
    Prepare(String),
    Execute,
    CopyIn { pause: u64, rows: usize, done: bool },
    CopyOut { pause: u64, rows: u64 },
}

/// An error that was heard; a FATAL one is the last.
#[derive(Debug)]
struct Told {
    is_last: bool,
    what: Option<Heard>,
}

impl Counting {
    async fn next(&mut self) -> Result<Heard, Told> {
        if !self.buffer.is_empty() {
            let said = std::mem::take(&mut self.buffer);
            self.client.says(said).await;
        }
        let heard = self.client.next().await.ok_or(Told {
            is_last: true,
            what: None,
        })?;
        match heard.tag {
            b'E' => Err(Told {
                is_last: heard.field(b'S') == "FATAL",
                what: Some(heard),
            }),
            _ => Ok(heard),
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), Told> {
        while self.pending > 0 {
            if self.next().await?.tag == b'Z' {
                self.pending -= 1;
            }
        }
        Ok(())
    }

    /// Asks for something that is counted, and hears it out.
    async fn run(&mut self, said: Vec<u8>) -> Result<(), Told> {
        self.wait_until_ready().await?;
        self.buffer.extend(said);
        self.pending += 1;
        self.wait_until_ready().await
    }

    async fn does(&mut self, deed: &Deed) -> Result<(), Told> {
        match deed {
            Deed::Query(text) => self.run(say::query(text)).await,
            Deed::Prepare(text) => self.run(say::prepare(text)).await,
            Deed::Execute => self.run(say::execute()).await,
            Deed::CopyIn { pause, rows, done } => {
                self.begin_copy(&format!("COPY {pause} FROM STDIN")).await?;
                self.sends = true;
                for _ in 0..*rows {
                    self.buffer.extend(say::copy_data(b"a row\n"));
                }
                if *done {
                    self.sends = false;
                    self.buffer.extend(say::copy_done());
                    self.until_ready().await?;
                }
                Ok(())
            }
            Deed::CopyOut { pause, rows } => {
                self.begin_copy(&format!("COPY {pause} {rows} TO STDOUT"))
                    .await?;
                self.until_ready().await
            }
        }
    }

    async fn begin_copy(&mut self, text: &str) -> Result<(), Told> {
        self.wait_until_ready().await?;
        self.buffer.extend(say::query(text));
        self.copies = true;
        match self.next().await {
            Ok(_) => Ok(()),
            Err(told) if told.is_last => Err(told),
            Err(told) => {
                self.next().await?;
                self.copies = false;
                Err(told)
            }
        }
    }

    /// The end of a COPY, with a ReadyForQuery that it takes by itself.
    async fn until_ready(&mut self) -> Result<(), Told> {
        let mut failed = None;
        loop {
            match self.next().await {
                Ok(heard) if heard.tag == b'Z' => {
                    self.copies = false;
                    return failed.map_or(Ok(()), Err);
                }
                Ok(_) => {}
                Err(told) if told.is_last => return Err(told),
                Err(told) => failed = Some(told),
            }
        }
    }

    async fn bind(&mut self, context: Option<&Context>) -> Result<(), Told> {
        let binding = Binding::check_out(context);
        self.wait_until_ready().await?;
        self.buffer.extend(say::query(&binding.statement()));
        self.pending += 1;
        match self.next().await {
            Err(Told {
                what: Some(heard), ..
            }) if binding.is_answer(&heard.field(b'M')) => {}
            Err(told) => return Err(told),
            Ok(_) => panic!("out of step"),
        }
        self.wait_until_ready().await
    }

    /// Its caller has let go. `false`: it was let go of where sqlx itself
    /// miscounts or closes, whoever is at the other end: the end of a COPY, or
    /// an error, was there and not taken up.
    async fn is_let_go(&mut self) -> bool {
        if std::mem::take(&mut self.sends) {
            self.buffer.extend(say::copy_fail());
        }
        let copies = std::mem::take(&mut self.copies);
        let lost = self.client.has_heard(b'E').await || copies && self.client.has_heard(b'Z').await;
        !lost
    }

    async fn comes_back(&mut self) -> Result<(), Told> {
        self.buffer.extend(say::sync());
        self.pending += 1;
        self.wait_until_ready().await
    }
}

/// A check-out: the deadline of its context, and what is done under it, by
/// somebody who lets go after so long.
#[derive(Clone, Debug)]
struct CheckOut {
    deadline: Option<u64>,
    runs: bool,
    deeds: Vec<(Deed, Option<u64>)>,
}

impl CheckOut {
    /// `false`: that was the last one.
    async fn happens(&self, counting: &mut Counting) -> bool {
        let ctx = match self.deadline {
            Some(deadline) => Context::background().with_timeout(ms(deadline)),
            None => Context::background().child(),
        };
        let (mut last, mut known) = (false, true);
        let work = async {
            let context = match self.runs {
                true => Context::current().unwrap(),
                false => ctx.context().clone(),
            };
            // Whoever has no deadline may well bind none.
            let context = Some(&context).filter(|_| self.deadline.is_some());
            if let Err(told) = counting.bind(context).await {
                last |= told.is_last;
                return;
            }
            for (deed, patience) in &self.deeds {
                let patience = Duration::from_millis(patience.unwrap_or(100_000));
                if let Ok(Err(told)) = timeout(patience, counting.does(deed)).await {
                    last |= told.is_last;
                }
                // Whoever asks for more behind a COPY that was left is out of
                // step, whoever is at the other end.
                let left = counting.copies;
                known &= counting.is_let_go().await;
                if last || left {
                    break;
                }
            }
        };
        let ended = match self.runs {
            true => ctx.run(work).await.is_err(),
            false => {
                work.await;
                false
            }
        };
        if ended {
            known &= counting.is_let_go().await;
        }
        if last || !known {
            return false;
        }
        match counting.comes_back().await {
            Ok(()) => {}
            Err(told) => {
                // An end in the very moment of letting go is told to whoever
                // `run` does not bring back.
                let raced = ctx.is_ended() && !self.runs;
                assert!(told.is_last || raced, "nobody asked for {:?}", told.what);
                return false;
            }
        }
        // No more than it counts on.
        counting.client.hears_nothing(ms(1000)).await;
        true
    }
}

async fn counts_well(check_outs: Vec<CheckOut>) -> usize {
    let net = Net::new();
    let connector: Connector = over(&net).build().unwrap();
    let stage = Stage::open(net.clone(), &connector, SOCKET).await;
    let playing = server::play(net, stage.backend);
    let mut counting = Counting {
        client: stage.client,
        buffer: Vec::new(),
        pending: 0,
        copies: false,
        sends: false,
    };
    let mut well = 0;
    for check_out in &check_outs {
        if !check_out.happens(&mut counting).await {
            break;
        }
        well += 1;
    }
    drop(counting);
    let over = timeout(Duration::from_secs(60), stage.relay).await;
    over.expect("it ends").expect("without a panic").ok();
    timeout(Duration::from_secs(60), playing)
        .await
        .expect("the server is let go")
        .expect("without a panic");
    well
}

fn deed() -> impl Strategy<Value = Deed> {
    let text = || {
        prop_oneof![
            (0..40_u64, 0..5_u64).prop_map(|(pause, rows)| format!("rows {pause} {rows}")),
            (0..3000_u64).prop_map(|pause| format!("sleep {pause}")),
            Just("fail 5".to_string()),
            Just("BEGIN 3".to_string()),
            Just("COMMIT 3".to_string()),
            Just("ROLLBACK".to_string()),
        ]
    };
    prop_oneof![
        4 => text().prop_map(Deed::Query),
        2 => text().prop_map(Deed::Prepare),
        2 => Just(Deed::Execute),
        2 => (0..10_u64, 0..4_usize, any::<bool>())
            .prop_map(|(pause, rows, done)| Deed::CopyIn { pause, rows, done }),
        2 => (0..10_u64, 0..6_u64).prop_map(|(pause, rows)| Deed::CopyOut { pause, rows }),
    ]
}

fn check_out() -> impl Strategy<Value = CheckOut> {
    let patience = prop::option::weighted(0.4, 0..60_u64);
    (
        prop::option::weighted(0.6, 1..150_u64),
        any::<bool>(),
        prop::collection::vec((deed(), patience), 0..4),
    )
        .prop_map(|(deadline, runs, deeds)| CheckOut {
            deadline,
            runs,
            deeds,
        })
}

#[test]
fn as_many_ready_for_query_go_up_as_the_client_counts_on() {
    let config = ProptestConfig {
        failure_persistence: None,
        cases: ProptestConfig::default().cases.max(1000),
        ..ProptestConfig::default()
    };
    let (began, well) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let check_outs = prop::collection::vec(check_out(), 1..6);
    let ran = TestRunner::new(config).run(&check_outs, |check_outs| {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        began.fetch_add(check_outs.len(), Ordering::Relaxed);
        let came_back = runtime.unwrap().block_on(counts_well(check_outs));
        well.fetch_add(came_back, Ordering::Relaxed);
        Ok(())
    });
    if let Err(failed) = ran {
        panic!("{failed}");
    }
    // Runs that end at once prove nothing.
    let (began, well) = (began.into_inner(), well.into_inner());
    assert!(well > began / 2, "{well} of {began} came back");
}
