//! TLS, classic and direct; SCRAM with channel binding; client certificates.

use pgdeadline_tests::server::{Certificates, DATABASE, PASSWORD, Server, StartOptions, USER};
use tokio::sync::OnceCell;
use tokio_postgres::Config;

use super::doors::{self, Door};
use super::{LATE, SLEEP, short, was_ended};

/// A server of these tests' own: it lets the role `carol` in by her
/// certificate only.
async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    let options = || StartOptions::default().tls().init(CAROL);
    let start = || Server::start(options().settings([Certificates::CLIENTS]));
    SERVER.get_or_init(start).await
}

const CAROL: &str = r#"
psql --username="$POSTGRES_USER" --dbname=postgres --command='CREATE ROLE carol LOGIN'
{ echo 'hostssl all carol all cert'; cat "$PGDATA/pg_hba.conf"; } >"$PGDATA/pg_hba.new"
cat "$PGDATA/pg_hba.new" >"$PGDATA/pg_hba.conf"
"#;

fn config(server: &Server, user: &str, options: &str) -> Config {
    let name = server.config();
    let name = name.get_application_name().unwrap();
    let config = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user={user} dbname={DATABASE} \
         application_name={name} {options}",
        server.port()
    );
    config.parse().unwrap()
}

/// The deadline reaches the server, by a cancel over TLS.
async fn ends(server: &Server, door: &Door, what: &str) {
    let mut held = door.get().await;
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(held.ask(encrypted).await.unwrap(), "t", "{what}");
    let before = held.pid().await;
    drop(held);
    assert!(was_ended(door.under(&short(), SLEEP).await), "{what}");
    assert_eq!(door.next_pid().await, before, "{}, {what}", door.name);
    server.wait_idle(before.parse().unwrap(), LATE).await;
}

/// Whether the server takes TLS without an SSLRequest before it.
fn has_direct() -> bool {
    let major = std::env::var("PGDEADLINE_TEST_MAJOR");
    major.map_or(true, |major| major.parse::<u32>().unwrap() >= 17)
}

#[tokio::test]
async fn a_deadline_is_kept_over_tls_classic_and_direct() {
    let server = server().await;
    let mut ways = vec!["sslmode=prefer", "sslmode=require"];
    if has_direct() {
        ways.push("sslmode=require sslnegotiation=direct");
    }
    for way in ways {
        let options = format!("password={PASSWORD} {way}");
        let config = config(server, USER, &options);
        for door in doors::encrypted(&config, &server.certificates().client_config()) {
            ends(server, &door, way).await;
        }
    }
}

/// sqlx can't bind a channel, so this is deadpool's alone.
#[tokio::test]
async fn a_deadline_is_kept_with_channel_binding() {
    let server = server().await;
    let mut ways = vec!["sslmode=require channel_binding=require"];
    if has_direct() {
        ways.push("sslmode=require channel_binding=require sslnegotiation=direct");
    }
    for way in ways {
        let options = format!("password={PASSWORD} {way}");
        let config = config(server, USER, &options);
        let rustls = server.certificates().client_config();
        ends(server, &doors::encrypted_deadpool(&config, &rustls), way).await;
    }
}

#[tokio::test]
async fn a_deadline_is_kept_with_a_client_certificate() {
    let server = server().await;
    let config = config(server, "carol", "sslmode=require");
    let rustls = server.certificates().client_config_of("carol");
    for door in doors::encrypted(&config, &rustls) {
        ends(server, &door, "a certificate").await;
    }
    // Without one she is not let in.
    let rustls = server.certificates().client_config();
    for door in doors::encrypted(&config, &rustls) {
        let error = super::in_time(door.under(&short(), "SELECT 1")).await;
        let error = format!("{:?}", error.unwrap_err());
        assert!(
            error.contains("28000") || error.contains("certificate"),
            "{error}"
        );
    }
}
