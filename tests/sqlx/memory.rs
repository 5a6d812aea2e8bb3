//! A result of any size, or a row of any size, needs no more room for the
//! relay: whoever reads slowly holds the server up, not memory.

use futures_util::{StreamExt, TryStreamExt};
use pgdeadline::Context;
use sqlx::Row;
use sqlx::postgres::PgPoolCopyExt;
use tokio::time::sleep;

use super::alone::{alone, pool};
use super::{LATE, SHORT, in_some_minutes, in_time, works};

const MIB: usize = 1 << 20;

/// What this process has of memory, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("memory is measured on Linux");
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn assert_grown_by_less(before: usize, bound: usize) {
    let grown = resident().saturating_sub(before);
    println!("{} KiB more", grown / 1024);
    assert!(grown < bound, "{} MiB more", grown / MIB);
}

#[tokio::test]
async fn two_hundred_thousand_rows_need_no_room() {
    let test = "memory::two_hundred_thousand_rows_need_no_room";
    let Some(url) = alone(test).await else { return };
    let pool = pool(&url, 1, |connector| connector);
    works(&mut pool.acquire().await.unwrap()).await;
    let before = resident();
    let rows = "SELECT n, repeat('x', 1000) FROM generate_series(1, 200000) n";
    let ctx = Context::background().with_timeout(LATE * 2);
    let read = ctx.scope(async {
        let mut rows = sqlx::query(rows).fetch(&pool);
        let mut read = 0;
        while let Some(row) = rows.try_next().await.unwrap() {
            read += 1;
            assert_eq!(row.get::<i32, _>(0), read);
        }
        read
    });
    assert_eq!(in_some_minutes(read).await, 200_000);
    assert_grown_by_less(before, 8 * MIB);
}

/// 18. A reader that stops reading: what the server has to say stays there.
#[tokio::test]
async fn a_reader_that_stops_needs_no_room() {
    let test = "memory::a_reader_that_stops_needs_no_room";
    let Some(url) = alone(test).await else { return };
    let pool = pool(&url, 2, |connector| connector.finish_bound(SHORT));
    let mut connection = pool.acquire().await.unwrap();
    works(&mut connection).await;
    let before = resident();
    let endless = "SELECT generate_series(1, 100000000), repeat('x', 1000)";
    let mut rows = sqlx::query(endless).fetch(&mut *connection);
    rows.next().await.unwrap().unwrap();
    let copy = "COPY (SELECT generate_series(1, 100000000), repeat('x', 1000)) TO STDOUT";
    let mut copy = pool.copy_out_raw(copy).await.unwrap();
    copy.next().await.unwrap().unwrap();
    sleep(SHORT * 5).await;
    assert_grown_by_less(before, 8 * MIB);
    // Nor does what is dropped after an end.
    drop((rows, copy));
    drop(connection);
    in_time(pool.close()).await;
    assert_grown_by_less(before, 8 * MIB);
}

/// A row of 20 MB. sqlx itself wants all of it at once, and so does whoever
/// gets it; the bound leaves room for both of these.
#[tokio::test]
async fn a_large_row_needs_room_only_where_it_is_read() {
    let test = "memory::a_large_row_needs_room_only_where_it_is_read";
    let Some(url) = alone(test).await else { return };
    let pool = pool(&url, 1, |connector| connector);
    let mut connection = pool.acquire().await.unwrap();
    works(&mut connection).await;
    let before = resident();
    for _ in 0..3 {
        let row = sqlx::query("SELECT repeat('x', 20000000)").fetch_one(&mut *connection);
        let row = in_time(row).await.unwrap();
        assert_eq!(row.get::<&str, _>(0).len(), 20_000_000);
    }
    assert_grown_by_less(before, 55 * MIB);
    works(&mut connection).await;
}

/// The same of what is sent: a COPY whose data the server does not read.
#[tokio::test]
async fn a_server_that_does_not_read_needs_no_room() {
    let test = "memory::a_server_that_does_not_read_needs_no_room";
    let Some(url) = alone(test).await else { return };
    let pool = pool(&url, 2, |connector| connector);
    let mut connection = pool.acquire().await.unwrap();
    let table = "sqlx_door_unread";
    let create = super::sql(format!("CREATE TABLE {table} (n int PRIMARY KEY)"));
    sqlx::raw_sql(create)
        .execute(&mut *connection)
        .await
        .unwrap();
    let mut holder = pool.begin().await.unwrap();
    let insert = super::sql(format!("INSERT INTO {table} VALUES (1)"));
    sqlx::query(insert).execute(&mut *holder).await.unwrap();
    let before = resident();
    let ctx = Context::background().with_timeout(SHORT * 4);
    let copy = async {
        let copy = format!("COPY {table} FROM STDIN");
        let mut sink = connection.copy_in_raw(&copy).await?;
        sink.send(b"1\n".as_slice()).await?;
        let lines: String = (2_000_000..2_010_000).map(|n| format!("{n}\n")).collect();
        loop {
            sink.send(lines.as_bytes()).await?;
        }
    };
    let ended = in_time(pgdeadline_sqlx::try_run::<()>(&ctx, copy)).await;
    assert!(ended.is_err());
    assert_grown_by_less(before, 8 * MIB);
}
