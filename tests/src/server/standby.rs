//! A primary and its streaming standby.

use super::{PASSWORD, Server, StartOptions, USER};

impl StartOptions {
    /// Lets standbys in, and whoever asks the server without a password which
    /// of the two it is: the role `checker`, that may do nothing else.
    pub fn primary(self) -> StartOptions {
        self.init(PRIMARY)
    }
}

impl Server {
    /// A server that follows another, which was started as
    /// [`StartOptions::primary`].
    ///
    /// # Panics
    /// Where it can't be started, with what to do about it.
    pub async fn start_standby(primary: &Server) -> Server {
        let mut options = StartOptions::default()
            .file("/usr/local/bin/standby", 0o755, STANDBY)
            .env("PRIMARY", &primary.address().await.to_string())
            .env("USER", USER)
            .env("PGPASSWORD", PASSWORD);
        options.command = Some("standby".into());
        Server::start(options).await
    }
}

const STANDBY: &str = include_str!("../../../docker/standby");

/// The first line that fits counts in pg_hba.conf, so these go to the top.
const PRIMARY: &str = r#"
psql --username="$POSTGRES_USER" --dbname=postgres --command='CREATE ROLE checker LOGIN'
{
    echo 'host all checker all trust'
    echo "host replication $POSTGRES_USER all scram-sha-256"
    cat "$PGDATA/pg_hba.conf"
} >"$PGDATA/pg_hba.new"
cat "$PGDATA/pg_hba.new" >"$PGDATA/pg_hba.conf"
rm "$PGDATA/pg_hba.new"
"#;
