//! Whole verdicts: sizes, kinds of body, signatures; with the answers at hand or not; one at a time or side by side.

use std::hint::black_box;

use super::{Case, Work};
use crate::mailproof_side::{Cold, Mailproof, Together};
use crate::messages::{Kind, signed};

/// Sizes of body, in KiB.
const SIZES_KIB: [usize; 4] = [2, 30, 300, 3072];

/// Messages under way side by side, as on a worker thread with so many connections.
const TOGETHER: usize = 8;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kib in SIZES_KIB {
        for kind in Kind::ALL {
            for signatures in [1, 2] {
                let what = format!("{kib}KiB {} {signatures} signed", kind.name());
                let warm = Case::new("warm", what.clone(), move || warm(kind, kib, signatures));
                let is_short = kib <= 30 && kind == Kind::Html || kib == 2 && signatures == 1;
                cases.push(if is_short { warm.short() } else { warm });
                let cold = Case::new("cold", what.clone(), move || cold(kind, kib, signatures));
                cases.push(if kib == 2 && kind == Kind::Html { cold.short() } else { cold });
                cases.push(Case::new("8 together", what, move || together(kind, kib, signatures)));
            }
        }
    }
    cases
}

fn warm(kind: Kind, kib: usize, signatures: usize) -> Work {
    let (message, mut mailproof) = (signed(kind, kib, signatures), Mailproof::new());
    Box::new(move || black_box(mailproof.verdict(black_box(&message))).len())
}

fn cold(kind: Kind, kib: usize, signatures: usize) -> Work {
    let (message, mut mailproof) = (signed(kind, kib, signatures), Cold::new());
    Box::new(move || black_box(mailproof.verdict(black_box(&message))).len())
}

fn together(kind: Kind, kib: usize, signatures: usize) -> Work {
    let (message, mut mailproof) = (signed(kind, kib, signatures), Together::new(TOGETHER));
    Box::new(move || black_box(mailproof.verdicts(black_box(&message))))
}
