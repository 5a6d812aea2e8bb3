//! What stands between a client and its server: pgbouncer, HAProxy, a packet
//! filter; real ones, in a container of the image `pgdeadline-proxies`.
//!
//! They are reached by the container's own address, so that Docker's proxy for
//! published ports, which accepts and closes by rules of its own, is not
//! between the two as well. That needs a Docker that runs on this machine's own
//! kernel.

mod filter;
mod haproxy;
mod pgbouncer;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use testcontainers::core::WaitFor;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, CopyTargetOptions, GenericImage, ImageExt};
use tokio::net::TcpStream;
use tokio_postgres::Config;

pub use filter::Filter;
pub use haproxy::Haproxy;
pub use pgbouncer::{Mode, Pgbouncer, Version};

use crate::docker::{ASK_BOUND, address, docker};
use crate::server::{DATABASE, PASSWORD, USER, image, reaper};

/// One container; it goes when this is dropped.
pub struct Between {
    container: ContainerAsync<GenericImage>,
    address: IpAddr,
}

impl Between {
    /// Runs a shell script on these files (path and content), and waits until
    /// somebody listens on each of the ports.
    ///
    /// # Panics
    /// Where that does not come about, with what to do.
    pub async fn start(script: &str, files: &[(&str, String)], ports: &[u16]) -> Between {
        let image = image::find_proxies().await;
        let image = image.unwrap_or_else(|message| panic!("{message}"));
        reaper::start().unwrap_or_else(|message| panic!("{message}"));
        let mut request = GenericImage::new(&image.repository, &image.tag)
            .with_wait_for(WaitFor::Nothing)
            .with_label(reaper::LABEL, reaper::owner())
            .with_cmd(["sh", "-c", script]);
        for (path, content) in files {
            let target = CopyTargetOptions::new(*path).with_mode(0o644);
            request = request.with_copy_to(target, content.clone().into_bytes());
        }
        let container = request.start().await;
        let container = container.unwrap_or_else(|e| panic!("a container of {image}: {e}"));
        let address = address(container.id()).await;
        let between = Between { container, address };
        for port in ports {
            between.wait_ready(*port).await;
        }
        between
    }

    /// Where its programs listen.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// A configuration for a server behind this port, with an application name
    /// that nobody else has.
    pub fn config(&self, port: u16) -> Config {
        let mut config = Config::new();
        config
            .host(self.address.to_string())
            .port(port)
            .user(USER)
            .password(PASSWORD)
            .dbname(DATABASE)
            .application_name(crate::server::fresh_application_name());
        config
    }

    /// What a program in the container prints.
    async fn ask(&self, command: &[&str]) -> String {
        let arguments = [&["exec", self.container.id()], command].concat();
        let answer = docker(&arguments, ASK_BOUND).await;
        answer.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    async fn wait_ready(&self, port: u16) {
        let began = Instant::now();
        loop {
            let dial = TcpStream::connect((self.address, port));
            match tokio::time::timeout(Duration::from_secs(5), dial).await {
                Ok(Ok(_)) => return,
                _ if began.elapsed() < START_BOUND => {}
                other => panic!(
                    "nobody listens on {}:{port} ({other:?}); its log:\n{}",
                    self.address,
                    self.log().await
                ),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All that its programs have said.
    pub async fn log(&self) -> String {
        let mut log = self.container.stdout_to_vec().await.unwrap_or_default();
        log.extend(self.container.stderr_to_vec().await.unwrap_or_default());
        String::from_utf8_lossy(&log).into_owned()
    }
}

/// They start in no time, on a machine that may be building at the same time.
const START_BOUND: Duration = Duration::from_secs(60);
