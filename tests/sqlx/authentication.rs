//! Authentication passes through: the password is sqlx's.

use pgdeadline::{Connector, Context};
use pgdeadline_sqlx::Builder;
use pgdeadline_tests::eventually;
use pgdeadline_tests::server::{Server, StartOptions};
use sqlx::postgres::PgPool;
use tokio_postgres::NoTls;

use super::{LATE, SHORT, SLEEP, code, found, in_time, of_size, options_of, sql, works};

/// A role for each method, of the method's name; all with the same password.
const METHODS: [&str; 4] = ["scram-sha-256", "md5", "password", "trust"];

const PASSWORD: &str = "a secret's secret";

/// A server that asks each role in its own way.
async fn server() -> Server {
    let server = Server::start(StartOptions::default()).await;
    let admin = server.admin().await;
    let mut rules = String::from("('local all all trust')");
    for method in METHODS {
        let encryption = if method == "md5" {
            "md5"
        } else {
            "scram-sha-256"
        };
        let password = PASSWORD.replace('\'', "''");
        let role = format!(
            "SET password_encryption = '{encryption}';
             CREATE ROLE \"{method}\" LOGIN PASSWORD '{password}'"
        );
        admin.batch_execute(&role).await.unwrap();
        rules += &format!(", ('host all \"{method}\" all {method}')");
    }
    rules += ", ('host all all all scram-sha-256')";
    let file = "SHOW hba_file";
    let file: String = admin.query_one(file, &[]).await.unwrap().get(0);
    let write = format!("COPY (VALUES {rules}) TO '{file}'; SELECT pg_reload_conf()");
    admin.batch_execute(&write).await.unwrap();
    // Who needs no password is let in once the server has read that.
    let mut trusted = server.config();
    trusted.user("trust").password("wrong");
    eventually(LATE, "the rules hold", async || {
        trusted.connect(NoTls).await.ok().map(drop)
    })
    .await;
    server
}

fn pool(server: &Server, user: &str, password: &str) -> PgPool {
    // The connector's own user and password are not used for this.
    let config = server.config();
    let options = options_of(&config).username(user).password(password);
    let connector = Connector::new(config, NoTls).unwrap();
    Builder::new(connector, of_size(1), options)
        .connect_lazy()
        .unwrap()
}

#[tokio::test]
async fn each_method_of_authentication_passes_through() {
    let server = server().await;
    for method in METHODS {
        let pool = pool(&server, method, PASSWORD);
        let mut connection = in_time(pool.acquire()).await.unwrap();
        works(&mut connection).await;
        let user = sqlx::query_scalar("SELECT current_user::text");
        let user: String = in_time(user.fetch_one(&mut *connection)).await.unwrap();
        assert_eq!(user, method);
        drop(connection);

        // A cancel needs no password, but the right key.
        let ctx = Context::background().with_timeout(SHORT);
        let work = ctx.scope(sqlx::query(SLEEP).execute(&pool));
        let error = in_time(work).await.unwrap_err();
        assert!(found(&error).is_deadline(), "{method}: {error}");
        let mut connection = in_time(pool.acquire()).await.unwrap();
        works(&mut connection).await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_as_the_servers() {
    let server = server().await;
    for method in METHODS.into_iter().filter(|method| *method != "trust") {
        let pool = pool(&server, method, "guessed");
        let error = in_time(pool.acquire()).await.map(drop).unwrap_err();
        assert_eq!(code(&error), "28P01", "{method}: {error}");
        assert!(pgdeadline::Error::find(&error).is_none_or(|e| !e.is_end()));
        assert_eq!(pool.size(), 0);
    }
}

#[tokio::test]
async fn an_unknown_database_or_role_is_told_as_the_servers() {
    let server = Server::shared().await;
    let config = server.config();
    let refused = async |options| {
        let connector = Connector::new(config.clone(), NoTls).unwrap();
        let pool = Builder::new(connector, of_size(1), options);
        // Told by either way to build a pool.
        code(&in_time(pool.connect()).await.map(drop).unwrap_err())
    };
    let options = options_of(&config).database("no such database");
    assert_eq!(refused(options).await, "3D000");
    let options = options_of(&config).username("nobody");
    assert_eq!(refused(options).await, "28P01");
}

/// The database and the role of a pool are those of sqlx's options, where the
/// connector's configuration has others.
#[tokio::test]
async fn the_database_is_that_of_sqlxs_options() {
    let server = Server::shared().await;
    let config = server.config();
    let name = config.get_application_name().unwrap().replace('-', "_");
    let admin = server.admin().await;
    let create = format!("CREATE DATABASE {name}");
    admin.batch_execute(&create).await.unwrap();
    let connector = Connector::new(config.clone(), NoTls).unwrap();
    let options = options_of(&config).database(&name);
    let pool = Builder::new(connector, of_size(1), options);
    let pool = in_time(pool.connect()).await.unwrap();
    let database = sqlx::query_scalar(sql("SELECT current_database()::text"));
    let database: String = in_time(database.fetch_one(&pool)).await.unwrap();
    assert_eq!(database, name);
    in_time(pool.close()).await;
}
