//! Body hashes (RFC 6376 section 3.7), made while the body arrives.
//!
//! A body is canonicalised at most once in each form and hashed once in each: where signatures want less than the
//! whole of it (`l=`), the hash is finished from a copy of its state at that octet. Cost: one pass of canonicalisation
//! and SHA-256 a form, one copied state for each distinct `l=`; nothing of the body is kept.

use std::fmt;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use mailproof_kernels::{RelaxedBody, SimpleBody};

use super::Canonicalization;

/// The body of one message, canonicalised and hashed once per distinct (canonicalisation, hash, `l=`).
#[derive(Debug, Default)]
pub struct BodyHashes {
    simple: Option<Stream<SimpleBody>>,
    relaxed: Option<Stream<RelaxedBody>>,
}

/// The SHA-256 of one body in one form.
#[derive(Clone, Copy, Debug)]
pub struct BodyHash<'a> {
    /// The hash; `None` when `l=` counts more octets than the canonical body has (RFC 6376 section 3.5).
    pub digest: Option<&'a [u8]>,
    /// Octets of the canonical body that the hash covers.
    pub covered_bytes: u64,
    /// Octets of the canonical body.
    pub total_bytes: u64,
}

#[derive(Debug)]
struct Stream<C> {
    canonical: C,
    hash: Hash,
    end: Option<Digest>,
}

/// The part of a stream that the canonicaliser feeds.
struct Hash {
    /// Gone once the body is finished.
    context: Option<Context>,
    count_bytes: u64,
    /// Wanted lengths, the shortest first.
    lengths: Vec<(u64, Option<Digest>)>,
    /// Lengths that were reached.
    reached: usize,
}

trait Canonicalizer: Default {
    fn update(&mut self, chunk: &[u8], sink: impl FnMut(&[u8]));
    fn finish(&mut self, sink: impl FnMut(&[u8]));
}

impl BodyHashes {
    /// No hash wanted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a hash, of the whole body or of its first `length` canonical octets; before the first octet arrives.
    pub fn want(&mut self, form: Canonicalization, length: Option<u64>) {
        match form {
            Canonicalization::Simple => self.simple.get_or_insert_with(Stream::new).hash.want(length),
            Canonicalization::Relaxed => self.relaxed.get_or_insert_with(Stream::new).hash.want(length),
        }
    }

    /// The next octets of the body, in chunks of any size.
    pub fn update(&mut self, chunk: &[u8]) {
        if let Some(stream) = &mut self.simple {
            stream.update(chunk);
        }
        if let Some(stream) = &mut self.relaxed {
            stream.update(chunk);
        }
    }

    /// The end of the body.
    pub fn finish(&mut self) {
        if let Some(stream) = &mut self.simple {
            stream.finish();
        }
        if let Some(stream) = &mut self.relaxed {
            stream.finish();
        }
    }

    /// A hash that was asked for, once the body is finished.
    #[must_use]
    pub fn hash(&self, form: Canonicalization, length: Option<u64>) -> Option<BodyHash<'_>> {
        match form {
            Canonicalization::Simple => self.simple.as_ref()?.body_hash(length),
            Canonicalization::Relaxed => self.relaxed.as_ref()?.body_hash(length),
        }
    }

    /// True when nobody wants a hash: the body need not be passed in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.simple.is_none() && self.relaxed.is_none()
    }
}

impl<C: Canonicalizer> Stream<C> {
    fn new() -> Self {
        let hash = Hash { context: Some(Context::new(&SHA256)), count_bytes: 0, lengths: Vec::new(), reached: 0 };
        Self { canonical: C::default(), hash, end: None }
    }

    fn update(&mut self, chunk: &[u8]) {
        let Self { canonical, hash, .. } = self;
        canonical.update(chunk, |run| hash.update(run));
    }

    fn finish(&mut self) {
        if self.end.is_some() {
            return;
        }
        let Self { canonical, hash, .. } = self;
        canonical.finish(|run| hash.update(run));
        self.end = hash.context.take().map(Context::finish);
    }

    fn body_hash(&self, length: Option<u64>) -> Option<BodyHash<'_>> {
        let end = self.end.as_ref()?;
        let total_bytes = self.hash.count_bytes;
        let covered_bytes = length.unwrap_or(total_bytes).min(total_bytes);
        let digest = match length {
            None => Some(end),
            Some(length) if length == total_bytes => Some(end),
            Some(length) if length > total_bytes => None,
            Some(length) => {
                let at = self.hash.lengths.binary_search_by_key(&length, |(wanted, _)| *wanted).ok()?;
                Some(self.hash.lengths.get(at)?.1.as_ref()?)
            }
        };
        Some(BodyHash { digest: digest.map(AsRef::as_ref), covered_bytes, total_bytes })
    }
}

impl Hash {
    fn want(&mut self, length: Option<u64>) {
        if let Some(length) = length
            && let Err(at) = self.lengths.binary_search_by_key(&length, |(wanted, _)| *wanted)
        {
            self.lengths.insert(at, (length, None));
        }
    }

    fn update(&mut self, mut run: &[u8]) {
        let Some(context) = &mut self.context else { return };
        while let Some((length, digest)) = self.lengths.get_mut(self.reached) {
            let missing = length.saturating_sub(self.count_bytes);
            let Some((before, after)) = usize::try_from(missing).ok().and_then(|at| run.split_at_checked(at)) else {
                break;
            };
            context.update(before);
            self.count_bytes += before.len() as u64;
            *digest = Some(context.clone().finish());
            self.reached += 1;
            run = after;
        }
        context.update(run);
        self.count_bytes += run.len() as u64;
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash").field("count_bytes", &self.count_bytes).finish_non_exhaustive()
    }
}

impl Canonicalizer for SimpleBody {
    fn update(&mut self, chunk: &[u8], sink: impl FnMut(&[u8])) {
        self.update(chunk, sink);
    }

    fn finish(&mut self, sink: impl FnMut(&[u8])) {
        self.finish(sink);
    }
}

impl Canonicalizer for RelaxedBody {
    fn update(&mut self, chunk: &[u8], sink: impl FnMut(&[u8])) {
        self.update(chunk, sink);
    }

    fn finish(&mut self, sink: impl FnMut(&[u8])) {
        self.finish(sink);
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::digest;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    /// The forms of RFC 6376 section 3.4 word by word, over a whole body.
    fn plain(form: Canonicalization, body: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut rest = body;
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            lines.push(rest[..end].to_vec());
            rest = &rest[end + 2..];
        }
        if !rest.is_empty() {
            lines.push(rest.to_vec());
        }
        if form == Canonicalization::Relaxed {
            for line in &mut lines {
                let mut reduced: Vec<u8> = Vec::new();
                for &octet in line.iter() {
                    let octet = if octet == b'\t' { b' ' } else { octet };
                    if octet != b' ' || reduced.last() != Some(&b' ') {
                        reduced.push(octet);
                    }
                }
                if reduced.last() == Some(&b' ') {
                    reduced.pop();
                }
                *line = reduced;
            }
        }
        while lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        if lines.is_empty() && form == Canonicalization::Simple {
            return b"\r\n".to_vec();
        }
        lines.iter().flat_map(|line| line.iter().chain(b"\r\n")).copied().collect()
    }

    fn hashed(form: Canonicalization, lengths: &[Option<u64>], chunks: &[&[u8]]) -> Vec<(Option<Vec<u8>>, u64, u64)> {
        let mut bodies = BodyHashes::new();
        lengths.iter().for_each(|&length| bodies.want(form, length));
        chunks.iter().for_each(|chunk| bodies.update(chunk));
        bodies.finish();
        let hash = |length| bodies.hash(form, length).unwrap();
        let hashes = lengths.iter().map(|&length| hash(length));
        hashes.map(|it| (it.digest.map(<[u8]>::to_vec), it.covered_bytes, it.total_bytes)).collect()
    }

    #[test]
    fn empty_bodies_have_the_hashes_of_the_standard() {
        let of = |form, body| {
            let (digest, covered, total) = hashed(form, &[None], &[body]).remove(0);
            assert_eq!(covered, total);
            (STANDARD.encode(digest.unwrap()), total)
        };
        let simple = "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=".to_owned();
        let relaxed = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned();
        assert_eq!(of(Canonicalization::Simple, b""), (simple.clone(), 2));
        assert_eq!(of(Canonicalization::Simple, b"\r\n\r\n"), (simple, 2));
        assert_eq!(of(Canonicalization::Relaxed, b""), (relaxed.clone(), 0));
        assert_eq!(of(Canonicalization::Relaxed, b" \r\n\t\r\n \t"), (relaxed, 0));
    }

    proptest! {
        #[test]
        fn streamed_in_pieces_equals_whole(
            body in proptest::collection::vec(prop::sample::select(b"ab \t\r\n\0".to_vec()), 0..80),
            cuts in proptest::collection::vec(0_usize..80, 0..6),
            lengths in proptest::collection::vec(0_u64..90, 0..5),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut start = 0;
            for cut in cuts.into_iter().chain([body.len()]) {
                chunks.push(&body[start..cut]);
                start = cut;
            }
            let lengths: Vec<Option<u64>> = lengths.into_iter().map(Some).chain([None]).collect();
            for form in [Canonicalization::Simple, Canonicalization::Relaxed] {
                let canonical = plain(form, &body);
                let total = canonical.len() as u64;
                let wanted: Vec<_> = lengths.iter().map(|length| {
                    let length = length.unwrap_or(total);
                    let covered = canonical.get(..length as usize);
                    (covered.map(|octets| digest(&SHA256, octets).as_ref().to_vec()), length.min(total), total)
                }).collect();
                prop_assert_eq!(hashed(form, &lengths, &chunks), wanted);
            }
        }
    }
}
