//! What is built on sqlx's pool works on it: SeaORM.

use pgdeadline::Context;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, SqlxPostgresConnector, Statement,
    TransactionTrait,
};

use super::{Bench, LATE, SHORT, SLEEP, found, in_time};
use crate::query::ends_softly;

async fn sleep(database: &DatabaseConnection) -> Result<(), sea_orm::DbErr> {
    let sleep = Statement::from_string(DbBackend::Postgres, SLEEP);
    database.query_one_raw(sleep).await.map(drop)
}

#[tokio::test]
async fn a_deadline_reaches_the_server_through_sea_orm() {
    let bench = Bench::pool(1).await;
    let before = bench.next_pid().await;
    let database = SqlxPostgresConnector::from_sqlx_postgres_pool(bench.pool.clone());

    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.scope(sleep(&database))).await.unwrap_err();
    ends_softly(&bench, found(&error), before).await;

    let ctx = Context::background().with_timeout(SHORT);
    let error = in_time(ctx.run(sleep(&database))).await.unwrap_err();
    ends_softly(&bench, error, before).await;

    let abandoned = tokio::time::timeout(SHORT, sleep(&database)).await;
    assert!(abandoned.is_err());
    bench.assert_free(before).await;
}

#[tokio::test]
async fn a_transaction_of_sea_orm_that_ends_stores_nothing() {
    let bench = Bench::pool(1).await;
    let table = bench.table("n int").await;
    let before = bench.next_pid().await;
    let database = SqlxPostgresConnector::from_sqlx_postgres_pool(bench.pool.clone());
    let insert = format!("INSERT INTO {table} VALUES (1)");
    let ctx = Context::background().with_timeout(SHORT);
    let work = ctx.scope(async {
        let transaction = database.begin().await?;
        transaction.execute_unprepared(&insert).await?;
        transaction.execute_unprepared(SLEEP).await?;
        transaction.commit().await
    });
    let error = in_time(work).await.unwrap_err();
    assert!(found(&error).is_deadline(), "{error}");
    bench.assert_free(before).await;
    assert_eq!(bench.count(&table).await, 0);

    let ctx = Context::background().with_timeout(LATE);
    let work = ctx.scope(async {
        let transaction = database.begin().await?;
        transaction.execute_unprepared(&insert).await?;
        transaction.commit().await
    });
    in_time(work).await.unwrap();
    assert_eq!(bench.count(&table).await, 1);
}
