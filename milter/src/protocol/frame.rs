//! Frames: a length of four octets, most significant first, then that many octets, the first of them the command.

use super::command::{BODY, END_OF_MESSAGE};
use super::{BODY_CHUNK_BYTES_MAX, FRAME_BYTES_MAX, ProtocolError};

/// Takes octets cut anywhere and gives frames. Body octets are handed on at once, so a peer that stalls within a chunk
/// of a body holds no memory.
///
/// The contract: call [`next`](Self::next) with the same octets until it answers `None`; they are then used up.
#[derive(Debug, Default)]
pub struct FrameReader {
    state: State,
    /// Octets of a frame that came in several pieces.
    partial: Vec<u8>,
}

/// What comes out of a [`FrameReader`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part<'a> {
    /// A whole frame without its length.
    Frame {
        /// The command.
        command: u8,
        /// What follows it.
        fields: &'a [u8],
    },
    /// Octets of a body, of any number but none.
    Body(&'a [u8]),
    /// The end of a frame whose octets came as [`Part::Body`]: a body chunk or the end of the message.
    BodyEnd {
        /// The command.
        command: u8,
    },
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Within the length and the command, which are gathered in `partial`.
    #[default]
    Head,
    /// `missing` octets of a frame are to come, those before are in `partial`.
    Fields { command: u8, missing: usize },
    /// As `Fields`, but handed on.
    Body { command: u8, missing: usize },
    /// The frame in `partial` was handed out.
    HandedOut,
}

impl FrameReader {
    /// A reader at the beginning of a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next part of `octets` from `at` on, which moves behind it.
    ///
    /// # Errors
    /// [`ProtocolError`] when what comes can be no frame; the reader is of no use after that.
    pub fn next<'a>(&'a mut self, octets: &'a [u8], at: &mut usize) -> Result<Option<Part<'a>>, ProtocolError> {
        if matches!(self.state, State::HandedOut) {
            self.partial.clear();
            self.partial.shrink_to(HELD_BYTES_MAX);
            self.state = State::Head;
        }
        if matches!(self.state, State::Head) && !self.read_head(octets, at)? {
            return Ok(None);
        }
        match self.state {
            State::Body { command, missing: 0 } => {
                self.state = State::Head;
                Ok(Some(Part::BodyEnd { command }))
            }
            State::Body { command, missing } => {
                let piece = take(octets, at, missing);
                self.state = State::Body { command, missing: missing - piece.len() };
                Ok((!piece.is_empty()).then_some(Part::Body(piece)))
            }
            State::Fields { command, missing } => Ok(self.read_fields(command, missing, octets, at)),
            State::Head | State::HandedOut => Ok(None),
        }
    }

    /// Octets held of a frame that is not complete.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Reads length and command; false when octets are missing.
    fn read_head(&mut self, octets: &[u8], at: &mut usize) -> Result<bool, ProtocolError> {
        let missing = HEAD_BYTES.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(take(octets, at, missing));
        let &[a, b, c, d, ref command @ ..] = self.partial.as_slice() else { return Ok(false) };
        let length = u32::from_be_bytes([a, b, c, d]);
        // An empty frame is refused before the octet that would be its command.
        let length = length.checked_sub(1).ok_or(ProtocolError::EmptyFrame)?;
        let &[command] = command else { return Ok(false) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let is_body = matches!(command, BODY | END_OF_MESSAGE);
        if length > if is_body { BODY_CHUNK_BYTES_MAX } else { FRAME_BYTES_MAX } {
            return Err(ProtocolError::FrameTooLong { length, command });
        }
        self.partial.clear();
        self.state = match is_body {
            true => State::Body { command, missing: length },
            false => State::Fields { command, missing: length },
        };
        Ok(true)
    }

    fn read_fields<'a>(
        &'a mut self,
        command: u8,
        missing: usize,
        octets: &'a [u8],
        at: &mut usize,
    ) -> Option<Part<'a>> {
        let piece = take(octets, at, missing);
        if self.partial.is_empty() && piece.len() == missing {
            self.state = State::Head;
            return Some(Part::Frame { command, fields: piece });
        }
        self.partial.extend_from_slice(piece);
        let missing = missing - piece.len();
        if missing > 0 {
            self.state = State::Fields { command, missing };
            return None;
        }
        self.state = State::HandedOut;
        Some(Part::Frame { command, fields: &self.partial })
    }
}

/// Takes at most `count` octets from `at` on.
fn take<'a>(octets: &'a [u8], at: &mut usize, count: usize) -> &'a [u8] {
    let rest = octets.get(*at..).unwrap_or_default();
    let taken = rest.get(..count).unwrap_or(rest);
    *at += taken.len();
    taken
}

/// Length and command.
const HEAD_BYTES: usize = 5;
/// Memory kept for the next frame; ordinary header fields fit.
const HELD_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parts with the pieces of a body joined.
    fn read(chunks: &[&[u8]]) -> (Vec<(u8, Vec<u8>)>, Option<ProtocolError>) {
        let mut reader = FrameReader::new();
        let (mut frames, mut body) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let mut at = 0;
            loop {
                match reader.next(chunk, &mut at) {
                    Ok(None) => break,
                    Ok(Some(Part::Frame { command, fields })) => frames.push((command, fields.to_vec())),
                    Ok(Some(Part::Body(piece))) => body.extend_from_slice(piece),
                    Ok(Some(Part::BodyEnd { command })) => frames.push((command, std::mem::take(&mut body))),
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert_eq!(at, chunk.len());
        }
        (frames, None)
    }

    fn frame(command: u8, fields: &[u8]) -> Vec<u8> {
        let length = u32::try_from(fields.len() + 1).unwrap().to_be_bytes();
        [&length[..], &[command], fields].concat()
    }

    #[test]
    fn lengths_have_limits_on_both_sides() {
        assert_eq!(read(&[&[0, 0, 0, 0]]).1, Some(ProtocolError::EmptyFrame));
        assert_eq!(read(&[&frame(b'B', &[0; BODY_CHUNK_BYTES_MAX])]).1, None);
        let long = ProtocolError::FrameTooLong { length: BODY_CHUNK_BYTES_MAX + 1, command: b'B' };
        assert_eq!(read(&[&frame(b'B', &[0; BODY_CHUNK_BYTES_MAX + 1])]).1, Some(long));
        assert_eq!(read(&[&frame(b'L', &vec![0; FRAME_BYTES_MAX])]).1, None);
        // Refused as soon as its length and command are there.
        let huge = ProtocolError::FrameTooLong { length: 0xffff_fffe, command: b'L' };
        assert_eq!(read(&[&[0xff, 0xff, 0xff, 0xff, b'L']]).1, Some(huge));
    }

    #[test]
    fn a_stalled_body_chunk_holds_no_memory() {
        let mut reader = FrameReader::new();
        let octets = frame(b'B', &[b'x'; 60_000]);
        let mut at = 0;
        while reader.next(&octets[..50_000], &mut at).unwrap().is_some() {}
        assert!(reader.held_bytes() <= 64);
    }

    proptest! {
        #[test]
        fn cut_anywhere_equals_whole(
            frames in proptest::collection::vec(
                (prop::sample::select(b"BELDO".to_vec()), proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let octets: Vec<u8> = frames.iter().flat_map(|(command, fields)| frame(*command, fields)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect();
            cuts.extend([0, octets.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &octets[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&chunks), (frames.clone(), None));
            let single: Vec<&[u8]> = octets.chunks(1).collect();
            prop_assert_eq!(read(&single), (frames, None));
        }
    }
}
