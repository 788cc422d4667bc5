//! Streams on disk.
//!
//! A folder holds `stream.jsonl` (the form of `mailproof verify --batch`, with the key `expect` beside the others),
//! `zone.yml`, `example.zone` (a master file) and `local-data.conf` (for unbound).

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Expectation, Letter, Maker};

/// Why a stream can not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The machine refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A line of the stream is none.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

#[derive(Deserialize, Serialize)]
struct Line {
    id: String,
    ip: IpAddr,
    helo: String,
    mail_from: String,
    expect: Expectation,
    message_b64: String,
}

/// Messages that are made and written at a time, so that a long stream is never in memory as a whole.
const BATCH_MESSAGES: u64 = 512;
/// Octets of messages that are read into memory for a run.
pub const STREAM_BYTES_MAX: usize = 4 << 30;

/// The stream of a folder.
#[must_use]
pub fn stream_file(folder: &Path) -> PathBuf {
    folder.join("stream.jsonl")
}

/// Writes a stream into a folder, which is made where it is missing; gives the octets of all messages.
///
/// # Errors
/// [`StreamError::Io`] for the first file that can not be written.
pub fn write(folder: &Path, maker: &Maker) -> Result<u64, StreamError> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |error| StreamError::Io { path, error }
    };
    fs::create_dir_all(folder).map_err(fault(folder))?;
    let records = maker.records();
    let zones = [
        ("zone.yml", records.to_yaml()),
        ("example.zone", records.to_master_file()),
        ("local-data.conf", records.to_local_data()),
    ];
    for (name, text) in zones {
        let path = folder.join(name);
        fs::write(&path, text).map_err(fault(&path))?;
    }
    let path = stream_file(folder);
    let mut file = BufWriter::new(File::create(&path).map_err(fault(&path))?);
    let (mut total, mut from) = (0, 0);
    while from < maker.options().count {
        let to = (from + BATCH_MESSAGES).min(maker.options().count);
        for letter in maker.letters(from, to) {
            total += letter.octets.len() as u64;
            write_line(&mut file, letter).map_err(fault(&path))?;
        }
        from = to;
    }
    file.flush().map_err(fault(&path))?;
    Ok(total)
}

fn write_line(file: &mut impl Write, letter: Letter) -> io::Result<()> {
    let line = Line {
        id: letter.id,
        ip: letter.client,
        helo: letter.helo,
        mail_from: letter.mail_from,
        expect: letter.expectation,
        message_b64: STANDARD.encode(letter.octets),
    };
    serde_json::to_writer(&mut *file, &line)?;
    file.write_all(b"\n")
}

/// Reads the messages of a stream that [`write`] wrote.
///
/// # Errors
/// [`StreamError`] for the first file or line that can not be read, and for more than [`STREAM_BYTES_MAX`].
pub fn read(folder: &Path) -> Result<Vec<Letter>, StreamError> {
    let path = stream_file(folder);
    let io_error = |error| StreamError::Io { path: path.clone(), error };
    let reader = BufReader::new(File::open(&path).map_err(io_error)?);
    let (mut letters, mut total) = (Vec::new(), 0);
    for (at, line) in reader.lines().enumerate() {
        let line = line.map_err(io_error)?;
        let fault = |what: String| StreamError::Line { path: path.clone(), line: at + 1, what };
        let line: Line = serde_json::from_str(&line).map_err(|error| fault(error.to_string()))?;
        let octets = STANDARD.decode(line.message_b64).map_err(|error| fault(error.to_string()))?;
        total += octets.len();
        if total > STREAM_BYTES_MAX {
            return Err(fault(format!("more than {STREAM_BYTES_MAX} octets of messages")));
        }
        let (client, expectation) = (line.ip, line.expect);
        letters.push(Letter { id: line.id, octets, client, helo: line.helo, mail_from: line.mail_from, expectation });
    }
    Ok(letters)
}
