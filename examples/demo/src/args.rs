//! The command line.

use clap::{Parser, Subcommand};

use crate::stack::Door;

/// Bare deadpool and sqlx beside the same pools through pgdeadline, on a real
/// PostgreSQL: when the caller returned, when the server stopped, and who served
/// the next query.
///
/// With no option it finds a PostgreSQL by itself: DATABASE_URL; else the
/// machine's own binaries, in a temporary directory; else Docker. What it
/// starts it stops again, on Ctrl-C too.
#[derive(Debug, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo", after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// A server to use, without TLS; the demo makes one small table there and drops it again
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub(crate) url: Option<String>,

    /// Run PostgreSQL in Docker, whatever else there is
    #[arg(long, global = true)]
    pub(crate) docker: bool,

    /// How many deadlines the promptness figures of each pool are taken from (0: none)
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) rounds: usize,

    /// Print what pgdeadline does, as it does it, to standard error
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to run instead of the side-by-side table.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let deadlines fall about where queries end, and look whether an innocent query is hit
    Race {
        /// How many such queries on each pool
        #[arg(long, default_value_t = 3_000, value_name = "N")]
        rounds: usize,

        /// Which pool they go through [default: both, one after the other]
        #[arg(long, value_name = "POOL")]
        door: Option<Door>,
    },
}

impl Args {
    /// The server that the user named, if any: `--docker` outranks
    /// DATABASE_URL, and an empty variable is none.
    pub(crate) fn named_server(&self) -> Option<&str> {
        self.url
            .as_deref()
            .filter(|url| !self.docker && !url.is_empty())
    }
}

const AFTER_HELP: &str = "\
Exit status: 0 when pgdeadline kept its word, 1 when it missed or the demo could not run, 2 for a
wrong option, 130 or 143 after a signal.

Docker images, in this order: PGDEADLINE_TEST_IMAGE, pgdeadline-postgres:MAJOR, postgres:MAJOR, else
one built by docker/build-image; MAJOR is PGDEADLINE_TEST_MAJOR, or 17.";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).expect("parses")
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn docker_outranks_a_url_and_an_empty_url_is_none() {
        assert_eq!(
            parse("demo --url postgres://h").named_server(),
            Some("postgres://h")
        );
        assert_eq!(
            parse("demo --docker --url postgres://h").named_server(),
            None
        );
        assert_eq!(parse("demo --url=").named_server(), None);
    }

    #[test]
    fn options_for_the_server_are_taken_after_the_subcommand_too() {
        let args = parse("demo race --rounds 7 --url postgres://h");
        assert_eq!(args.named_server(), Some("postgres://h"));
        assert!(matches!(
            args.command,
            Some(Command::Race {
                rounds: 7,
                door: None
            })
        ));
    }
    #[test]
    fn a_race_is_through_the_pool_that_is_named() {
        for (line, named) in [
            ("demo race", None),
            ("demo race --door deadpool", Some(Door::Deadpool)),
            ("demo race --door sqlx", Some(Door::Sqlx)),
        ] {
            match parse(line).command {
                Some(Command::Race { door, .. }) => assert_eq!(door, named, "{line}"),
                other => panic!("{line} gave {other:?}"),
            }
        }
        assert!(Args::try_parse_from(["demo", "race", "--door", "jdbc"]).is_err());
    }
}
