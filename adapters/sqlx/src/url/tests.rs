use super::*;
use sqlx::ConnectOptions;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;
use tokio_postgres::config::{Host, TargetSessionAttrs};

fn hosts(config: &Config) -> Vec<String> {
    let name = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    config.get_hosts().iter().map(name).collect()
}

#[test]
fn each_side_reads_its_part() {
    let (config, options) = read(
        "postgres://me:s%40cret@db.test:6543/app?application_name=visits&connect_timeout=3\
         &statement-cache-capacity=7&options[geqo]=off&options%5Bjit%5D=off&sslmode=prefer",
    )
    .unwrap();
    assert_eq!(hosts(&config), ["db.test"]);
    assert_eq!(config.get_ports(), [6543]);
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    assert_eq!((config.get_user(), config.get_password()), (None, None));

    assert_eq!(options.get_host(), "db.test");
    assert_eq!(options.get_username(), "me");
    assert_eq!(options.get_database(), Some("app"));
    assert_eq!(options.get_application_name(), Some("visits"));
    assert_eq!(options.get_options(), Some("-c geqo=off -c jit=off"));
    let url = options.to_url_lossy();
    assert_eq!(url.password(), Some("s%40cret"));
    assert!(url.as_str().contains("statement-cache-capacity=7"), "{url}");
}

#[test]
fn several_hosts_are_the_connectors_and_the_first_is_sqlxs() {
    for url in [
        "postgres://me:secret@one:1111,two:2222/app?target_session_attrs=read-write",
        "postgres://me@one:1111%2Ctwo:2222/app?target_session_attrs=read-write",
        "postgres:///app?user=me&host=one,two&port=1111,2222&target_session_attrs=read-write",
        "postgres:///app?user=me&host=one%2Ctwo&port=1111%2c2222&target_session_attrs=read-write",
    ] {
        let (config, options) = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(config.get_ports(), [1111, 2222], "{url}");
        let attrs = config.get_target_session_attrs();
        assert_eq!(attrs, TargetSessionAttrs::ReadWrite);
        assert_eq!(
            (options.get_host(), options.get_port()),
            ("one", 1111),
            "{url}"
        );
        assert_eq!(options.get_username(), "me");
        assert_eq!(hosts(&config), ["one", "two"], "{url}");
    }
}

#[test]
fn sockets_and_addresses_are_read() {
    for (url, host) in [
        ("postgres://me@%2Frun%2Fpg/app", "/run/pg"),
        ("postgres:///app?host=/run/pg", "/run/pg"),
        ("postgres://me@[::1]:5433/app", "::1"),
        ("postgresql://me@127.0.0.1", "127.0.0.1"),
        ("postgres:///app?hostaddr=127.0.0.1", "127.0.0.1"),
    ] {
        let (config, _) = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let host_of = hosts(&config).remove(0);
        assert_eq!(host_of.trim_end_matches('/'), host, "{url}");
        Connector::new(config, NoTls).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    let (config, options) = read("postgres://me@db.test/app?hostaddr=127.0.0.1").unwrap();
    assert_eq!(hosts(&config), ["db.test"]);
    assert_eq!(config.get_hostaddrs().len(), 1);
    assert_eq!(options.get_host(), "db.test");
}

#[test]
fn what_asks_for_tls_is_refused_and_says_where_there_is_some() {
    for parameter in [
        "sslmode=require",
        "ssl-mode=VERIFY-FULL",
        "sslmode=verify-ca",
        "sslrootcert=/etc/ca.pem",
        "sslkey=/etc/key.pem",
        "sslnegotiation=direct",
        "channel_binding=require",
    ] {
        let url = format!("postgres://me:secret@db.test/app?{parameter}");
        let error = read(&url).unwrap_err();
        assert!(error.database().unwrap().is_config());
        let error = error.to_string();
        assert!(error.contains("Builder with a Connector"), "{error}");
    }
}

#[test]
fn what_can_not_be_read_is_told_without_the_password() {
    for (url, text) in [
        ("", "expected postgres://"),
        ("mysql://me:secret@db.test/app", "expected postgres://"),
        ("host=db.test password=secret", "expected postgres://"),
        ("postgres://me:secret@db.test:port/app", "could not be read"),
        (
            "postgres://me:secret@db.test/app?port=secret",
            "could not be read",
        ),
        (
            "postgres://me:secret@one,two/app?port=1,secret",
            "could not be read",
        ),
        (
            "postgres://me:secret@db.test/app?passwort=secret",
            "`passwort`",
        ),
        (
            "postgres://me:secret@db.test/app?keepalives=secret",
            "could not be read",
        ),
        ("postgres://me:secret@db.test/app?host=/run/pg", "twice"),
        ("postgres://me:sec/ret@secret/app", "could not be read"),
        ("postgres://me:%FFsecret@db.test/app", "could not be read"),
    ] {
        let error = read(url).map(|_| ()).unwrap_err();
        let (shown, debug) = (error.to_string(), format!("{error:?}"));
        assert!(shown.contains(text), "{url}: {shown}");
        assert!(
            !shown.contains("secret") && !debug.contains("secret"),
            "{debug}"
        );
    }
}

#[tokio::test]
async fn a_url_that_asks_for_tls_builds_no_pool() {
    let error = connect("postgres://me@db.test/app?sslmode=require").await;
    assert!(error.unwrap_err().database().unwrap().is_config());
}

/// The process whose environment the test after it sets.
#[test]
fn with_an_environment_of_its_own() {
    if std::env::var_os("PGDEADLINE_TEST_ENVIRONMENT").is_none() {
        return;
    }
    let (config, options) = read("postgres://me@db.test/app").unwrap();
    assert_eq!(hosts(&config), ["db.test"]);
    assert_eq!(config.get_ports(), [6543], "PGPORT");
    let routed = options.socket("/run/relay").port(5432);
    assert_eq!(routed.to_url_lossy().password(), Some("frompgpass"));

    let (_, options) = read("postgres://me@db.test,other.test/app?port=6543").unwrap();
    assert_eq!(options.to_url_lossy().password(), Some("frompgpass"));

    let (config, _) = read("postgres:///app").unwrap();
    assert_eq!(hosts(&config), ["from.environment.test"], "PGHOST");
}

#[test]
fn pgpass_and_the_environment_count_as_for_sqlx() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgpass");
    let mut options = fs::OpenOptions::new();
    let open = options.create_new(true).write(true).mode(0o600).open(&file);
    use std::io::Write;
    writeln!(open.unwrap(), "db.test:6543:app:me:frompgpass").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "url::tests::with_an_environment_of_its_own"])
        .env("PGDEADLINE_TEST_ENVIRONMENT", "1")
        .env("PGPASSFILE", &file)
        .env("PGPORT", "6543")
        .env("PGHOST", "from.environment.test")
        .env_remove("PGHOSTADDR")
        .env_remove("PGPASSWORD")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}
