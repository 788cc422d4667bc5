//! Allocations and octets for one verdict, once everything is warm.

use mailproof_benches::allocations::{Allocations, Counting};
use mailproof_benches::mail_auth_side::MailAuth;
use mailproof_benches::mailproof_side::Mailproof;
use mailproof_benches::messages::{Kind, SIZES_KIB, message};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let (theirs, mut ours) = (MailAuth::new(), Mailproof::new());
    println!("{:<16}{:>12}{:>12}{:>14}{:>14}", "message", "mailproof", "mail-auth", "mailproof", "mail-auth");
    println!("{:<16}{:>12}{:>12}{:>14}{:>14}", "", "allocations", "allocations", "octets", "octets");
    for (kind, kib) in SIZES_KIB.into_iter().flat_map(|kib| Kind::ALL.map(|kind| (kind, kib))) {
        let message = message(kind, kib);
        for _ in 0..3 {
            let _ = ours.verdict(&message);
            let _ = theirs.verdict(&message);
        }
        let (own, _) = Allocations::of(|| _ = ours.verdict(&message));
        let (other, _) = Allocations::of(|| theirs.verdict(&message));
        let name = format!("{kib} KiB {}", kind.name());
        println!("{name:<16}{:>12}{:>12}{:>14}{:>14}", own.count, other.count, own.bytes, other.bytes);
    }
}
