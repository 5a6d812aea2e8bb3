use super::*;
use crate::error::Error;
use std::error::Error as StdError;
use std::fmt;
use std::future::pending;
use std::io;
use std::pin::pin;

/// A data layer's error, as one would write it.
#[derive(Debug)]
enum Data {
    Deadline(Error),
    Postgres(tokio_postgres::Error),
    NotFound,
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data layer")
    }
}

impl StdError for Data {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Data::Deadline(error) => Some(error),
            Data::Postgres(error) => Some(error),
            Data::NotFound => None,
        }
    }
}

impl From<Error> for Data {
    fn from(error: Error) -> Data {
        Data::Deadline(error)
    }
}

/// The end of whatever is ambient, as a connection would report it.
fn noticed_by_the_connection() -> Error {
    let end = Context::current().unwrap().end().unwrap();
    let progress = Progress {
        phase: Phase::Read,
        sent: Some(true),
        commit_in_doubt: true,
    };
    Error::end(&end, progress)
}

#[test]
fn error_types_of_all_kinds_are_taken() {
    let ctx = Context::background().child();
    ctx.cancel_with("shutdown");
    let found = [
        end_as::<Error>(&ctx, |e| Error::find(e)),
        end_as::<io::Error>(&ctx, |e| Error::find(e)),
        end_as::<tokio_postgres::Error>(&ctx, |e| Error::find(e)),
        end_as::<Data>(&ctx, |e| Error::find(e)),
    ];
    for found in found {
        assert_eq!(found.unwrap().reason().unwrap().to_string(), "shutdown");
    }

    let mut boxed = pin!(ctx.try_run(pending::<Result<(), Box<dyn StdError>>>()));
    let mut sent = pin!(ctx.try_run(pending::<Result<(), Box<dyn StdError + Send + Sync>>>()));
    let mut any = pin!(ctx.try_run(pending::<Result<(), anyhow::Error>>()));
    assert!(error(poll(boxed.as_mut(), Waker::noop())).is::<Error>());
    assert!(error(poll(sent.as_mut(), Waker::noop())).is::<Error>());
    assert!(error(poll(any.as_mut(), Waker::noop())).is::<Error>());
}

fn end_as<E>(ctx: &Context, find: impl Fn(&E) -> Option<Error>) -> Option<Error>
where
    E: From<Error> + StdError + 'static,
{
    let mut run = pin!(ctx.try_run(pending::<Result<(), E>>()));
    find(&error(poll(run.as_mut(), Waker::noop())))
}

fn error<T, E>(polled: Poll<Result<T, E>>) -> E {
    match polled {
        Poll::Ready(Err(error)) => error,
        Poll::Ready(Ok(_)) => panic!("no error"),
        Poll::Pending => panic!("pending"),
    }
}

#[test]
fn own_result_and_own_error_are_passed_on() {
    let ctx = Context::background().child();
    let mut good = pin!(ctx.try_run(async { Ok::<_, Data>(42) }));
    assert!(matches!(
        poll(good.as_mut(), Waker::noop()),
        Poll::Ready(Ok(42))
    ));
    let mut bad = pin!(ctx.try_run(async { Err::<(), _>(Data::NotFound) }));
    assert!(matches!(
        error(poll(bad.as_mut(), Waker::noop())),
        Data::NotFound
    ));
}

#[test]
fn end_noticed_by_the_connection_first_has_the_same_shape_and_keeps_what_it_knew() {
    let ctx = Context::background().child();
    let mut run = pin!(ctx.try_run(async {
        ctx.cancel_with("shutdown");
        Err::<(), _>(Data::Postgres(noticed_by_the_connection().into()))
    }));
    let Data::Deadline(found) = error(poll(run.as_mut(), Waker::noop())) else {
        panic!("not told as the end");
    };
    assert_eq!(found.phase(), Some(Phase::Read));
    assert!(found.is_in_doubt());
    assert!(!found.is_inherited());
}

#[test]
fn end_noticed_in_a_context_of_its_own_below_is_told_as_this_contexts_end() {
    let ctx = Context::background().child();
    let mut run = pin!(ctx.try_run(async {
        let below = Context::current().unwrap().child();
        ctx.cancel();
        let error = below.run(pending::<()>()).await.unwrap_err();
        assert!(error.is_inherited());
        Err::<(), Data>(error.into())
    }));
    let Data::Deadline(found) = error(poll(run.as_mut(), Waker::noop())) else {
        panic!("not told as the end");
    };
    assert!(!found.is_inherited());
}

#[test]
fn end_of_another_context_stays_the_error_that_it_is() {
    let ctx = Context::background().child();
    let other = Context::background().child();
    other.cancel();
    let carried =
        || -> tokio_postgres::Error { Error::end(&other.end().unwrap(), Progress::OUTSIDE).into() };
    let mut run = pin!(ctx.try_run(async { Err::<(), _>(Data::Postgres(carried())) }));
    assert!(matches!(
        error(poll(run.as_mut(), Waker::noop())),
        Data::Postgres(_)
    ));
    // Also when this one has ended too.
    let mut run = pin!(ctx.try_run(async {
        ctx.cancel();
        Err::<(), _>(Data::Postgres(carried()))
    }));
    assert!(matches!(
        error(poll(run.as_mut(), Waker::noop())),
        Data::Postgres(_)
    ));
}
