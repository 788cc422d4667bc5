//! Everything in Mailproof that decides: SPF, DKIM, ARC, DMARC, Authentication-Results and DNS, as values with methods.
//!
//! Nothing here opens a socket, reads a clock, starts a thread or draws a random number. A driver hands in the envelope,
//! the octets of the message, DNS answers and the time; it gets back DNS questions, a deadline, or the verdict. The same
//! code therefore runs under every driver, and replays years later.
//!
//! An evaluation is a function of its inputs and of the DNS answers known so far. Where an answer is missing it notes
//! the question and returns `None`; the driver finds the answer and calls again. Answers are remembered for the whole
//! evaluation, so the order in which they arrive can not change a verdict.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod arc;
pub mod authres;
pub mod dkim;
pub mod dmarc;
pub mod dns;
pub mod limits;
pub mod message;
pub mod spf;
pub mod tag_list;
pub mod time;
pub mod verdict;
pub mod verification;
