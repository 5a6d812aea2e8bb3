//! Which session is behind a stock client.
//!
//! 1. A session is entered when its connection is made, by the key that its
//!    client holds too. A client whose key two open sessions have is matched
//!    to neither.
//! 2. From its first match on a client is known by the address of its own
//!    statement cache, which costs next to nothing to look up. A clone of the
//!    cache is kept, so that no other can come to that address.
//! 3. An [`Entry`] that is dropped takes all of it out again.
//!
//! One table for the process: [`within`](crate::ClientExt::within) is given a
//! client and nothing else, and a client's pool has no place of ours in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use deadpool_postgres::{ClientWrapper, StatementCache};
use pgdeadline::Session;

use crate::key::{self, ClientKey};

/// A session's place in the table.
#[derive(Debug)]
#[must_use = "the session is forgotten when its entry is dropped"]
pub(crate) struct Entry {
    id: u64,
    key: ClientKey,
}

/// Enters a session (rule 1).
pub(crate) fn enter(session: Session) -> Entry {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let key = session.client_key();
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let arrived = Arrived { id, session };
    table.by_key.entry(key).or_default().push(arrived);
    Entry { id, key }
}

/// The session behind a client; `None`: it is closed, or the client was made
/// by somebody else, or its statement cache is not its own any more.
pub(crate) fn of(client: &ClientWrapper) -> Option<Session> {
    let address = Arc::as_ptr(&client.statement_cache).addr();
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(matched) = table.by_cache.get(&address) {
        return Some(matched.session.clone());
    }
    drop(table);
    match_by_key(client)
}

fn match_by_key(client: &ClientWrapper) -> Option<Session> {
    let key = key::of(client)?;
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let mut open = table
        .by_key
        .get(&key)?
        .iter()
        .filter(|arrived| !arrived.session.is_closed());
    let (Some(arrived), None) = (open.next(), open.next()) else {
        return None;
    };
    let cache = Arc::clone(&client.statement_cache);
    let matched = Matched {
        id: arrived.id,
        session: arrived.session.clone(),
        cache,
    };
    let session = matched.session.clone();
    let address = Arc::as_ptr(&matched.cache).addr();
    table.by_cache.insert(address, matched);
    Some(session)
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(arrived) = table.by_key.get_mut(&self.key) {
            arrived.retain(|arrived| arrived.id != self.id);
            if arrived.is_empty() {
                table.by_key.remove(&self.key);
            }
        }
        // Dropped outside the lock: a cache drops statements.
        let forgotten: Vec<Matched> = table
            .by_cache
            .extract_if(|_, matched| matched.id == self.id)
            .map(|(_, matched)| matched)
            .collect();
        drop(table);
        drop(forgotten);
    }
}

#[derive(Default)]
struct Table {
    by_key: HashMap<ClientKey, Vec<Arrived>>,
    by_cache: HashMap<usize, Matched>,
}

struct Arrived {
    id: u64,
    session: Session,
}

struct Matched {
    id: u64,
    session: Session,
    /// Rule 2.
    cache: Arc<StatementCache>,
}

static TABLE: LazyLock<RwLock<Table>> = LazyLock::new(RwLock::default);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PgConnect;
    use deadpool_postgres::{Manager, ManagerConfig, Pool};
    use pgdeadline::dial::{Address, Dial, DialFuture, Socket, SocketOptions};
    use pgdeadline::{Connector, EofProof};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_postgres::NoTls;

    /// Lets everybody in, with the same key, and says no more.
    struct SameKey(ClientKey);

    impl Dial for SameKey {
        fn dial(&self, _: Address, _: SocketOptions) -> DialFuture {
            let (near, far) = tokio::io::duplex(1024);
            tokio::spawn(greet(far, self.0));
            Box::pin(async move { Ok(Socket::new(near)) })
        }

        fn resolve(&self, _: String, port: u16) -> pgdeadline::dial::ResolveFuture {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
        }
    }

    async fn greet(mut client: DuplexStream, key: ClientKey) {
        let mut start_up = [0; 8];
        client.read_exact(&mut start_up).await.unwrap();
        let mut greeting = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c".to_vec();
        greeting.extend(key.0.to_be_bytes());
        greeting.extend(key.1.to_be_bytes());
        greeting.extend(b"Z\0\0\0\x05I");
        client.write_all(&greeting).await.unwrap();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
    }

    /// A pool that does not look for its sessions by itself.
    fn pool(key: ClientKey) -> Pool {
        let config = "postgres://me@db.test/app".parse().unwrap();
        let connector = Connector::builder(config, NoTls)
            .dial(SameKey(key))
            .eof_proof(EofProof::Proof)
            .build()
            .unwrap();
        let connect = PgConnect::new(connector);
        let config = tokio_postgres::Config::new();
        let manager = Manager::from_connect(config, connect, ManagerConfig::default());
        Pool::builder(manager).max_size(4).build().unwrap()
    }

    fn is_known(key: ClientKey) -> bool {
        let table = TABLE.read().unwrap();
        let matched = table.by_cache.values();
        table.by_key.contains_key(&key) || matched.map(|m| m.session.client_key()).any(|k| k == key)
    }

    #[tokio::test]
    async fn a_session_is_found_as_long_as_its_client_is_there() {
        const KEY: ClientKey = (11, 12);
        let pool = pool(KEY);
        let client = pool.get().await.unwrap();
        for _ in 0..2 {
            assert_eq!(of(&client).unwrap().client_key(), KEY);
        }
        drop(deadpool_postgres::Object::take(client));
        while is_known(KEY) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_key_that_two_sessions_have_matches_neither() {
        let pool = pool((21, 22));
        let first = pool.get().await.unwrap();
        assert!(of(&first).is_some());
        let second = pool.get().await.unwrap();
        assert!(of(&second).is_none());
        assert!(of(&first).is_some(), "known by its cache");
    }
}
