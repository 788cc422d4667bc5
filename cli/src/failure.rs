//! What ends a run: one line that names the thing and the remedy, and an exit code of sysexits.

use std::io;
use std::path::PathBuf;

use mailproof::resolver::ResolverError;
use mailproof::zone::ZoneError;

use crate::input::InputError;

/// Why a run can not go on, or ends with another code than success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The words on the command line do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A zone file that is there, but is none.
    #[error("{0}; check the zone file's form (README, \"Zone files\")")]
    Zone(ZoneError),
    /// A key file that is there, but holds no key that can sign.
    #[error("{}: {what}; give a PEM file with an RSA or Ed25519 private key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A message that can not be signed.
    #[error("{}: {what}", path.display())]
    Message {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A message that can not be read.
    #[error("{0}; check the path")]
    Input(InputError),
    /// A file that can not be opened.
    #[error("{}: {}; check the path", path.display(), words(error))]
    Missing {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Some files could not be opened; each was reported when it was met.
    #[error("{count} of the files named could not be opened; the others were judged")]
    SomeMissing {
        /// How many.
        count: u64,
    },
    /// Reading some files broke off; each was reported when it was met.
    #[error("reading broke off in {count} of the files; the others were judged")]
    SomeBroken {
        /// How many.
        count: u64,
    },
    /// Nobody to ask.
    #[error("no DNS resolver: {0}; name one with --resolver IP[:PORT], or give the answers with --zone FILE")]
    NoResolver(ResolverError),
    /// Nobody answered.
    #[error(
        "no DNS server answered any of {questions} questions, so results are temperror; name a server that can be \
         reached with --resolver IP[:PORT]"
    )]
    Unreachable {
        /// Questions asked.
        questions: u64,
    },
    /// Writing broke off.
    #[error("standard output: {}", words(.0))]
    Output(io::Error),
    /// Threads or the like.
    #[error("the system refused: {}", words(.0))]
    System(io::Error),
}

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        const EX_OK: u8 = 0;
        const EX_USAGE: u8 = 64;
        const EX_DATAERR: u8 = 65;
        const EX_NOINPUT: u8 = 66;
        const EX_UNAVAILABLE: u8 = 69;
        const EX_OSERR: u8 = 71;
        const EX_IOERR: u8 = 74;
        match self {
            Self::Usage(_) => EX_USAGE,
            Self::Zone(_) | Self::Key { .. } | Self::Message { .. } => EX_DATAERR,
            Self::Missing { .. } | Self::SomeMissing { .. } | Self::Input(_) => EX_NOINPUT,
            Self::NoResolver(_) | Self::Unreachable { .. } => EX_UNAVAILABLE,
            Self::System(_) => EX_OSERR,
            Self::Output(_) if self.is_quiet() => EX_OK,
            Self::SomeBroken { .. } | Self::Output(_) => EX_IOERR,
        }
    }

    /// True when nobody reads the output any more (`mailproof ... | head`): nothing is left to say.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// An error of the system without its number.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted to read it".to_owned(),
        _ => {
            let text = error.to_string();
            text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_lowercase())
        }
    }
}
