//! Blocks of octets the compiler can turn into whatever vectors the target has, then words of eight octets.

use super::{LOOKAHEAD, Staging};

pub(super) fn unchanged(source: &[u8]) -> usize {
    let mut at = 0;
    while let Some(window) = source[at..].first_chunk::<{ BLOCK + 1 }>() {
        if may_change(window) {
            break;
        }
        at += BLOCK;
    }
    // Octet by octet inside the block where the change is, or to the end.
    while at < source.len() && source[at] != b'\t' && !dropped(&source[at..]) {
        at += 1;
    }
    at
}

pub(super) fn squeeze(source: &[u8], read: usize, out: &mut Staging) -> usize {
    let mut written = 0;
    let mut at = 0;
    while at + BLOCK <= read
        && let Some(window) = source[at..].first_chunk()
    {
        written += squeeze_block(window, &mut out[written..]);
        at += BLOCK;
    }
    while at < read {
        let octet = source[at];
        out[written] = if octet == b'\t' { b' ' } else { octet };
        written += usize::from(!dropped(&source[at..]));
        at += 1;
    }
    written
}

/// Whether the first octet is white space that goes.
fn dropped(source: &[u8]) -> bool {
    matches!(source, [b' ' | b'\t', b' ' | b'\t', ..] | [b' ' | b'\t', b'\r', b'\n', ..])
}

/// False where all octets but the last, which is only looked at, certainly stay as they are.
#[inline]
fn may_change(window: &[u8; BLOCK + 1]) -> bool {
    let mut change = 0;
    for at in 0..BLOCK {
        let (now, next) = (window[at], window[at + 1]);
        let tab = u8::from(now == b'\t');
        let white = u8::from(now == b' ');
        let ending = u8::from(next == b' ') | u8::from(next == b'\t') | u8::from(next == b'\r');
        change |= tab | (white & ending);
    }
    change != 0
}

/// Squeezes all octets but the last two, which are only looked at; returns the octets written.
#[inline]
fn squeeze_block(window: &[u8; BLOCK + LOOKAHEAD], out: &mut [u8]) -> usize {
    let mut spaced = [0; BLOCK];
    let mut dropped = [0; BLOCK];
    for at in 0..BLOCK {
        let (now, next, after) = (window[at], window[at + 1], window[at + 2]);
        let white_next = u8::from(next == b' ') | u8::from(next == b'\t');
        let line_end = u8::from(next == b'\r') & u8::from(after == b'\n');
        dropped[at] = (u8::from(now == b' ') | u8::from(now == b'\t')) & (white_next | line_end);
        spaced[at] = if now == b'\t' { b' ' } else { now };
    }
    if dropped == [0; BLOCK] {
        out[..BLOCK].copy_from_slice(&spaced);
        return BLOCK;
    }
    let mut written = 0;
    for (octets, dropped) in spaced.as_chunks().0.iter().zip(dropped.as_chunks().0) {
        let (octets, dropped) = (u64::from_le_bytes(*octets), u64::from_le_bytes(*dropped));
        let (kept, count) = if dropped == 0 { (octets, 0) } else { compress(octets, dropped) };
        out[written..written + 8].copy_from_slice(&kept.to_le_bytes());
        written += 8 - count;
    }
    written
}

/// Moves the octets without a bit in `dropped` together at the low end; also returns how many go.
#[inline]
fn compress(word: u64, dropped: u64) -> (u64, usize) {
    let gone = dropped * 0xff;
    // The product adds every octet to all above it: how many go up to and with each one.
    let counts = dropped.wrapping_mul(ONES);
    let mut by = counts & !gone;
    let mut word = word & !gone;
    for step in 0..3 {
        let moving = ((by >> step) & ONES) * 0xff;
        word = (word & !moving) | ((word & moving) >> (8 << step));
        by = (by & !moving) | ((by & moving) >> (8 << step));
    }
    (word, (counts >> 56) as usize)
}

const ONES: u64 = 0x0101_0101_0101_0101;

const BLOCK: usize = 32;
