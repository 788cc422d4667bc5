//! The mailbox of the demo: `mailproof-testkit demo-mailbox DIR` writes it, octet for octet the same each time.
//!
//! The messages are made as mail is: written, signed by our own signer, then forwarded, changed or forged. Each says
//! what its verdict must be, beside the mailbox in `expected.tsv`. Names are fictional and end in `.example`; addresses
//! are those of RFC 5737.

mod draft;
mod letters;
mod zone;

use std::fs;
use std::path::Path;

pub use self::draft::Draft;

/// The moment the demo takes place: noon of 23 November 2026, UTC.
pub const NOW_SECONDS: u64 = 1_795_392_000 + 12 * 60 * 60;
/// The host that received the mailbox.
pub const RECEIVER: &str = "mx.lantern-lane.example";

/// A message as it was delivered, and what must be found.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The left part of its Message-ID.
    pub name: &'static str,
    /// The message with its trace fields and LF line ends.
    pub octets: Vec<u8>,
    /// What the verdict must say.
    pub expected: Expected,
    /// What happened to it, in a few words.
    pub story: &'static str,
}

/// The words of a verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expected {
    /// SPF of MAIL FROM.
    pub spf: &'static str,
    /// Results of the signatures from top to bottom, with commas; `none` without any.
    pub dkim: &'static str,
    /// ARC.
    pub arc: &'static str,
    /// DMARC.
    pub dmarc: &'static str,
    /// What is done under RFC 9989.
    pub action: &'static str,
}

/// Makes the messages; `keys` is the folder of the key files.
///
/// # Errors
/// A key that can not be read, or a message that can not be signed.
pub fn letters(keys: &Path) -> Result<Vec<Letter>, String> {
    let keys = draft::Keys::load(keys)?;
    letters::all(&keys)
}

/// Writes `mailbox.mbox`, `message.eml`, `zone.yml` and `expected.tsv` into a folder that holds `keys/`.
///
/// # Errors
/// The file and what is wrong with it.
pub fn write(dir: &Path) -> Result<usize, String> {
    let keys = draft::Keys::load(&dir.join("keys"))?;
    let letters = letters::all(&keys)?;
    let explained = letters.iter().find(|letter| letter.name == letters::EXPLAINED).ok_or("no letter to explain")?;
    let files = [
        ("mailbox.mbox", mbox(&letters)),
        ("message.eml", explained.octets.clone()),
        ("zone.yml", zone::text(&keys)?.into_bytes()),
        ("expected.tsv", expected(&letters).into_bytes()),
    ];
    for (name, octets) in files {
        let path = dir.join(name);
        fs::write(&path, octets).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(letters.len())
}

/// An mbox file: a `From ` line before each message, `>` before lines that look like one, an empty line behind.
fn mbox(letters: &[Letter]) -> Vec<u8> {
    let mut out = Vec::new();
    for letter in letters {
        out.extend_from_slice(b"From MAILER-DAEMON Mon Nov 23 12:00:00 2026\n");
        for line in letter.octets.split_inclusive(|octet| *octet == b'\n') {
            let plain = line.iter().position(|octet| *octet != b'>').unwrap_or_default();
            if line.get(plain..).is_some_and(|rest| rest.starts_with(b"From ")) {
                out.push(b'>');
            }
            out.extend_from_slice(line);
        }
        out.push(b'\n');
    }
    out
}

fn expected(letters: &[Letter]) -> String {
    let mut out = "name\tspf\tdkim\tarc\tdmarc\taction\twhat happened\n".to_owned();
    for Letter { name, expected: it, story, .. } in letters {
        let row = [name, it.spf, it.dkim, it.arc, it.dmarc, it.action, story].join("\t");
        out.push_str(&row);
        out.push('\n');
    }
    out
}
