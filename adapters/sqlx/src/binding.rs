//! Sends the statement that binds a context, and judges its answer.
//!
//! The relay answers it itself, so nobody waits for a server. Its answer is
//! one of four:
//!
//! 1. that which names the binding: bound. For a check-out it is an error, the
//!    least that sqlx has to read, and nothing that it could take for anything
//!    else;
//! 2. another error that pgdeadline has made: refused, with its reason;
//! 3. the server's own "syntax error": no relay stands in between;
//! 4. anything else: the answer to another statement. sqlx 0.9 miscounts
//!    ReadyForQuery after a COPY that was abandoned, and would take each
//!    answer for that of the statement after it.

use pgdeadline::relay::Binding;
use pgdeadline::{Context, Error, Operation};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

/// Tells the relay behind `connection` under what it is checked out from here on.
///
/// # Errors
/// As sqlx's; the connection is of no more use.
pub(crate) async fn check_out(
    connection: &mut PgConnection,
    context: Option<&Context>,
) -> Result<(), sqlx::Error> {
    let binding = Binding::check_out(context);
    let statement = AssertSqlSafe(binding.statement().into_owned());
    // `begin` sends a statement and waits, without the streams that carry rows;
    // of an error it leaves nothing behind but a ReadyForQuery to be read.
    match connection.begin_with(statement).await.map(drop) {
        Err(sqlx::Error::Database(told)) if binding.is_answer(told.message()) => Ok(()),
        Ok(()) | Err(sqlx::Error::BeginFailed | sqlx::Error::InvalidSavePointStatement) => {
            Err(out_of_step())
        }
        Err(error) => Err(refused(error)),
    }
}

/// Tells it that what is asked until the operation is dropped belongs to
/// `context`.
///
/// # Errors
/// As sqlx's. Where pgdeadline has refused it, the connection can be used on.
pub(crate) async fn operation(
    connection: &mut PgConnection,
    context: &Context,
) -> Result<Operation, sqlx::Error> {
    let binding = Binding::operation(context);
    let statement = sqlx::raw_sql(AssertSqlSafe(binding.statement().into_owned()));
    let rows = statement.execute(connection).await.map_err(refused)?;
    if rows.rows_affected() != binding.expected_rows() {
        return Err(out_of_step());
    }
    binding.into_operation().ok_or_else(out_of_step)
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
        check_out(&mut server.connect().await, None).await
    }

    #[tokio::test]
    async fn an_answer_that_names_the_binding_says_that_it_is_bound() {
        let server = testing::serve(Answer::as_relay);
        let mut connection = server.connect().await;
        let ctx = Context::background();
        check_out(&mut connection, None).await.unwrap();
        check_out(&mut connection, Some(&ctx)).await.unwrap();
        assert_eq!(server.asked().len(), 3);
    }

    #[tokio::test]
    async fn every_other_answer_says_that_sqlx_is_out_of_step() {
        for answer in [
            Answer::Complete("COPY 12345678"),
            Answer::Complete("ROLLBACK"),
            Answer::Nothing,
            Answer::Begin,
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
