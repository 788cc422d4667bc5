//! Allocations and octets of every case, once everything is warm; with `--table FILE` as lines of a table too.

use std::fmt::Write as _;
use std::{env, fs, io};

use mailproof_benches::allocations::{Allocations, Counting};
use mailproof_benches::cases;
use mailproof_benches::mail_auth_side::MailAuth;
use mailproof_benches::messages::{Kind, SIZES_KIB, message};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> io::Result<()> {
    let (mut table, print) = (String::new(), |name: &str, asked: Allocations| {
        println!("{name:<44}{:>12}{:>14}", asked.count, asked.bytes);
    });
    println!("{:<44}{:>12}{:>14}", "case", "allocations", "octets");
    for case in cases::all() {
        let mut work = case.prepare();
        work();
        let (asked, _) = Allocations::of(&mut work);
        print(&case.id(), asked);
        // Writing to a String can not fail.
        let _ = writeln!(table, "allocations,{},n,{}", case.id(), asked.count);
        let _ = writeln!(table, "octets allocated,{},bytes,{}", case.id(), asked.bytes);
    }
    let theirs = MailAuth::new();
    for (kind, kib) in SIZES_KIB.into_iter().flat_map(|kib| Kind::ALL.map(|kind| (kind, kib))) {
        let message = message(kind, kib);
        for _ in 0..3 {
            let _ = theirs.verdict(&message);
        }
        let (asked, _) = Allocations::of(|| theirs.verdict(&message));
        print(&format!("mail-auth, {kib}KiB {}", kind.name()), asked);
    }
    let mut arguments = env::args().skip_while(|it| it != "--table").skip(1);
    arguments.next().map_or(Ok(()), |path| fs::write(path, table))
}
