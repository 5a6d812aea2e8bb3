//! What is taken from the configuration, and what is checked before anything
//! is dialled.
//!
//! A fixed configuration is checked when the connector is built, one from a
//! provider each time it is given.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};

use super::dial::{Keepalive, SocketOptions};
use super::hosts::Host;
use crate::error::Error;
use crate::settings::Settings;

/// Reads a URL or a `key=value` string.
///
/// # Errors
/// Says what could not be read, and never repeats the string, which may hold a
/// password.
pub(super) fn parse(string: &str) -> Result<Config, Error> {
    const EXPECTED: &str = "expected postgres://user:password@host:port/database or \
         \"host=... user=... dbname=...\"";
    if string.trim().is_empty() {
        return Err(Error::config(format!(
            "the connection string is empty: {EXPECTED}"
        )));
    }
    // tokio-postgres would take a URL of another scheme for a key, and repeat
    // it with its password.
    if let Some((scheme, _)) = string.split_once("://")
        && !matches!(scheme, "postgres" | "postgresql")
        && !scheme.contains('=')
    {
        return Err(Error::config(format!(
            "the connection string has an unknown scheme: {EXPECTED}"
        )));
    }
    string.parse().map_err(|error: tokio_postgres::Error| {
        let text = super::failure::chain(&error);
        let text = format!("the connection string could not be read ({text}): {EXPECTED}");
        Error::config_because(text, error)
    })
}

/// Refuses a configuration that no server could satisfy.
pub(super) fn check(config: &Config, can_tls: bool) -> Result<(), Error> {
    Host::list(config)?;
    let mode = config.get_ssl_mode();
    if mode == SslMode::Require && !can_tls {
        return Err(Error::config(
            "sslmode=require, but the connector was given NoTls: give it a TLS \
             implementation, or change sslmode",
        ));
    }
    if mode == SslMode::Prefer && can_tls && config.get_ssl_negotiation() == SslNegotiation::Direct
    {
        return Err(Error::config(
            "sslnegotiation=direct can't fall back to a plain connection: set sslmode=require",
        ));
    }
    if config.get_channel_binding() == ChannelBinding::Require
        && (mode == SslMode::Disable || !can_tls)
    {
        return Err(Error::config(
            "channel_binding=require needs TLS: set sslmode=require and give the connector \
             a TLS implementation",
        ));
    }
    if config.get_connect_timeout() == Some(&Duration::ZERO) {
        return Err(Error::config(
            "connect_timeout is zero: no address could be connected to; leave it \
             unset for none",
        ));
    }
    Ok(())
}

/// Refuses settings that could not work.
pub(super) fn check_settings(settings: &Settings) -> Result<(), Error> {
    const GRACE: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(10)..=Duration::from_secs(60);
    if settings.grace.is_zero() {
        return Err(Error::config(
            "grace is zero: no session could become clean after an end; give it 10 ms to 60 \
             s (default 2 s)",
        ));
    }
    if !GRACE.contains(&settings.grace) {
        return Err(Error::config(format!(
            "grace is {:?}: give it 10 ms to 60 s (default 2 s)",
            settings.grace
        )));
    }
    if settings.cancel_dials == 0 {
        return Err(Error::config(
            "cancel_dials is zero: no cancel could be sent; give it at least 1 (default 8)",
        ));
    }
    for (name, time) in [
        ("connect_deadline", Some(settings.connect_deadline)),
        ("resend", settings.resend.iter().min().copied()),
        ("sweep", Some(settings.sweep)),
        ("default_deadline", settings.default_deadline),
    ] {
        if time.is_some_and(|time| time.is_zero()) {
            return Err(Error::config(format!(
                "{name} is zero: give it a time longer than zero"
            )));
        }
    }
    Ok(())
}

/// The options of every socket that is opened under this configuration.
pub(super) fn socket_options(config: &Config) -> SocketOptions {
    SocketOptions {
        keepalive: config.get_keepalives().then(|| Keepalive {
            idle: config.get_keepalives_idle(),
            interval: config.get_keepalives_interval(),
            retries: config.get_keepalives_retries(),
        }),
        // Zero means the system's default, as in libpq.
        user_timeout: config
            .get_tcp_user_timeout()
            .copied()
            .filter(|time| !time.is_zero()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_connection_strings_are_told_without_their_password() {
        for (string, text) in [
            ("", "is empty"),
            ("mysql://me:secret@h/db", "unknown scheme"),
            ("http://me:secret@h?x=1", "unknown scheme"),
            (
                "postgres://me:secret@h:port/db",
                "invalid value for option `port`",
            ),
            (
                "postgres://me:secret@h/db?colour=red",
                "unknown option `colour`",
            ),
            ("host=h password='secret", "unterminated"),
            ("host=h sslmode=maybe", "invalid value for option `sslmode`"),
        ] {
            let error = parse(string).unwrap_err();
            let text_of = error.to_string();
            assert!(text_of.contains(text), "{string}: {text_of}");
            assert!(text_of.contains("expected postgres://"), "{text_of}");
            assert!(
                !format!("{text_of}{error:?}").contains("secret"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn urls_and_key_value_strings_are_read() {
        for string in [
            "postgres://me@h/db",
            "postgresql:///db?host=/run/pg",
            "host=h options='-c a=b://c'",
        ] {
            parse(string).unwrap();
        }
    }

    #[test]
    fn what_no_server_could_satisfy_is_refused() {
        for (string, can_tls, text) in [
            ("user=me", true, "names no server"),
            ("host=h sslmode=require", false, "NoTls"),
            ("host=h sslnegotiation=direct", true, "sslmode=require"),
            ("host=h channel_binding=require", false, "needs TLS"),
            (
                "host=h channel_binding=require sslmode=disable",
                true,
                "needs TLS",
            ),
        ] {
            let error = check(&parse(string).unwrap(), can_tls)
                .unwrap_err()
                .to_string();
            assert!(error.contains(text), "{string}: {error}");
        }
        for (string, can_tls) in [
            ("host=h", false),
            ("host=h sslmode=require sslnegotiation=direct", true),
            ("host=h channel_binding=require", true),
        ] {
            check(&parse(string).unwrap(), can_tls).unwrap();
        }
        let mut config = parse("host=h").unwrap();
        config.connect_timeout(Duration::ZERO);
        let error = check(&config, true).unwrap_err().to_string();
        assert!(error.contains("connect_timeout is zero"), "{error}");
    }

    #[test]
    fn settings_that_could_not_work_are_refused() {
        type Change = fn(&mut Settings);
        let table: [(&str, Change); 8] = [
            ("grace is zero", |s| s.grace = Duration::ZERO),
            ("grace is 9ms", |s| s.grace = Duration::from_millis(9)),
            ("grace is 61s", |s| s.grace = Duration::from_secs(61)),
            ("cancel_dials is zero", |s| s.cancel_dials = 0),
            ("connect_deadline is zero", |s| {
                s.connect_deadline = Duration::ZERO
            }),
            ("resend is zero", |s| s.resend[2] = Duration::ZERO),
            ("sweep is zero", |s| s.sweep = Duration::ZERO),
            ("default_deadline is zero", |s| {
                s.default_deadline = Some(Duration::ZERO)
            }),
        ];
        for (text, change) in table {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = check_settings(&settings).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let mut settings = Settings::default();
        check_settings(&settings).unwrap();
        settings.grace = Duration::from_millis(10);
        settings.checkout_wait = Duration::ZERO;
        check_settings(&settings).unwrap();
    }

    #[test]
    fn socket_options_are_those_of_the_configuration() {
        let config = parse(
            "host=h keepalives_idle=7 keepalives_interval=2 keepalives_retries=3 \
             tcp_user_timeout=9",
        )
        .unwrap();
        let options = socket_options(&config);
        let keepalive = options.keepalive.unwrap();
        assert_eq!(keepalive.idle, Duration::from_secs(7));
        assert_eq!(keepalive.interval, Some(Duration::from_secs(2)));
        assert_eq!(keepalive.retries, Some(3));
        assert_eq!(options.user_timeout, Some(Duration::from_secs(9)));

        let mut config = parse("host=h keepalives=0").unwrap();
        config.tcp_user_timeout(Duration::ZERO);
        assert_eq!(socket_options(&config), SocketOptions::default());
    }
}
