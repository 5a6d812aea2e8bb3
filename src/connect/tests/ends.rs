//! Every phase of a connect, ended by a deadline, a cancel, the connector's
//! own bound, and a drop.

use tokio::time::Instant;

use super::*;
use crate::error::Phase;

/// A configuration, the conduct of the server at 10.0.0.1, and the phase in
/// which a connect hangs.
const PHASES: [(&str, Conduct, Phase); 6] = [
    ("host=lost user=me", SERVES, Phase::Resolve),
    ("host=10.0.0.1 user=me", Conduct::BlackHole, Phase::Connect),
    ("host=10.0.0.1 user=me", Conduct::Silent, Phase::Tls),
    (
        "host=10.0.0.1 user=me",
        Conduct::AnswersTls(b"S"),
        Phase::Tls,
    ),
    (
        "host=10.0.0.1 user=me sslmode=disable",
        Conduct::Silent,
        Phase::StartUp,
    ),
    (
        "host=10.0.0.1 user=me password=x sslmode=disable",
        Conduct::SilentInAuthentication,
        Phase::StartUp,
    ),
];

fn network(conduct: Conduct) -> Network {
    Network::new(&[("10.0.0.1:5432", conduct)])
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_connect_in_every_phase() {
    for (config, conduct, phase) in PHASES {
        let network = network(conduct);
        let ctx = Context::background().with_timeout(70 * MS);
        let start = Instant::now();

        let error = failing(&network.tls_connector(config), &ctx).await;

        assert_eq!(start.elapsed(), 70 * MS, "{phase}");
        assert!(error.is_deadline(), "{phase}: {error}");
        assert_eq!(error.phase(), Some(phase));
        assert_eq!(error.was_sent(), Some(false));
        nothing_is_open(&network).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_connect_in_every_phase_and_is_no_time_out() {
    for (config, conduct, phase) in PHASES {
        let network = network(conduct);
        let ctx = Context::background().with_timeout(S);
        let start = Instant::now();
        let connector = network.tls_connector(config);
        let connect = tokio::spawn({
            let ctx = ctx.context().clone();
            async move { failing(&connector, &ctx).await }
        });
        tokio::time::sleep(30 * MS).await;

        ctx.cancel_with("enough");

        let error = connect.await.unwrap();
        assert_eq!(start.elapsed(), 30 * MS, "{phase}");
        assert!(
            error.is_cancelled() && !error.is_deadline(),
            "{phase}: {error}"
        );
        assert_eq!(error.phase(), Some(phase));
        assert!(error.to_string().contains("enough"), "{error}");
        nothing_is_open(&network).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_the_connectors_own_bound_ends_it() {
    for (config, conduct, phase) in PHASES {
        let network = network(conduct);
        let start = Instant::now();

        let error = failing(&network.tls_connector(config), &Context::background()).await;

        assert_eq!(start.elapsed(), 10 * S, "{phase}");
        assert!(error.is_connect() && !error.is_end(), "{error}");
        assert_eq!(error.phase(), Some(phase));
        assert!(error.to_string().contains("within 10"), "{error}");
        nothing_is_open(&network).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connect_leaves_nothing_open() {
    for (config, conduct, phase) in PHASES {
        let network = network(conduct);
        let (connector, ctx) = (network.tls_connector(config), Context::background());
        let dropped = tokio::time::timeout(30 * MS, connector.connect(&ctx)).await;
        assert!(dropped.is_err(), "{phase}");
        nothing_is_open(&network).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_around_the_connect_is_told_the_phase() {
    for (config, conduct, phase) in PHASES {
        let connector = network(conduct).tls_connector(config);
        let outer = Context::background().with_timeout(50 * MS);
        let error = outer.run(connector.connect(&Context::background())).await;
        let error = error.expect_err("it can't connect");
        assert!(error.is_deadline(), "{error}");
        assert_eq!(error.phase(), Some(phase));
        assert_eq!(error.was_sent(), Some(false));
    }
}

#[tokio::test(start_paused = true)]
async fn under_a_context_that_has_ended_nothing_is_asked_of_anybody() {
    let network = network(SERVES).name("db", &["10.0.0.1:5432"]);
    let connector = network.connector("host=db user=me");
    let cancelled = Context::background().child();
    cancelled.cancel();
    let past = Context::background().with_timeout(Duration::ZERO);

    for ctx in [&cancelled, &past] {
        let error = failing(&connector, ctx).await;
        assert!(error.is_end());
        assert_eq!(error.phase(), Some(Phase::Outside));
    }
    assert_eq!((network.dialled().len(), network.state().resolved), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_bound_that_was_asked_for_counts_beside_the_contexts_deadline() {
    let network = network(Conduct::BlackHole);
    let config = "host=10.0.0.1 user=me";
    let bounded = network.builder(config).connect_deadline(S).build().unwrap();
    for (connector, timeout, ends) in [
        (&bounded, 60 * S, S),
        (&bounded, 500 * MS, 500 * MS),
        (&network.connector(config), 60 * S, 60 * S),
    ] {
        let ctx = Context::background().with_timeout(timeout);
        let start = Instant::now();
        failing(connector, &ctx).await;
        assert_eq!(start.elapsed(), ends);
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_bound_does_not_cut_connect_timeout_short() {
    let network = network(Conduct::BlackHole);
    let start = Instant::now();
    let config = "host=10.0.0.1,10.0.0.1 user=me connect_timeout=20";
    failing(&network.connector(config), &Context::background()).await;
    assert_eq!(start.elapsed(), 40 * S);
}

#[tokio::test(start_paused = true)]
async fn what_had_failed_before_the_end_is_its_source() {
    let network = network(Conduct::BlackHole);
    let ctx = Context::background().with_timeout(S);
    let connector = network.connector("host=nowhere,10.0.0.1 user=me");
    let error = failing(&connector, &ctx).await;
    assert!(error.is_deadline());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("nowhere:5432"), "{source}");
    assert!(source.contains("Name or service not known"), "{source}");
}
