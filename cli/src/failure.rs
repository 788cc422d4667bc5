//! What ends a run: one line that names the thing and the remedy, and an exit code of sysexits.

use std::io;
use std::path::PathBuf;

use mailproof::network::DriverError;
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
    #[error("{0}; a zone file is YAML, `NAME: [{{TYPE: DATA}}]`, or a master file whose name ends in .zone")]
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
    /// Some files could not be opened, or reading them broke off. Each was reported when it was met.
    #[error("not every file could be read")]
    Reported {
        /// Whether one broke off.
        broke_off: bool,
    },
    /// Nobody to ask.
    #[error("{0}; name one with --resolver IP[:PORT], or give the answers with --zone FILE")]
    NoResolver(ResolverError),
    /// Nobody answered.
    #[error("{0}, so results are temperror; name a server that can be reached with --resolver IP[:PORT]")]
    Silent(ResolverError),
    /// The engine's threads can not have their sockets.
    #[error("{driver}{}", remedy(driver))]
    Driver {
        /// What is refused.
        driver: DriverError,
    },
    /// A question was answered: there is no such record. The answer was written.
    #[error("no such record")]
    NoRecord,
    /// A question was not answered. That was written.
    #[error("no answer")]
    NoAnswer,
    /// Writing broke off.
    #[error("standard output: {}", words(.0))]
    Output(io::Error),
    /// Threads or the like.
    #[error("the system refused: {}", words(.0))]
    System(io::Error),
}

impl From<ZoneError> for Failure {
    fn from(error: ZoneError) -> Self {
        match error {
            ZoneError::File { path, error } => match *error {
                ZoneError::Io(error) => Self::Missing { path, error },
                error => Self::Zone(ZoneError::File { path, error: Box::new(error) }),
            },
            other => Self::Zone(other),
        }
    }
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
        const EX_TEMPFAIL: u8 = 75;
        // As grep has it.
        const ABSENT: u8 = 1;
        match self {
            Self::Usage(_) => EX_USAGE,
            Self::Zone(_) | Self::Key { .. } | Self::Message { .. } => EX_DATAERR,
            Self::NoRecord => ABSENT,
            Self::NoAnswer => EX_TEMPFAIL,
            Self::Missing { .. } | Self::Reported { broke_off: false } | Self::Input(_) => EX_NOINPUT,
            Self::NoResolver(_) | Self::Silent(_) => EX_UNAVAILABLE,
            Self::System(_) | Self::Driver { .. } => EX_OSERR,
            Self::Output(_) if self.is_quiet() => EX_OK,
            Self::Reported { broke_off: true } | Self::Output(_) => EX_IOERR,
        }
    }

    /// True when nothing is left to say: it was said when it was met, or nobody reads any more (`mailproof ... | head`).
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::NoAnswer | Self::NoRecord | Self::Reported { .. } => true,
            _ => false,
        }
    }
}

fn remedy(error: &DriverError) -> &'static str {
    match error {
        DriverError::UringRefused { .. } => "; MAILPROOF_BACKEND=auto takes epoll where io_uring is refused",
        _ => "",
    }
}

/// An error of the system without its number.
pub(crate) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted to read it".to_owned(),
        _ => {
            let text = error.to_string();
            text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_lowercase())
        }
    }
}
