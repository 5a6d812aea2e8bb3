//! Pools that are set up wrongly, and servers that are not what they should
//! be: each an error that says so.

use deadpool_postgres::{Manager, ManagerConfig};
use pgdeadline::{Connector, Context};
use pgdeadline_deadpool::{Builder, PgConnect, PoolExt};
use pgdeadline_tests::scripted::{DialOutcome, Net};
use tokio_postgres::NoTls;

use super::{LONG, Obedient, SHORT, Shared, found, scripted, scripted_pool};

#[tokio::test(start_paused = true)]
async fn a_manager_with_another_configuration_is_refused() {
    let net = Net::new();
    let connector = scripted(&net).build().unwrap();
    let mut other = net.config();
    other.dbname("other");
    let connect = PgConnect::new(connector.clone());
    let manager = Manager::from_connect(other, connect, ManagerConfig::default());
    let pool = Builder::new(connector).manager(manager).build().unwrap();
    let error = pool.get().await.unwrap_err();
    assert!(found(&error).is_config(), "{error}");
    assert!(found(&error).to_string().contains("another configuration"));
    assert_eq!(net.dials(), 0);
}

#[tokio::test]
async fn a_manager_that_connects_without_pgdeadline_is_refused() {
    let (server, _, connector) = Shared::connector().await;
    let manager = Manager::new(server.config(), NoTls);
    let pool = Builder::new(connector.build().unwrap())
        .manager(manager)
        .build()
        .unwrap();
    let error = pool.get().await.unwrap_err().to_string();
    assert!(error.contains("was not made by pgdeadline"), "{error}");
    assert!(error.contains("PgConnect"), "{error}");
}

#[tokio::test]
async fn credentials_from_a_provider_reach_every_connection() {
    let (server, ..) = Shared::connector().await;
    let config = server.config();
    let provider = move || std::future::ready(std::io::Result::Ok(config.clone()));
    let connector = Connector::builder_with_provider(provider, NoTls)
        .build()
        .unwrap();
    let pool = Builder::new(connector).max_size(2).build().unwrap();
    let (one, two) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    one.batch_execute("SELECT 1").await.unwrap();
    two.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_the_servers_error() {
    let (server, ..) = Shared::connector().await;
    let mut config = server.config();
    config.password("wrong");
    let connector = Connector::new(config, NoTls).unwrap();
    let pool = Builder::new(connector).build().unwrap();
    let ctx = Context::background().with_timeout(LONG);
    let error = pool.acquire(&ctx).await.unwrap_err();
    assert!(error.to_string().contains("password"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_is_named_by_the_error() {
    let net = Net::new();
    net.all_dials(DialOutcome::Refuse);
    let pool = scripted_pool(&net, |builder| builder.max_size(1));
    let error = pool.get().await.unwrap_err();
    assert!(found(&error).is_connect(), "{error}");
    assert!(found(&error).is_retry_safe());
    net.all_dials(DialOutcome::Accept);
    Obedient::serve(&net);
    assert!(pool.get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_sends_no_key_is_matched_all_the_same() {
    use pgdeadline_tests::scripted::{Expect, message};
    let net = Net::new();
    let pool = scripted_pool(&net, |builder| builder.max_size(1));
    let server = async {
        let mut backend = net.backend().await;
        backend
            .send([message::authentication_ok(), message::ready_for_query(b'I')])
            .await;
        backend.expect(Expect::query("SELECT slow()")).await;
        backend
    };
    let work = async {
        let ctx = Context::background().with_timeout(SHORT);
        let client = pool.acquire(&ctx).await.unwrap();
        let error = client.batch_execute("SELECT slow()").await.unwrap_err();
        assert!(found(&error).is_deadline(), "{error}");
    };
    let (_backend, ()) = tokio::join!(server, work);
}
