//! Several hosts, several addresses, several kinds of server.

use tokio::time::Instant;

use super::*;
use crate::session::Connection;

type Connected = Result<(tokio_postgres::Client, Connection), Error>;

async fn connect(network: &Network, config: &str) -> Connected {
    let ctx = Context::background().with_timeout(9 * S);
    network.connector(config).connect(&ctx).await
}

async fn error(network: &Network, config: &str) -> String {
    connect(network, config)
        .await
        .expect_err("it can't connect")
        .to_string()
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_does_not_eat_the_next_hosts_time() {
    for conduct in [Conduct::BlackHole, Conduct::Silent] {
        let network = Network::new(&[("10.0.0.1:1", conduct), ("10.0.0.3:1", SERVES)]);
        let start = Instant::now();
        // Each of three gets a third; the second fails at once.
        let config = "host=10.0.0.1,10.0.0.2,10.0.0.3 port=1 user=me";
        drop(connect(&network, config).await.unwrap());
        assert_eq!(start.elapsed(), 3 * S);
        assert_eq!(
            network.dialled(),
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_names_every_host_and_what_was_wrong_with_it() {
    let network = Network::new(&[
        ("10.0.0.1:1", Conduct::Silent),
        ("10.0.0.2:1", Conduct::Refuses),
        (
            "10.0.0.3:1",
            Conduct::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ),
    ]);
    let error = error(
        &network,
        "host=10.0.0.1,10.0.0.2,nowhere,10.0.0.3 port=1 user=me",
    )
    .await;
    for part in [
        "10.0.0.1:1: the server did not finish authentication and start-up within 2.25s",
        "10.0.0.2:1: connection refused: is PostgreSQL running there",
        "\"nowhere\" could not be looked up (Name or service not known)",
        "not a PostgreSQL server: its answer begins with \"HTTP/\"",
    ] {
        assert!(error.contains(part), "{part}\n{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_of_a_name_are_raced() {
    let network = Network::new(&[("[::1]:1", Conduct::BlackHole), ("10.0.0.1:1", SERVES)])
        .name("db", &["[::1]:1", "[::2]:1", "10.0.0.1:1"]);
    let start = Instant::now();
    drop(connect(&network, "host=db port=1 user=me").await.unwrap());
    assert_eq!(start.elapsed(), 250 * MS);
    assert_eq!(network.dialled(), ["[::1]:1", "10.0.0.1:1"]);
    nothing_is_open(&network).await;
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_is_each_addresss_own() {
    let network = Network::new(&[
        ("10.0.0.1:1", Conduct::BlackHole),
        ("10.0.0.2:1", Conduct::BlackHole),
    ])
    .name("db", &["10.0.0.1:1", "10.0.0.2:1"]);
    let start = Instant::now();
    let error = error(&network, "host=db port=1 user=me connect_timeout=2").await;
    assert_eq!(start.elapsed(), 2 * S + 250 * MS);
    assert_eq!(
        error.matches("within connect_timeout (2s)").count(),
        2,
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_address_that_fails_after_connecting_gives_way_to_the_next() {
    let network = Network::new(&[
        ("10.0.0.1:1", Conduct::Says(b"SSH-2.0-OpenSSH_9.2\r\n")),
        ("10.0.0.2:1", Conduct::Slow(20 * MS)),
    ])
    .name("db", &["10.0.0.1:1", "10.0.0.2:1"]);
    drop(connect(&network, "host=db port=1 user=me").await.unwrap());
    assert_eq!(network.dialled(), ["10.0.0.1:1", "10.0.0.2:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_address_takes_its_share_from_its_own_family_only() {
    let servers = [
        ("10.0.0.1:1", Conduct::Silent),
        ("10.0.0.2:1", SERVES),
        ("[::1]:1", SERVES),
    ];
    for (names, took) in [
        (["10.0.0.1:1", "10.0.0.2:1"], 4500 * MS),
        (["10.0.0.1:1", "[::1]:1"], 9000 * MS),
    ] {
        let network = Network::new(&servers).name("db", &names);
        let start = Instant::now();
        let connected = connect(&network, "host=db port=1 user=me").await;
        assert_eq!(start.elapsed(), took);
        assert_eq!(connected.is_ok(), took < 9 * S);
    }
}

#[tokio::test(start_paused = true)]
async fn target_session_attrs_goes_on_to_a_server_of_the_right_kind() {
    let network = Network::new(&[
        ("10.0.0.1:1", Conduct::Serves { read_only: true }),
        ("10.0.0.2:1", Conduct::Serves { read_only: false }),
    ])
    .name("db", &["10.0.0.1:1", "10.0.0.2:1"]);
    for (config, dials) in [
        ("host=10.0.0.1,10.0.0.2 target_session_attrs=any", 1),
        ("host=10.0.0.1,10.0.0.2 target_session_attrs=read-write", 2),
        ("host=db target_session_attrs=read-write", 2),
        ("host=10.0.0.1,10.0.0.2 target_session_attrs=read-only", 1),
        ("host=10.0.0.2,10.0.0.1 target_session_attrs=read-only", 2),
    ] {
        network.state().dialled.clear();
        drop(
            connect(&network, &format!("{config} port=1 user=me"))
                .await
                .unwrap(),
        );
        assert_eq!(network.dialled().len(), dials, "{config}");
    }
    for (config, text) in [
        (
            "host=10.0.0.1 target_session_attrs=read-write",
            "takes no writes",
        ),
        (
            "host=10.0.0.2 target_session_attrs=read-only",
            "takes writes",
        ),
    ] {
        let error = error(&network, &format!("{config} port=1 user=me")).await;
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn load_balancing_spreads_over_the_addresses_of_a_name() {
    let addresses = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"];
    let network = Network::new(&addresses.map(|a| (a, SERVES))).name("db", &addresses);
    for _ in 0..100 {
        drop(
            connect(&network, "host=db user=me load_balance_hosts=random")
                .await
                .unwrap(),
        );
    }
    let dialled: std::collections::HashSet<_> = network.dialled().into_iter().collect();
    assert_eq!(dialled.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_address_says_so() {
    let network = Network::default().name("db", &[]);
    let error = error(&network, "host=db user=me").await;
    assert!(error.contains("\"db\" has no address"), "{error}");
}
