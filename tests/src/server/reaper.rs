//! No container outlives the process that started it, however that ends.
//!
//! A destructor is not enough: a static is never dropped, and a process that
//! is killed drops nothing. So:
//!
//! 1. Before the first container, a shell is started that waits for the end of
//!    its input. The other end of that pipe is this process's alone; the
//!    kernel closes it when the process ends, by return, panic, abort or kill.
//!    The shell then removes every container that has this process's label.
//!    It is in a process group of its own: Ctrl-C does not reach it.
//! 2. Should the shell be killed too, the next test process removes what
//!    belongs to a process of this machine that is no more.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, OnceLock};

/// The label of every container of these tests; its value is [`owner`].
pub(crate) const LABEL: &str = "pgdeadline-tests.owner";

/// Containers may still be in the making when the process ends; hence again.
const SCRIPT: &str = r#"
cat >/dev/null
for pause in 0 2 5; do
    sleep $pause
    docker ps --all --quiet --filter "label=$1" | xargs -r docker rm --force --volumes
done
"#;

/// This process: machine, process id, and when it began, since ids come again.
pub(crate) fn owner() -> &'static str {
    static OWNER: LazyLock<String> = LazyLock::new(|| {
        let pid = std::process::id();
        let began = began(pid).unwrap_or_default();
        format!("{}/{pid}/{began}", machine())
    });
    &OWNER
}

/// Starts the shell (rule 1) and sweeps (rule 2), once a process.
pub(crate) fn start() -> Result<(), String> {
    // The child is kept: dropping it would close the pipe.
    static SHELL: OnceLock<Result<Child, String>> = OnceLock::new();
    let shell = SHELL.get_or_init(|| {
        sweep();
        Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(format!("{LABEL}={}", owner()))
            .stdin(Stdio::piped())
            // Whoever waits for the end of the tests' output waits for all who
            // hold it.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("the containers' reaper did not start: {error}"))
    });
    shell.as_ref().map(drop).map_err(Clone::clone)
}

/// Removes what dead processes of this machine have left. Whatever fails here
/// fails only to tidy up.
fn sweep() {
    let listing = Command::new("docker")
        .args(["ps", "--all", "--filter", &format!("label={LABEL}")])
        .args([
            "--format",
            &format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}"),
        ])
        .output();
    let Ok(listing) = listing else { return };
    for line in String::from_utf8_lossy(&listing.stdout).lines() {
        if let Some((id, owner)) = line.split_once(' ')
            && is_dead(owner)
        {
            let _ = Command::new("docker")
                .args(["rm", "--force", "--volumes", id])
                .output();
        }
    }
}

/// Whether an owner is known to have ended; of another machine's nothing is.
fn is_dead(owner: &str) -> bool {
    let mut parts = owner.rsplitn(3, '/');
    let (Some(time), Some(pid), Some(place)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(pid) = pid.parse() else { return false };
    // Without /proc nobody can be asked.
    Path::new("/proc/self/stat").exists()
        && place == machine()
        && began(pid).as_deref() != Some(time)
}

/// When a process began, in the kernel's ticks; `None`: there is no such one.
fn began(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything; the start time is
    // field 22, and the name is the second.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(22 - 3).map(str::to_owned)
}

/// The host's name and its boot: process ids are no older than that.
fn machine() -> String {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}"));
        text.unwrap_or_default().trim().to_owned()
    };
    format!("{}-{}", read("hostname"), read("random/boot_id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives() {
        assert!(!is_dead(owner()), "{}", owner());
    }

    #[test]
    fn a_process_that_began_at_another_time_is_another() {
        let (rest, _) = owner().rsplit_once('/').unwrap();
        assert!(is_dead(&format!("{rest}/1")));
    }

    #[test]
    fn of_another_machine_nothing_is_known() {
        assert!(!is_dead("elsewhere-0/1/1"));
        assert!(!is_dead("nonsense"));
    }
}
