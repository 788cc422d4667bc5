//! mbox files: messages one after the other, each behind a line that begins with `From ` (RFC 4155 appendix A).

use std::io::{BufRead, Read};

use super::InputCause;
use super::stored::crlf;

/// The messages of one mbox file, one in memory at a time.
///
/// A message begins behind a `From ` line that is the first line of the file or follows an empty one. Where the first
/// of them ends in a date as `ctime` writes it, the others must have one too, so that a sentence that begins with
/// `From ` after an empty line splits nothing. The empty line in front of the next `From ` line, or at the end, belongs
/// to the file and not to the message. Lines that begin with `>From `, `>>From ` and so on lose one `>` (mboxrd; an
/// mboxo file reads the same but for lines that began with `>From ` when they were sent). `Content-Length` is not
/// believed.
#[derive(Debug)]
pub struct Mbox<R> {
    reader: R,
    message_bytes_max: u64,
    message_number: u64,
    /// Set by the first line.
    dated: Option<bool>,
    line: Vec<u8>,
    finished: bool,
}

/// What a message begins with.
pub(super) const SEPARATOR: &[u8] = b"From ";

impl<R: BufRead> Mbox<R> {
    /// Reads from the first `From ` line on; a message longer than the limit becomes an error.
    pub fn new(reader: R, message_bytes_max: u64) -> Self {
        let line = Vec::new();
        Self { reader, message_bytes_max, message_number: 0, dated: None, line, finished: false }
    }

    /// The number of the message that was read last, counted from 1.
    #[must_use]
    pub fn message_number(&self) -> u64 {
        self.message_number
    }

    /// Reads the next piece: a whole line, or part of a very long one. False at the end.
    fn read_piece(&mut self) -> Result<bool, InputCause> {
        self.line.clear();
        self.reader.by_ref().take(LINE_PIECE_BYTES).read_until(b'\n', &mut self.line)?;
        Ok(!self.line.is_empty())
    }

    /// Everything up to the next separator, which is read too, or the end.
    fn read_message(&mut self) -> Result<Vec<u8>, InputCause> {
        let mut message = Vec::new();
        let mut message_bytes = 0_u64;
        let mut at_line_start = true;
        let mut empty_line_bytes = 0;
        loop {
            if !self.read_piece()? {
                self.finished = true;
                break;
            }
            if at_line_start && empty_line_bytes > 0 && self.is_separator() {
                break;
            }
            let piece = if at_line_start { unquoted(&self.line) } else { &self.line };
            message_bytes = message_bytes.saturating_add(piece.len() as u64);
            if message_bytes > self.message_bytes_max.saturating_add(EMPTY_LINE_BYTES_MAX) {
                message = Vec::new();
            } else {
                message.extend_from_slice(piece);
            }
            let empty = at_line_start && matches!(piece, b"\n" | b"\r\n");
            empty_line_bytes = if empty { piece.len() } else { 0 };
            at_line_start = self.line.ends_with(b"\n");
        }
        if message_bytes.saturating_sub(empty_line_bytes as u64) > self.message_bytes_max {
            return Err(InputCause::TooLong { limit: self.message_bytes_max });
        }
        message.truncate(message.len() - empty_line_bytes);
        Ok(crlf(message))
    }

    fn is_separator(&self) -> bool {
        self.line.starts_with(SEPARATOR) && (self.dated != Some(true) || ends_in_date(&self.line))
    }
}

impl<R: BufRead> Iterator for Mbox<R> {
    type Item = Result<Vec<u8>, InputCause>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        if self.dated.is_none() {
            match self.read_piece() {
                Ok(true) => self.dated = Some(ends_in_date(&self.line)),
                Ok(false) => {
                    self.finished = true;
                    return None;
                }
                Err(cause) => {
                    self.finished = true;
                    return Some(Err(cause));
                }
            }
        }
        self.message_number += 1;
        let message = self.read_message();
        // Behind an error of the system there is nothing more to read.
        self.finished |= matches!(message, Err(InputCause::Read(_)));
        Some(message)
    }
}

/// The line without the `>` that was put in front of it.
fn unquoted(line: &[u8]) -> &[u8] {
    let quotes = line.iter().take_while(|octet| **octet == b'>').count();
    match line.get(quotes..) {
        Some(rest) if quotes > 0 && rest.starts_with(SEPARATOR) => line.get(1..).unwrap_or_default(),
        _ => line,
    }
}

/// True when the line holds `Thu Jan  1 00:00:00` and maybe a year and a zone in some order.
fn ends_in_date(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let among =
        |names: &[u8], word: &[u8]| word.len() == 3 && names.chunks(3).any(|name| name.eq_ignore_ascii_case(word));
    words.windows(4).any(|part| match part {
        [weekday, month, day, time] => {
            among(b"MonTueWedThuFriSatSun", weekday)
                && among(b"JanFebMarAprMayJunJulAugSepOctNovDec", month)
                && day.len() <= 2
                && day.iter().all(u8::is_ascii_digit)
                && time.contains(&b':')
                && time.iter().all(|octet| octet.is_ascii_digit() || *octet == b':')
        }
        _ => false,
    })
}

/// Octets of a line that are looked at together; longer lines are read piece by piece.
const LINE_PIECE_BYTES: u64 = 64 * 1024;
/// The line that does not belong to the message.
const EMPTY_LINE_BYTES_MAX: u64 = 2;

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    const FROM: &[u8] = b"From joe@example.org Thu Jan  1 00:00:00 1970\n";

    fn read(octets: &[u8]) -> Vec<Option<String>> {
        let text = |it: Vec<u8>| String::from_utf8(it).unwrap();
        Mbox::new(octets, 1000).map(|it| it.ok().map(text)).collect()
    }

    fn write(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            out.extend_from_slice(FROM);
            for line in message.split_inclusive(|octet| *octet == b'\n') {
                let quotes = line.iter().take_while(|octet| **octet == b'>').count();
                if line[quotes..].starts_with(b"From ") {
                    out.push(b'>');
                }
                out.extend_from_slice(line);
            }
            out.push(b'\n');
        }
        out
    }

    #[test]
    fn a_sentence_that_begins_with_from_splits_nothing() {
        let file = "From a Thu Jan  1 00:00:00 1970\r\nA: b\r\n\r\nFrom here on\r\nFrom a Thu Jan  1 00:00:00 1970\r\n\
                    >From there\r\n>>From x\r\n\r\nFrom - Fri Feb 29 1:02 2008 +0100\r\nC: d\r\n\r\n";
        let first = "A: b\r\n\r\nFrom here on\r\nFrom a Thu Jan  1 00:00:00 1970\r\nFrom there\r\n>From x\r\n";
        assert_eq!(read(file.as_bytes()), [Some(first.to_owned()), Some("C: d\r\n".to_owned())]);
    }

    #[test]
    fn files_without_dates_split_at_every_from_after_an_empty_line() {
        let wanted = [Some("A: b\r\n".to_owned()), Some("C: d".to_owned())];
        assert_eq!(read(b"From a\nA: b\n\nFrom b\nC: d"), wanted);
    }

    #[test]
    fn nothing_and_next_to_nothing() {
        assert_eq!(read(b""), []);
        assert_eq!(read(b"From a"), [Some(String::new())]);
        assert_eq!(read(b"From a\n\nFrom b\n\n"), [Some(String::new()), Some(String::new())]);
    }

    #[test]
    fn one_message_over_the_limit_is_left_out_and_the_next_is_read() {
        let messages = [1000, 1001, 300_000, 7].map(|size| [vec![b'x'; size - 1], vec![b'\n']].concat());
        let mut sizes = Vec::new();
        for item in Mbox::new(&write(&messages)[..], 1000) {
            sizes.push(match item {
                Ok(message) => message.len(),
                Err(InputCause::TooLong { limit: 1000 }) => 0,
                Err(other) => panic!("{other}"),
            });
        }
        // LF became CRLF once the message was read.
        assert_eq!(sizes, [1001, 0, 0, 8]);
    }

    fn message() -> impl Strategy<Value = Vec<u8>> {
        let part = proptest::sample::select(vec![
            &b"From "[..],
            b">From x",
            b">",
            b"From a Thu Jan  1 00:00:00 1970",
            b"\n",
            b"\r\n",
            b"\n\n",
            b"\r",
            b"A: b",
            b"\xff",
            b"\0",
            b" ",
        ]);
        proptest::collection::vec(part, 0..20).prop_map(|parts| [parts.concat(), b"\n".to_vec()].concat())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_whatever_the_chunks(
            messages in proptest::collection::vec(message(), 1..5), chunk in 1_usize..64,
        ) {
            let file = write(&messages);
            let wanted: Vec<_> = messages.into_iter().map(crlf).collect();
            let whole: Vec<_> = Mbox::new(&file[..], u64::MAX).map(Result::unwrap).collect();
            prop_assert_eq!(&whole, &wanted);
            let chunked = BufReader::with_capacity(chunk, &file[..]);
            let chunked: Vec<_> = Mbox::new(chunked, u64::MAX).map(Result::unwrap).collect();
            prop_assert_eq!(&chunked, &wanted);
        }
    }
}
