//! The engine's workers, its DNS client and cache, and the milter on one thread, in virtual time, with faults drawn from a
//! seed, and what has to hold checked after every step.
//!
//! What runs is what runs elsewhere: the loop of a worker, the conversations it hosts, the lookups, the cache, the milter
//! protocol, the verification. Only the kernel and all peers are stood for: sockets, time, DNS servers, mail servers. A seed
//! decides everything, so a run that goes wrong goes wrong again, and can be made smaller.
//!
//! Not simulated: the two backends of the driver themselves, threads (workers take turns), DNS over TLS, the policy service.

mod check;
mod client;
mod command;
mod host;
mod plan;
mod run;
mod shrink;
mod world;

pub use self::check::{Invariant, Violation};
pub(crate) use self::command::run as command;
pub use self::plan::{Cuts, Plain, Plan, Trouble};
pub use self::run::{Ran, Stage, play};
pub use self::shrink::shrink;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Plays the plan of a seed, without what is left out. A panic is a violation too.
#[must_use]
pub fn run(stage: &Stage, seed: u64, cuts: &Cuts, traces: bool) -> Ran {
    let plan = Plan::draw(seed, cuts);
    catch_unwind(AssertUnwindSafe(|| play(stage, &plan, traces))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let detail = text.unwrap_or("something panicked").to_owned();
        let violation = Some(Violation { invariant: Invariant::NoPanic, detail });
        Ran { hash: 0, turns: 0, judged: 0, violation, trace: Vec::new() }
    })
}

#[cfg(test)]
mod tests;
