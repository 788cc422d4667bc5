//! `milter`, `check-config` and `keygen`: the daemon of the crate mailproof-milter, and what its operator needs beside it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use mailproof_milter::daemon::{self, DaemonError};
use mailproof_milter::signing::{KeyKind, generate, zone_line};
use mailproof_proto::dns::Name;

use crate::arguments::{Command, KeyWord, KeygenArguments};
use crate::words::note;

/// Runs a command of the milter and says how it ended; `None` for the other commands.
pub(crate) fn run(command: &Command) -> Option<ExitCode> {
    let result = match command {
        Command::Milter(arguments) => daemon::run(&arguments.config).map_err(MilterFailure::Daemon),
        Command::CheckConfig(arguments) => {
            daemon::check(&arguments.file).map_err(MilterFailure::Daemon).and_then(|summary| say(&summary))
        }
        Command::Keygen(arguments) => make_key(arguments),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(format_args!("mailproof: {failure}"));
            ExitCode::from(failure.code())
        }
    })
}

/// Why a command of the milter ends without success.
#[derive(Debug, thiserror::Error)]
enum MilterFailure {
    #[error(transparent)]
    Daemon(DaemonError),
    #[error("--domain {0}: no domain name")]
    Domain(String),
    #[error("--selector {0}: no selector")]
    Selector(String),
    #[error("{0}")]
    Key(mailproof_proto::dkim::SignError),
    #[error("{file}: {error}")]
    File { file: String, error: io::Error },
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl MilterFailure {
    /// The exit code (sysexits.h).
    fn code(&self) -> u8 {
        const EX_USAGE: u8 = 64;
        const EX_UNAVAILABLE: u8 = 69;
        const EX_OSERR: u8 = 71;
        const EX_CANTCREAT: u8 = 73;
        const EX_IOERR: u8 = 74;
        const EX_CONFIG: u8 = 78;
        match self {
            Self::Daemon(DaemonError::Config(_)) => EX_CONFIG,
            Self::Daemon(DaemonError::Listen(_) | DaemonError::Resolver(_)) => EX_UNAVAILABLE,
            Self::Daemon(_) | Self::Key(_) => EX_OSERR,
            Self::Domain(_) | Self::Selector(_) => EX_USAGE,
            Self::File { .. } => EX_CANTCREAT,
            Self::Output(_) => EX_IOERR,
        }
    }
}

fn make_key(arguments: &KeygenArguments) -> Result<(), MilterFailure> {
    let domain = Name::parse_domain(&arguments.domain).ok().filter(|name| name.label_count() > 1);
    let domain = domain.ok_or_else(|| MilterFailure::Domain(arguments.domain.clone()))?;
    if Name::parse_domain(&arguments.selector).is_err() {
        return Err(MilterFailure::Selector(arguments.selector.clone()));
    }
    let key = generate(match arguments.kind {
        KeyWord::Rsa2048 => KeyKind::Rsa2048,
        KeyWord::Rsa3072 => KeyKind::Rsa3072,
        KeyWord::Rsa4096 => KeyKind::Rsa4096,
        KeyWord::Ed25519 => KeyKind::Ed25519,
    })
    .map_err(MilterFailure::Key)?;
    let file = || arguments.file.display().to_string();
    // The group may be that of the daemon, others never.
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&arguments.file);
    opened
        .and_then(|mut out| out.write_all(key.pem.as_bytes()))
        .map_err(|error| MilterFailure::File { file: file(), error })?;
    say(&zone_line(&domain, &arguments.selector, &key.record))
}

fn say(line: &str) -> Result<(), MilterFailure> {
    writeln!(io::stdout(), "{line}").map_err(MilterFailure::Output)
}
