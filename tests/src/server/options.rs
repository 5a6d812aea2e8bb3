//! What a server of one's own is started with.

/// What a server of one's own is started with.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Arguments to `postgres`, such as `["-c", "max_connections=10"]`.
    pub args: Vec<String>,
    /// More variables for the image, such as `("POSTGRES_DB", "shop")`.
    pub env: Vec<(String, String)>,
    /// Whether the server speaks TLS (and plain too, as PostgreSQL does).
    pub tls: bool,
    /// What runs in place of the image's `postgres`, with the same arguments.
    pub(super) command: Option<String>,
    /// Path in the container, mode and content of each.
    pub(super) files: Vec<(String, u32, String)>,
}

impl StartOptions {
    /// Adds settings, as `-c name=value`.
    pub fn settings<'a>(mut self, settings: impl IntoIterator<Item = &'a str>) -> StartOptions {
        for setting in settings {
            self.args.extend(["-c".into(), setting.into()]);
        }
        self
    }

    /// Adds a variable for the image.
    pub fn env(mut self, name: &str, value: &str) -> StartOptions {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Turns TLS on.
    pub fn tls(mut self) -> StartOptions {
        self.tls = true;
        self
    }

    /// A script that runs once, on the new cluster, whose files are in
    /// `$PGDATA` and whose server is there for `psql`.
    pub fn init(self, script: &str) -> StartOptions {
        self.file("/docker-entrypoint-initdb.d/init.sh", 0o755, script)
    }

    pub(super) fn file(mut self, path: &str, mode: u32, content: &str) -> StartOptions {
        self.files.push((path.into(), mode, content.into()));
        self
    }
}
