//! Sends the statement that binds a context, and judges its answer.
//!
//! The relay answers it itself, so nobody waits for a server. Its answer is
//! one of four:
//!
//! 1. an error that names the binding: bound. An error, since that is the least
//!    that sqlx has to read, and nothing that it could take for anything else;
//! 2. another error that pgdeadline has made: refused, with its reason;
//! 3. the server's own "syntax error": no relay stands in between;
//! 4. anything else: the answer to another statement. sqlx 0.9 miscounts
//!    ReadyForQuery after a COPY that was abandoned, and would take each
//!    answer for that of the statement after it.

use pgdeadline::Error;
use pgdeadline::relay::Binding;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

/// Tells the relay behind `connection` what is bound from here on.
///
/// # Errors
/// As sqlx's; the connection is of no more use, but where pgdeadline has
/// refused an operation.
pub(crate) async fn bind(
    connection: &mut PgConnection,
    binding: &Binding,
) -> Result<(), sqlx::Error> {
    let statement = AssertSqlSafe(binding.statement().into_owned());
    // `begin` sends a statement and waits, without the streams that carry rows;
    // of an error it leaves nothing behind but a ReadyForQuery to be read.
    let answer = match connection.is_in_transaction() {
        false => connection.begin_with(statement).await.map(drop),
        true => sqlx::raw_sql(statement).execute(connection).await.map(drop),
    };
    match answer {
        Err(sqlx::Error::Database(told)) if binding.is_answer(told.message()) => Ok(()),
        Ok(()) | Err(sqlx::Error::BeginFailed) => Err(out_of_step()),
        Err(error) => Err(refused(error)),
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
    use pgdeadline::Context;

    async fn bound(answer: impl FnMut(&str) -> Answer + Send + 'static) -> Result<(), sqlx::Error> {
        let server = testing::serve(answer);
        let binding = Binding::check_out(None);
        bind(&mut server.connect().await, &binding).await
    }

    #[tokio::test]
    async fn an_answer_that_names_the_binding_says_that_it_is_bound() {
        let ctx = Context::background();
        for expected in [Binding::check_out(None), Binding::operation(&ctx)] {
            let statement = expected.statement();
            let server = testing::serve(move |text| {
                assert_eq!(text, statement);
                Answer::as_relay(text)
            });
            bind(&mut server.connect().await, &expected).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_same_inside_a_transaction() {
        let server = testing::serve(|text| match text {
            "BEGIN" => Answer::Begin,
            text => Answer::as_relay(text),
        });
        let mut connection = server.connect().await;
        let mut transaction = connection.begin().await.unwrap();
        let binding = Binding::operation(&Context::background());
        bind(&mut transaction, &binding).await.unwrap();
        sqlx::raw_sql("WORK")
            .execute(&mut *transaction)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn every_other_answer_says_that_sqlx_is_out_of_step() {
        for answer in [
            Answer::Complete("COPY 12345678"),
            Answer::Complete("ROLLBACK"),
            Answer::Nothing,
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
