//! Messages from where mail is kept: single files, mbox files, Maildirs, directories of `.eml` files, standard input, and
//! the lines of a batch.
//!
//! One message is in memory at a time, and none longer than a limit. What can not be read becomes an item of its own,
//! and the run goes on.

mod batch;
mod mbox;
mod stored;

pub use batch::{BatchLine, BatchLines, BatchMessage, BatchReader};
pub use mbox::Mbox;
pub use stored::{crlf, return_path};

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The message of this number, counted from 1, of those at a path.
///
/// # Errors
/// That there is none, or that it can not be read.
pub(crate) fn one(path: &Path, number: u64) -> Result<Vec<u8>, Failure> {
    let skipped = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    match Messages::new([path.to_owned()]).nth(skipped) {
        Some(Ok(message)) => Ok(message.octets),
        Some(Err(error)) => Err(Failure::Input(error)),
        None if number == 1 => Err(Failure::Message { path: path.to_owned(), what: "no message in it".to_owned() }),
        None => Err(Failure::Message { path: path.to_owned(), what: format!("no message of number {number} in it") }),
    }
}

/// Octets of one message that are read; a longer one becomes an error.
pub const MESSAGE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One message and what to call it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// The file name; for a message of an mbox file the file name with `:#1` and so on; `-` for standard input.
    pub id: String,
    /// The message with CRLF line ends.
    pub octets: Vec<u8>,
}

/// Something that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {cause}")]
pub struct InputError {
    /// Which message it was, when that is known.
    pub id: Option<String>,
    /// Where it was.
    pub place: Place,
    /// What was wrong.
    #[source]
    pub cause: InputCause,
}

/// Where something could not be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A file or directory.
    Path(PathBuf),
    /// A message of an mbox file, counted from 1.
    MboxMessage(PathBuf, u64),
    /// A line of a batch, counted from 1, and the file it names.
    Line(u64, Option<PathBuf>),
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputCause {
    /// The system refused.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// [`MESSAGE_BYTES_MAX`].
    #[error("a message of more than {limit} octets")]
    TooLong {
        /// Octets that would have been read.
        limit: u64,
    },
    /// A directory without `cur`, `new` and `.eml` files.
    #[error("neither a Maildir nor a directory with .eml files")]
    NoMessages,
    /// A line that is no object, or whose values have the wrong type.
    #[error("no JSON object of a batch: {0}")]
    BadLine(serde_json::Error),
    /// Both `path` and `message_b64`, or neither.
    #[error("a line needs one of path and message_b64")]
    NotOneSource,
    /// RFC 4648 section 4.
    #[error("message_b64 is no base64: {0}")]
    BadBase64(#[from] base64::DecodeError),
    /// `ip` is no address.
    #[error("ip is no address")]
    BadAddress,
}

/// The messages of a list of paths, in order.
///
/// - `-` is standard input: an mbox file when it begins with `From `, else one message.
/// - A directory with `cur` or `new` is a Maildir; of any other the files that end in `.eml` are read, by name.
/// - A file that begins with `From ` is an mbox file, unless its name ends in `.eml`.
/// - Every other file is one message.
///
/// Messages stored with Unix line ends are given CRLF as [`crlf`] says; others stay as they are to the octet.
pub struct Messages {
    paths: VecDeque<PathBuf>,
    current: Current,
    standard_input: Option<Box<dyn Read + Send>>,
    message_bytes_max: u64,
}

enum Current {
    Nothing,
    Files(VecDeque<PathBuf>),
    Mbox(PathBuf, Mbox<Box<dyn BufRead + Send>>),
}

type Item = Result<Message, InputError>;

impl Messages {
    /// The messages of these paths.
    #[must_use]
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            paths: paths.into_iter().collect(),
            current: Current::Nothing,
            standard_input: Some(Box::new(io::stdin())),
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }

    /// Reads `-` from here instead of standard input.
    #[must_use]
    pub fn with_standard_input(mut self, reader: impl Read + Send + 'static) -> Self {
        self.standard_input = Some(Box::new(reader));
        self
    }

    /// Another limit than [`MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn with_message_bytes_max(mut self, limit: u64) -> Self {
        self.message_bytes_max = limit;
        self
    }

    /// Opens a path; gives the message when it is a single one.
    fn open(&mut self, path: PathBuf) -> Option<Item> {
        match self.try_open(&path) {
            Ok(octets) => octets.map(|octets| Ok(Message { id: file_name(&path), octets })),
            Err(cause) => Some(Err(InputError { id: Some(file_name(&path)), place: Place::Path(path), cause })),
        }
    }

    fn try_open(&mut self, path: &Path) -> Result<Option<Vec<u8>>, InputCause> {
        if path.as_os_str() == "-" {
            let reader = self.standard_input.take().unwrap_or_else(|| Box::new(io::empty()));
            return self.begin(path, reader);
        }
        if path.is_dir() {
            self.current = Current::Files(directory(path)?);
            return Ok(None);
        }
        let file = File::open(path)?;
        if is_eml(path) {
            return read_message(file, self.message_bytes_max, Vec::new()).map(Some);
        }
        self.begin(path, Box::new(file))
    }

    /// Tells an mbox file from a single message by the first octets.
    fn begin(&mut self, path: &Path, reader: Box<dyn Read + Send>) -> Result<Option<Vec<u8>>, InputCause> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        let mut start = Vec::with_capacity(mbox::SEPARATOR.len());
        reader.by_ref().take(mbox::SEPARATOR.len() as u64).read_to_end(&mut start)?;
        let is_mbox = start == mbox::SEPARATOR;
        let whole = io::Cursor::new(start).chain(reader);
        if !is_mbox {
            return read_message(whole, self.message_bytes_max, Vec::new()).map(Some);
        }
        self.current = Current::Mbox(path.to_owned(), Mbox::new(Box::new(whole), self.message_bytes_max));
        Ok(None)
    }
}

impl Iterator for Messages {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            match &mut self.current {
                Current::Nothing => {
                    let path = self.paths.pop_front()?;
                    if let Some(item) = self.open(path) {
                        return Some(item);
                    }
                    continue;
                }
                Current::Files(files) => {
                    if let Some(path) = files.pop_front() {
                        return Some(read_file(path, self.message_bytes_max));
                    }
                }
                Current::Mbox(path, mbox) => {
                    if let Some(read) = mbox.next() {
                        let number = mbox.message_number();
                        let id = format!("{}:#{number}", file_name(path));
                        let place = || Place::MboxMessage(path.clone(), number);
                        return Some(match read {
                            Ok(octets) => Ok(Message { id, octets }),
                            Err(cause) => Err(InputError { id: Some(id), place: place(), cause }),
                        });
                    }
                }
            }
            self.current = Current::Nothing;
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::MboxMessage(path, number) => write!(f, "{}:#{number}", path.display()),
            Self::Line(number, None) => write!(f, "line {number}"),
            Self::Line(number, Some(path)) => write!(f, "line {number}: {}", path.display()),
        }
    }
}

fn read_file(path: PathBuf, message_bytes_max: u64) -> Item {
    let id = file_name(&path);
    match File::open(&path).map_err(InputCause::from).and_then(|file| read_message(file, message_bytes_max, Vec::new()))
    {
        Ok(octets) => Ok(Message { id, octets }),
        Err(cause) => Err(InputError { id: Some(id), place: Place::Path(path), cause }),
    }
}

/// Reads one message to its end, into the memory of `room`, which is empty.
fn read_message(reader: impl Read, message_bytes_max: u64, room: Vec<u8>) -> Result<Vec<u8>, InputCause> {
    let mut octets = room;
    reader.take(message_bytes_max.saturating_add(1)).read_to_end(&mut octets)?;
    if octets.len() as u64 > message_bytes_max {
        return Err(InputCause::TooLong { limit: message_bytes_max });
    }
    Ok(crlf(octets))
}

/// The files of a directory that are messages, by name; those of a Maildir `new` first.
fn directory(path: &Path) -> Result<VecDeque<PathBuf>, InputCause> {
    let folders = ["new", "cur"].map(|folder| path.join(folder));
    if folders.iter().any(|folder| folder.is_dir()) {
        let mut files = VecDeque::new();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            files.extend(entries(folder, |path| !file_name(path).starts_with('.'))?);
        }
        return Ok(files);
    }
    let files = entries(path, is_eml)?;
    if files.is_empty() { Err(InputCause::NoMessages) } else { Ok(files.into()) }
}

fn entries(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, InputCause> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if wanted(&path) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_eml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("eml"))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Octets read from a file at once.
const BUFFER_BYTES: usize = 64 * 1024;
