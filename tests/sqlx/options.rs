//! sqlx's own options: what of them counts, what comes through, and what
//! would lead round the relay.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pgdeadline::{Connector, Context};
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::Server;
use sqlx::postgres::PgPoolOptions;
use tokio_postgres::NoTls;

use super::{Bench, LATE, SHORT, SLEEP, asleep, found, in_time, of_size, options_of, sql, works};
use crate::log::Log;

/// What sqlx asks for at start-up the server is asked for; where it is comes
/// from the connector.
#[tokio::test]
async fn start_up_parameters_are_sqlxs_and_the_address_is_the_connectors() {
    let server = Server::shared().await;
    let config = server.config();
    let name = format!("{} renamed", config.get_application_name().unwrap());
    let options = options_of(&config)
        .host("nowhere.invalid")
        .port(1)
        .application_name(&name)
        .options([("work_mem", "7MB"), ("lock_timeout", "12345ms")])
        .extra_float_digits(1);
    let connector = Connector::new(config, NoTls).unwrap();
    let pool = Builder::new(connector, of_size(1), options);
    let pool = in_time(pool.connect()).await.unwrap();
    for (setting, value) in [
        ("work_mem", "7MB"),
        ("lock_timeout", "12345ms"),
        ("extra_float_digits", "1"),
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
        ("application_name", &name),
    ] {
        let show = sqlx::query_scalar("SELECT current_setting($1)").bind(setting);
        let told: String = in_time(show.fetch_one(&pool)).await.unwrap();
        assert_eq!(told, value, "{setting}");
    }
}

/// A pool by its URL alone.
#[tokio::test]
async fn a_pool_is_made_from_a_url() {
    let server = Server::shared().await;
    let url = server.url();
    let name = url.rsplit_once('=').unwrap().1.to_owned();
    let pool = in_time(pgdeadline_sqlx::connect(&url)).await.unwrap();
    let bench = Bench { server, name, pool };
    bench.next_pid().await;
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(asleep(&bench.pool))).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    // It has more than one connection; the old one may be on its way back.
    bench.next_pid().await;

    let error = in_time(pgdeadline_sqlx::connect("postgres://:0/:::")).await;
    assert!(error.map(drop).is_err());
}

/// `set_connect_options` with options that lead to the server directly: such a
/// connection has no deadline. It is refused when it is bound first, before a
/// statement of the caller's is sent, and the log says why.
#[tokio::test]
async fn a_connection_that_bypasses_the_relay_is_refused() {
    let log = Log::listen();
    let server = Server::shared().await;
    let options = PgPoolOptions::new().max_connections(1);
    let bench = Bench::pooled(options.acquire_timeout(Duration::from_secs(3))).await;
    let table = bench.table("n int").await;
    let mut connection = bench.acquire().await;
    works(&mut connection).await;
    let config = server.config();
    bench.pool.set_connect_options(options_of(&config));
    // What there is goes on working.
    works(&mut connection).await;
    connection.close_on_drop();
    drop(connection);

    let insert = sql(format!("INSERT INTO {table} VALUES (1)"));
    let insert = sqlx::query(insert).execute(&bench.pool);
    let error = in_time(insert).await.expect_err("it has no deadline");
    let told = format!("{error} {}", log.text());
    assert!(told.contains("did not come through pgdeadline"), "{told}");
    assert_eq!(bench.count(&table).await, 0);
    let name = config.get_application_name().unwrap();
    let admin = server.admin().await;
    eventually(LATE, "it is closed", async || {
        let backends = server.backends_seen_by(&admin, name).await;
        backends.is_empty().then_some(())
    })
    .await;
}

/// The relay's socket is nobody else's: in a directory that only its owner can
/// enter, and that goes with the pool.
#[tokio::test]
async fn the_socket_is_in_a_private_directory_that_goes_with_the_pool() {
    let bench = Bench::pool(2).await;
    bench.assert_full().await;
    let options = bench.pool.connect_options();
    let socket = options.get_socket().expect("a Unix socket").clone();
    let directory = if socket.is_dir() {
        socket
    } else {
        socket.parent().unwrap().to_owned()
    };
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
    in_time(bench.pool.close()).await;
    drop((bench, options));
    let what = format!("{} is gone", directory.display());
    eventually(LATE, what, async || (!directory.exists()).then_some(())).await;
}

/// Two pools in one process, and one that is built again and again, do not
/// meet.
#[tokio::test]
async fn pools_in_one_process_do_not_meet() {
    let one = Bench::with(1, |connector| connector.default_deadline(SHORT)).await;
    let two = Bench::pool(1).await;
    let (of_one, of_two) = (one.next_pid().await, two.next_pid().await);
    let longer = sqlx::query("SELECT pg_sleep(1)").execute(&two.pool);
    let (error, longer) = tokio::join!(in_time(asleep(&one.pool)), in_time(longer));
    assert!(found(&error.unwrap_err()).is_deadline());
    longer.unwrap();
    one.assert_free(of_one).await;
    two.assert_free(of_two).await;
    for _ in 0..20 {
        let short_lived = Bench::pool(1).await;
        works(&mut *short_lived.acquire().await).await;
    }
    two.assert_free(of_two).await;
}

/// Notices come to sqlx, those of work that ended too: what is dropped after an
/// end are rows, not what the server says.
#[tokio::test]
async fn notices_come_through() {
    let log = Log::listen();
    let bench = Bench::pool(1).await;
    let both = "DO $$ BEGIN
        RAISE NOTICE 'a notice before';
        BEGIN PERFORM pg_sleep(600);
        EXCEPTION WHEN query_canceled THEN RAISE WARNING 'a notice after';
        END;
    END $$";
    let mut connection = bench.acquire().await;
    let ctx = Context::background().with_timeout(SHORT);
    let work = pgdeadline_sqlx::ConnectionExt::within(&mut *connection, &ctx, async |c| {
        sqlx::raw_sql(both).execute(c).await
    });
    assert!(found(&in_time(work).await.unwrap_err()).is_deadline());
    eventually(LATE, "both are logged", async || {
        works(&mut connection).await;
        let text = log.text();
        (text.contains("a notice before") && text.contains("a notice after")).then_some(())
    })
    .await;
    assert!(!log.text().contains(SLEEP));
}
