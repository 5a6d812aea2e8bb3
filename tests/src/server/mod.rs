//! Real PostgreSQL servers, in containers.
//!
//! 1. [`Server::shared`] is one container a test binary, started by the first
//!    test that asks. Tests tell their backends by application name.
//! 2. [`Server::start`] is a container of the test's own, for what others must
//!    not feel: pausing, stopping, other settings. Its port stays the same
//!    over a restart.
//! 3. No container outlives its test process, however that ends (`reaper`).
//! 4. Without Docker the tests that need it fail, and say what to do (`image`).
//!
//! The major version is `PGDEADLINE_TEST_MAJOR`, or 17.
//!
//! Containers live in real time: no test that uses one may pause tokio's clock.

mod activity;
mod certificates;
pub(crate) mod image;
mod options;
pub(crate) mod reaper;
mod standby;

use std::net::IpAddr;
use std::time::Duration;

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, CopyTargetOptions, GenericImage, ImageExt};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

use crate::docker::{ASK_BOUND, address, docker};

pub use activity::Backend;
pub(crate) use activity::fresh_application_name;
pub use certificates::Certificates;
pub use options::StartOptions;

/// The superuser of every server here.
pub const USER: &str = "postgres";
/// Its password.
pub const PASSWORD: &str = "pgdeadline";
/// The database that a [`Server::config`] connects to.
pub const DATABASE: &str = "postgres";

/// A PostgreSQL server in a container.
pub struct Server {
    container: ContainerAsync<GenericImage>,
    port: u16,
    certificates: Option<Certificates>,
}

/// How long a server may take to answer: it first makes its cluster, on a
/// machine that may be building at the same time.
const START_BOUND: Duration = Duration::from_secs(180);

/// Somebody else may take the free port before Docker does.
const START_ATTEMPTS: usize = 5;

const POSTGRES_PORT: u16 = 5432;

static SHARED: OnceCell<Result<Server, String>> = OnceCell::const_new();

impl Server {
    /// The server that the tests of this binary share. It speaks TLS too.
    ///
    /// # Panics
    /// Where it can't be started, with what to do about it.
    pub async fn shared() -> &'static Server {
        let options = StartOptions::default()
            .settings(["max_connections=400"])
            .tls();
        // A failure is kept: the second test fails as fast as Docker is absent.
        match SHARED.get_or_init(|| try_start(options)).await {
            Ok(server) => server,
            Err(message) => panic!("{message}"),
        }
    }

    /// A server of the test's own; its container goes when this is dropped.
    ///
    /// # Panics
    /// Where it can't be started, with what to do about it.
    pub async fn start(options: StartOptions) -> Server {
        match try_start(options).await {
            Ok(server) => server,
            Err(message) => panic!("{message}"),
        }
    }

    /// A configuration with an application name that nobody else has.
    pub fn config(&self) -> Config {
        let mut config = self.plain_config();
        config.application_name(activity::fresh_application_name());
        config
    }

    /// The same as a URL; each call has another application name.
    pub fn url(&self) -> String {
        format!(
            "postgres://{USER}:{PASSWORD}@{}:{}/{DATABASE}?application_name={}",
            self.host(),
            self.port,
            activity::fresh_application_name()
        )
    }

    /// Where the server listens; an IPv4 address, never a name.
    pub fn host(&self) -> &'static str {
        // Docker publishes ports on all addresses of the machine. "localhost"
        // could mean ::1, where an older Docker does not listen.
        "127.0.0.1"
    }

    /// The port, the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the server listens, on its own port 5432, for other containers and
    /// for this machine: without Docker's own proxy in between, which stands
    /// before [`Server::port`] and accepts what the server does not.
    ///
    /// # Panics
    /// When Docker does not say.
    pub async fn address(&self) -> IpAddr {
        address(self.container.id()).await
    }

    /// As [`Server::config`], by [`Server::address`].
    pub async fn direct_config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(self.address().await.to_string())
            .port(POSTGRES_PORT)
            .user(USER)
            .password(PASSWORD)
            .dbname(DATABASE)
            .application_name(activity::fresh_application_name());
        config
    }

    /// Its container, as Docker calls it.
    pub(crate) fn id(&self) -> &str {
        self.container.id()
    }

    /// A stock client for the test's own questions.
    ///
    /// # Panics
    /// When the server can't be reached.
    pub async fn admin(&self) -> Client {
        match self.try_admin().await {
            Ok(client) => client,
            Err(error) => panic!("the test server on port {} refused: {error}", self.port),
        }
    }

    /// The certificates of a server that speaks TLS.
    ///
    /// # Panics
    /// For one that was started without.
    pub fn certificates(&self) -> &Certificates {
        self.certificates
            .as_ref()
            .expect("started without TLS: use StartOptions::tls")
    }

    /// Freezes every process of the server: sockets stay, nothing answers.
    pub async fn pause(&self) {
        self.container.pause().await.expect("docker pause");
    }

    /// Ends [`Server::pause`].
    pub async fn unpause(&self) {
        self.container.unpause().await.expect("docker unpause");
    }

    /// Shuts the server down, as an operator would (fast shutdown).
    pub async fn stop(&self) {
        self.container
            .stop_with_timeout(Some(30))
            .await
            .expect("docker stop");
    }

    /// Kills every process of the server: nobody is told, nothing is saved.
    ///
    /// # Panics
    /// When Docker does not do it.
    pub async fn kill(&self) {
        let killed = docker(&["kill", self.container.id()], ASK_BOUND).await;
        killed.expect("docker kill");
    }

    /// Stops, starts, and waits until it answers; data and port stay.
    pub async fn restart(&self) {
        self.stop().await;
        self.container.start().await.expect("docker start");
        if let Err(message) = self.wait_ready().await {
            panic!("{message}");
        }
    }

    fn plain_config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(self.host())
            .port(self.port)
            .user(USER)
            .password(PASSWORD)
            .dbname(DATABASE);
        config
    }

    async fn try_admin(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config = self.plain_config();
        config.application_name("pgdeadline-tests-admin");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Ready is who answers on the port. A line in the log is not: the image
    /// prints it first for a server without a port, that makes the database.
    async fn wait_ready(&self) -> Result<(), String> {
        let began = std::time::Instant::now();
        loop {
            let attempt = tokio::time::timeout(Duration::from_secs(5), self.try_admin()).await;
            let error = match attempt {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer within 5 s".into(),
            };
            let running = self.container.is_running().await.unwrap_or(false);
            if !running || began.elapsed() > START_BOUND {
                let state = if running {
                    "does not answer"
                } else {
                    "has ended"
                };
                return Err(format!(
                    "the PostgreSQL container {state} ({error}); its log ends:\n{}",
                    self.log_tail().await
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn log_tail(&self) -> String {
        let mut log = self.container.stdout_to_vec().await.unwrap_or_default();
        log.extend(self.container.stderr_to_vec().await.unwrap_or_default());
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

async fn try_start(options: StartOptions) -> Result<Server, String> {
    let image = image::find().await?;
    reaper::start()?;
    let certificates = options.tls.then(Certificates::generate);
    let mut attempt = 1;
    let (container, port) = loop {
        let port = free_port();
        match request(&image, &options, certificates.as_ref(), port)
            .start()
            .await
        {
            Ok(container) => break (container, port),
            Err(error) if attempt == START_ATTEMPTS => {
                return Err(format!("a container of {image} did not start: {error}"));
            }
            Err(_) => attempt += 1,
        }
    };
    let server = Server {
        container,
        port,
        certificates,
    };
    server.wait_ready().await?;
    Ok(server)
}

fn request(
    image: &image::Name,
    options: &StartOptions,
    certificates: Option<&Certificates>,
    port: u16,
) -> testcontainers::ContainerRequest<GenericImage> {
    let mut request = GenericImage::new(&image.repository, &image.tag)
        .with_wait_for(WaitFor::Nothing)
        .with_mapped_port(port, POSTGRES_PORT.tcp())
        .with_label(reaper::LABEL, reaper::owner())
        .with_env_var("POSTGRES_USER", USER)
        .with_env_var("POSTGRES_PASSWORD", PASSWORD)
        // PostgreSQL 13 would keep the password as MD5, unless told so.
        .with_env_var("POSTGRES_HOST_AUTH_METHOD", "scram-sha-256")
        .with_env_var(
            "POSTGRES_INITDB_ARGS",
            "--no-sync --auth-host=scram-sha-256",
        );
    for (name, value) in &options.env {
        request = request.with_env_var(name, value);
    }
    for (path, mode, content) in &options.files {
        let target = CopyTargetOptions::new(path).with_mode(*mode);
        request = request.with_copy_to(target, content.clone().into_bytes());
    }
    let mut command = match &options.command {
        Some(command) => vec![command.clone()],
        None => vec!["postgres".into()],
    };
    // A test's data need not survive the machine.
    command.extend(["-c".into(), "fsync=off".into()]);
    if let Some(certificates) = certificates {
        for (path, content) in certificates.files() {
            request = request.with_copy_to(CopyTargetOptions::new(path).with_mode(0o600), content);
        }
        command.extend(Certificates::SERVER_ARGS.map(Into::into));
    }
    command.extend(options.args.iter().cloned());
    if certificates.is_some() {
        // The key must be PostgreSQL's own file, and its user has another
        // number in every image; so it is handed over inside.
        let mut wrapped = vec![
            "sh".into(),
            "-c".into(),
            Certificates::INSTALL.into(),
            "sh".into(),
        ];
        wrapped.append(&mut command);
        command = wrapped;
    }
    request.with_cmd(command)
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("0.0.0.0", 0)).expect("a free port");
    listener.local_addr().expect("a bound listener").port()
}
