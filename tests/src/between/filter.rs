//! A packet filter in a server's own network namespace.

use crate::docker::{ASK_BOUND, docker};
use crate::server::{Server, image, reaper};

/// What becomes of new connections to a server; those there are go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// They are let in.
    Pass,
    /// Their first packet is dropped: nobody answers.
    Drop,
    /// They are refused, with a reset.
    Refuse,
}

impl Filter {
    /// Makes it so for whoever dials [`Server::address`].
    ///
    /// # Errors
    /// Where the kernel, or Docker, does not let a container filter.
    pub async fn apply(self, server: &Server) -> Result<(), String> {
        let verdict = match self {
            Filter::Pass => return nft(server, "delete table ip pgdeadline").await,
            Filter::Drop => "drop",
            Filter::Refuse => "reject with tcp reset",
        };
        let rules = format!(
            "table ip pgdeadline {{ chain newcomers {{ type filter hook input priority 0; \
             tcp dport 5432 tcp flags & (syn | ack) == syn {verdict}; }}; }}"
        );
        nft(server, &rules).await
    }
}

/// In a container beside the server's, for PostgreSQL's own has neither the
/// program nor the right to.
async fn nft(server: &Server, rules: &str) -> Result<(), String> {
    let image = image::find_proxies().await?.to_string();
    let label = format!("{}={}", reaper::LABEL, reaper::owner());
    let network = format!("container:{}", server.id());
    let arguments = [
        "run",
        "--rm",
        "--label",
        &label,
        "--network",
        &network,
        "--cap-add",
        "NET_ADMIN",
        &image,
        "nft",
        rules,
    ];
    docker(&arguments, ASK_BOUND).await.map(drop)
}
