//! Sends the statement that binds a context, and judges its answer.
//!
//! The relay answers it itself, so nobody waits for a server. Its answer is
//! one of four:
//!
//! 1. the number of rows that the binding expects: bound;
//! 2. an error that pgdeadline has made: refused, with its reason;
//! 3. the server's own "syntax error": no relay stands in between;
//! 4. anything else: the answer to another statement. sqlx 0.9 miscounts
//!    ReadyForQuery after a COPY that was abandoned, and would take each
//!    answer for that of the statement after it.

use std::future::poll_fn;

use pgdeadline::Error;
use pgdeadline::relay::Binding;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Either, Executor};

/// Tells the relay behind `connection` what is bound from here on.
///
/// # Errors
/// As sqlx's; the connection is of no more use, but where pgdeadline has
/// refused an operation.
pub(crate) async fn bind(
    connection: &mut PgConnection,
    binding: &Binding,
) -> Result<(), sqlx::Error> {
    let statement = sqlx::raw_sql(AssertSqlSafe(binding.statement()));
    // Polled as it is: `execute` would box it twice more.
    let mut answer = connection.fetch_many(statement);
    let mut rows = None;
    while let Some(part) = poll_fn(|cx| answer.as_mut().poll_next(cx)).await {
        match part {
            Ok(Either::Left(result)) if rows.is_none() => rows = Some(result.rows_affected()),
            Ok(_) => return Err(out_of_step()),
            Err(error) => return Err(refused(error)),
        }
    }
    match rows {
        Some(rows) if rows == binding.expected_rows() => Ok(()),
        _ => Err(out_of_step()),
    }
}

fn refused(error: sqlx::Error) -> sqlx::Error {
    let code = error.as_database_error().and_then(|error| error.code());
    if code.as_deref() == Some(SYNTAX_ERROR) {
        return sqlx::Error::Configuration(Box::new(Error::config(BYPASSED)));
    }
    error
}

fn out_of_step() -> sqlx::Error {
    sqlx::Error::Protocol(String::from(
        "the answer was to another statement: sqlx has lost count of this connection's answers, \
         as it does after a COPY that was not finished; close the connection",
    ))
}

const SYNTAX_ERROR: &str = "42601";

const BYPASSED: &str = "this connection did not come through pgdeadline, so no deadline could \
                        reach its server: build the pool with pgdeadline_sqlx::Builder, and give \
                        set_connect_options only options that Relay::route has rewritten";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Answer};

    async fn bound(answer: impl FnMut(&str) -> Answer + Send + 'static) -> Result<(), sqlx::Error> {
        let server = testing::serve(answer);
        let binding = Binding::check_out(None);
        bind(&mut server.connect().await, &binding).await
    }

    #[tokio::test]
    async fn the_expected_number_of_rows_says_that_it_is_bound() {
        let expected = Binding::check_out(None);
        let (statement, rows) = (expected.statement().to_owned(), expected.expected_rows());
        let server = testing::serve(move |text| {
            assert_eq!(text, statement);
            Answer::Rows(rows)
        });
        bind(&mut server.connect().await, &expected).await.unwrap();
    }

    #[tokio::test]
    async fn every_other_answer_says_that_sqlx_is_out_of_step() {
        for answer in [
            Answer::Rows(u64::MAX),
            Answer::Complete("COPY 12345678"),
            Answer::Complete("ROLLBACK"),
            Answer::Nothing,
            Answer::Twice("SELECT 1"),
        ] {
            let told = format!("{answer:?}");
            let error = bound(move |_| answer.clone()).await.unwrap_err();
            assert!(matches!(error, sqlx::Error::Protocol(_)), "{told}: {error}");
            assert!(error.to_string().contains("lost count"), "{told}: {error}");
        }
    }

    #[tokio::test]
    async fn a_servers_syntax_error_says_that_nobody_stands_in_between() {
        let error = bound(|_| Answer::Error("42601", "syntax error at or near \"pgdeadline\""))
            .await
            .unwrap_err();
        assert!(matches!(error, sqlx::Error::Configuration(_)), "{error:?}");
        assert!(error.to_string().contains("Relay::route"), "{error}");
        assert!(Error::find(&error).unwrap().is_config());
    }

    #[tokio::test]
    async fn other_errors_are_told_as_they_are() {
        let error = bound(|_| Answer::Error("57P01", "terminating connection"))
            .await
            .unwrap_err();
        let code = error.as_database_error().unwrap().code().unwrap();
        assert_eq!(code, "57P01");
    }
}
