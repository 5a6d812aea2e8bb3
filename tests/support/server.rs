use std::time::Duration;

use pgdeadline_tests::eventually;
use pgdeadline_tests::server::{PASSWORD, Server, StartOptions, USER};
use tokio_postgres::NoTls;

/// Long enough for any machine; what is measured is that it happens.
const BOUND: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_shared_server_answers_under_a_name_of_the_tests_own() {
    let server = Server::shared().await;
    let config = server.config();
    assert_ne!(
        config.get_application_name(),
        server.config().get_application_name()
    );

    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client
        .query_one("SELECT 1, pg_backend_pid()", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
    let pid: i32 = row.get(1);

    let name = config.get_application_name().unwrap();
    assert_eq!(server.backend_state(name).await.as_deref(), Some("idle"));
    let backends = server.backends(name).await;
    assert_eq!(backends[0].pid, pid);
    assert!(backends[0].query.starts_with("SELECT 1"), "{backends:?}");

    let query = client.batch_execute("SELECT pg_sleep(60)");
    let (result, ()) = tokio::join!(query, async {
        server.wait_state(pid, "active", BOUND).await;
        client.cancel_token().cancel_query(NoTls).await.unwrap();
    });
    assert!(result.is_err());
    server.wait_idle(pid, BOUND).await;
    drop(client);
    server.wait_gone(pid, BOUND).await;
}

#[tokio::test]
async fn a_url_connects() {
    let server = Server::shared().await;
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn the_image_heeds_user_database_password_and_arguments() {
    let options = StartOptions::default()
        .env("POSTGRES_DB", "shop")
        .settings(["max_connections=17"]);
    let server = Server::start(options).await;
    let mut config = server.config();
    config.dbname("shop");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client
        .query_one("SELECT current_user::text, current_database()::text", &[])
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), (USER, "shop"));
    let row = client.query_one("SHOW max_connections", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "17");
    let row = client
        .query_one(
            "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'postgres'",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));

    assert_ne!(PASSWORD, "wrong");
    config.password("wrong");
    let error = config.connect(NoTls).await.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "28P01", "{error}");
}

#[tokio::test]
async fn a_restart_keeps_port_and_data() {
    let server = Server::start(StartOptions::default()).await;
    let admin = server.admin().await;
    admin
        .batch_execute("CREATE TABLE kept AS SELECT 42 AS n")
        .await
        .unwrap();
    let port = server.port();
    server.restart().await;
    assert!(
        admin.batch_execute("SELECT 1").await.is_err(),
        "the old session is gone"
    );
    let admin = server.admin().await;
    let row = admin.query_one("SELECT n FROM kept", &[]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), server.port()), (42, port));

    server.stop().await;
    assert!(server.config().connect(NoTls).await.is_err());
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    let server = Server::start(StartOptions::default()).await;
    let admin = server.admin().await;
    server.pause().await;
    let mut query = Box::pin(admin.batch_execute("SELECT 1"));
    let frozen = tokio::time::timeout(Duration::from_millis(500), &mut query).await;
    assert!(frozen.is_err(), "a frozen server has answered");
    server.unpause().await;
    query.await.unwrap();
}

#[tokio::test]
async fn tls_is_under_the_tests_own_authority() {
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let server = Server::shared().await;
    let mut stream = tokio::net::TcpStream::connect((server.host(), server.port()))
        .await
        .unwrap();
    stream
        .write_all(&[0, 0, 0, 8, 4, 210, 22, 47])
        .await
        .unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let config = Arc::new(server.certificates().client_config());
    let connector = tokio_rustls::TlsConnector::from(config);
    let name = "localhost".try_into().unwrap();
    let tls = connector
        .connect(name, stream)
        .await
        .expect("a certificate of our authority");
    let (_, session) = tls.get_ref();
    assert_eq!(session.peer_certificates().unwrap().len(), 1);
}

#[tokio::test]
async fn no_container_outlives_a_process_that_is_killed() {
    if std::env::var_os(HOLD).is_some() {
        let _server = Server::start(StartOptions::default()).await;
        std::future::pending::<()>().await;
    }
    // With this the image is there, however long it took.
    Server::shared().await;
    let mut copy = copy_that_holds_a_container();
    let pid = copy.id().unwrap();
    eventually(START_BOUND, "the copy has a container", async || {
        (!containers_of(pid).await.is_empty()).then_some(())
    })
    .await;
    copy.kill().await.unwrap();
    eventually(BOUND * 2, "its container is gone", async || {
        containers_of(pid).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_dead_process_has_left_is_swept_by_the_next() {
    Server::shared().await;
    let (image, owner) = containers_of(std::process::id()).await.pop().unwrap();
    // A process of this id that began at another time: it is no more.
    let (process, _began) = owner.rsplit_once('/').unwrap();
    let label = format!("{LABEL}={process}/1");
    let id = docker(&["create", "--label", &label, &image]).await;
    let is_there = async || {
        docker(&["ps", "--all", "--no-trunc"])
            .await
            .contains(id.trim())
    };
    assert!(is_there().await);

    let mut copy = copy_that_holds_a_container();
    eventually(START_BOUND, "the left container is swept", async || {
        (!is_there().await).then_some(())
    })
    .await;
    copy.kill().await.unwrap();
}

/// Says to a copy of this binary to hold a container until it is killed.
const HOLD: &str = "PGDEADLINE_TESTS_HOLD_A_CONTAINER";
/// The label of every container here.
const LABEL: &str = "pgdeadline-tests.owner";
/// A process, a container, on a machine that does other things.
const START_BOUND: Duration = Duration::from_secs(180);

fn copy_that_holds_a_container() -> tokio::process::Child {
    tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "server::no_container_outlives_a_process_that_is_killed",
        ])
        .env(HOLD, "yes")
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Image and owner of the containers of a process.
async fn containers_of(pid: u32) -> Vec<(String, String)> {
    let format = format!(r#"{{{{.Image}}}} {{{{.Label "{LABEL}"}}}}"#);
    let filter = format!("label={LABEL}");
    let listing = docker(&["ps", "--all", "--filter", &filter, "--format", &format]).await;
    let lines = listing.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter(|(_, owner)| owner.contains(&format!("/{pid}/")))
        .map(|(image, owner)| (image.into(), owner.into()))
        .collect()
}

async fn docker(arguments: &[&str]) -> String {
    let output = tokio::process::Command::new("docker")
        .args(arguments)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
