//! `migrate!`, and `query!` and its like, checked at compile time against what
//! is kept in `tests/.sqlx`: no database is needed to build.
//!
//! After a change of a query or a migration, with a database on which the
//! migrations have been run:
//!
//! ```text
//! SQLX_OFFLINE=false DATABASE_URL=postgres://... SQLX_OFFLINE_DIR=$PWD/tests/.sqlx \
//!     cargo check -p pgdeadline-tests --test sqlx
//! ```

use pgdeadline::{Connector, Context};
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::server::Server;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPool;
use tokio_postgres::NoTls;

use super::{LATE, SHORT, found, in_time, of_size, options_of};

static MIGRATOR: Migrator = sqlx::migrate!("./sqlx/migrations");

#[derive(Debug, PartialEq)]
struct Item {
    id: i64,
    name: String,
    price: Option<i32>,
}

/// A pool of one in a schema of its own, and the schema: migrations keep their
/// state in a table with a fixed name. The schema comes by sqlx's `options`.
async fn pool() -> (PgPool, String) {
    let server = Server::shared().await;
    let config = server.config();
    let schema = config.get_application_name().unwrap().replace('-', "_");
    let admin = server.admin().await;
    let create = format!("CREATE SCHEMA {schema}");
    admin.batch_execute(&create).await.unwrap();
    let options = options_of(&config).options([("search_path", &schema)]);
    let connector = Connector::new(config, NoTls).unwrap();
    let pool = Builder::new(connector, of_size(1), options);
    (pool.connect_lazy().unwrap(), schema)
}

#[tokio::test]
async fn migrations_run_once() {
    let (pool, _) = pool().await;
    for _ in 0..2 {
        in_time(MIGRATOR.run(&pool)).await.unwrap();
    }
    let applied = "SELECT count(*) FROM _sqlx_migrations WHERE success";
    let applied = sqlx::query_scalar::<_, i64>(applied).fetch_one(&pool);
    assert_eq!(in_time(applied).await.unwrap(), 2);
}

/// A migration that waits ends at its deadline, and can be run again.
#[tokio::test]
async fn migrations_that_ended_can_be_run_again() {
    let (pool, schema) = pool().await;
    in_time(MIGRATOR.run(&pool)).await.unwrap();
    // sqlx's own table, which somebody has locked.
    let mut admin = Server::shared().await.admin().await;
    let holder = admin.transaction().await.unwrap();
    let lock = format!("LOCK TABLE {schema}._sqlx_migrations");
    holder.batch_execute(&lock).await.unwrap();
    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(MIGRATOR.run(&pool))).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    holder.rollback().await.unwrap();
    // By the same connection, which has sqlx's lock on migrations still: sqlx
    // gives that back only where all is well.
    in_time(MIGRATOR.run(&pool)).await.unwrap();
}

#[tokio::test]
async fn queries_checked_at_compile_time_go_on_working() {
    let (pool, _) = pool().await;
    let ctx = Context::background().with_timeout(LATE);
    let work = ctx.scope(async {
        MIGRATOR.run(&pool).await.unwrap();
        let one = sqlx::query!("SELECT id, name FROM sqlx_door_items WHERE id = $1", 1_i64);
        let one = one.fetch_one(&pool).await.unwrap();
        assert_eq!((one.id, &*one.name), (1, "lamp"));
        let all = sqlx::query_as!(
            Item,
            "SELECT id, name, price FROM sqlx_door_items ORDER BY id"
        );
        let all = all.fetch_all(&pool).await.unwrap();
        let chair = Item {
            id: 2,
            name: "chair".into(),
            price: None,
        };
        assert_eq!((all.len(), &all[1]), (2, &chair));
        let sleep = sqlx::query_scalar!(r#"SELECT 42 AS "answer!" FROM pg_sleep($1)"#, 0.0);
        assert_eq!(sleep.fetch_one(&pool).await.unwrap(), 42);
    });
    in_time(work).await;
}

#[tokio::test]
async fn a_query_checked_at_compile_time_ends_at_its_deadline() {
    let (pool, _) = pool().await;
    let ctx = Context::background().with_timeout(SHORT);
    let sleep = sqlx::query_scalar!(r#"SELECT 42 AS "answer!" FROM pg_sleep($1)"#, 600.0);
    let error = in_time(ctx.scope(sleep.fetch_one(&pool))).await;
    assert!(found(&error.unwrap_err()).is_deadline());
}
