//! Docker's own command, for what testcontainers does not offer.

use std::net::IpAddr;
use std::time::Duration;

use tokio::process::Command;

/// What `docker ...` printed, or why it failed.
pub(crate) async fn docker(arguments: &[&str], bound: Duration) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(arguments);
    run(command, bound).await
}

/// A container's own address, on Docker's bridge.
pub(crate) async fn address(container: &str) -> IpAddr {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let answer = docker(&["inspect", "--format", format, container], ASK_BOUND).await;
    let answer = answer.unwrap_or_else(|error| panic!("docker inspect: {error}"));
    let address = answer.trim().parse();
    address.unwrap_or_else(|_| panic!("the container {container} has no address: {answer:?}"))
}

/// What the program printed, or why it failed: the end of what it complained.
pub(crate) async fn run(mut command: Command, bound: Duration) -> Result<String, String> {
    command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(bound, command.output()).await {
        Ok(output) => output.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no end within {bound:?}")),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = complaint.trim().lines().collect();
    Err(lines[lines.len().saturating_sub(20)..].join("\n"))
}

/// A Docker that has stopped answering would hold up every test.
pub(crate) const ASK_BOUND: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_says_what_the_program_complained_of() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no room >&2; exit 3"]);
        assert_eq!(run(command, ASK_BOUND).await, Err("no room".into()));
    }
}
