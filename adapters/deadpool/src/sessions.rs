//! Which session is behind a stock client.
//!
//! 1. A session is entered when its connection is made, by the key that its
//!    client holds too. Servers may give the same key to several, so a match
//!    counts only where there is no choice: each session is matched once, and
//!    deadpool calls `post_create` in the very poll in which `connect` is done,
//!    so that the new client's session is the last that its thread has entered.
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
use std::thread::{self, ThreadId};

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
    table.by_key.entry(key).or_default().push(Arrived {
        id,
        session,
        by: thread::current().id(),
        matched: false,
    });
    Entry { id, key }
}

/// The session behind a client that was made in this very poll.
pub(crate) fn of_new(client: &ClientWrapper) -> Option<Session> {
    let thread = thread::current().id();
    match_by_key(client, |arrived| {
        let mut newest_first = arrived.into_iter().rev();
        newest_first.find(|arrived| arrived.by == thread)
    })
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
    // A pool without our hooks, at the first look.
    match_by_key(client, |mut arrived| match arrived.len() {
        1 => arrived.pop(),
        _ => None,
    })
}

/// Matches a client to the one that `choose` takes of the sessions that have
/// its key and are matched to nobody.
fn match_by_key(
    client: &ClientWrapper,
    choose: impl for<'a> FnOnce(Vec<&'a mut Arrived>) -> Option<&'a mut Arrived>,
) -> Option<Session> {
    let key = key::of(client)?;
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let arrived = table.by_key.get_mut(&key)?.iter_mut();
    let arrived = choose(arrived.filter(|arrived| !arrived.matched).collect())?;
    arrived.matched = true;
    let matched = Matched {
        id: arrived.id,
        session: arrived.session.clone(),
        cache: Arc::clone(&client.statement_cache),
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
    by: ThreadId,
    matched: bool,
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
    async fn of_sessions_with_one_key_only_the_newest_is_told_apart() {
        let pool = pool((21, 22));
        let first = pool.get().await.unwrap();
        let second = pool.get().await.unwrap();
        assert!(of(&first).is_none() && of(&second).is_none());
        let sessions = (of_new(&second).unwrap(), of(&first).unwrap());
        drop(deadpool_postgres::Object::take(second));
        sessions.0.closed().await;
        assert!(!sessions.1.is_closed());
    }
}
