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
        && let Some(window) = source[at..].first_chunk::<{ BLOCK + LOOKAHEAD }>()
    {
        let room = &mut out[written..];
        let block = window.first_chunk().expect("shorter");
        if may_change(block) {
            written += squeeze_block(window, room);
        } else {
            room[..BLOCK].copy_from_slice(&block[..BLOCK]);
            written += BLOCK;
        }
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
    let mut written = 0;
    for at in (0..BLOCK).step_by(8) {
        let (now, next, after) = (word(window, at), word(window, at + 1), word(window, at + 2));
        let tabs = equal(now, b'\t');
        let white = equal(now, b' ') | tabs;
        let white_next = equal(next, b' ') | equal(next, b'\t');
        let dropped = white & (white_next | (equal(next, b'\r') & equal(after, b'\n')));
        // A tab is 0x09 and a space 0x20; they differ in the bits 0x29.
        let spaced = now ^ ((tabs >> 7) * 0x29);
        let kept = if dropped == 0 { spaced } else { compress(spaced, dropped) };
        out[written..written + 8].copy_from_slice(&kept.to_le_bytes());
        written += 8 - dropped.count_ones() as usize;
    }
    written
}

#[inline]
fn word(window: &[u8; BLOCK + LOOKAHEAD], at: usize) -> u64 {
    u64::from_le_bytes(*window[at..].first_chunk().expect("inside"))
}

/// The highest bit of every octet that equals `octet`.
#[inline]
fn equal(word: u64, octet: u8) -> u64 {
    let difference = word ^ (u64::from(octet) * ONES);
    // Adding 0x7f carries into the highest bit of an octet unless its lower bits are zero, and never beyond.
    !(((difference & (0x7f * ONES)) + 0x7f * ONES) | difference) & HIGHS
}

/// Moves the octets without a bit in `dropped` together at the low end.
#[inline]
fn compress(word: u64, dropped: u64) -> u64 {
    let gone = (dropped >> 7) * 0xff;
    // How many octets go below each one: the product adds every octet to all above it.
    let mut by = ((dropped >> 7).wrapping_mul(ONES)) & !gone;
    let mut word = word & !gone;
    for step in 0..3 {
        let moving = ((by >> step) & ONES) * 0xff;
        word = (word & !moving) | ((word & moving) >> (8 << step));
        by = (by & !moving) | ((by & moving) >> (8 << step));
    }
    word
}

const BLOCK: usize = 32;

const ONES: u64 = 0x0101_0101_0101_0101;

const HIGHS: u64 = 0x80 * ONES;
