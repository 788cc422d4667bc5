//! Mailproof verifies SPF, DKIM, DMARC and ARC for message streams, with a cached DNS layer.
//!
//! ```
//! use mailproof::{Engine, Envelope, zone::Zone};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let zone = Zone::from_yaml(
//!     "example.org: [{TXT: v=spf1 ip4:192.0.2.7 -all}]\n_dmarc.example.org: [{TXT: v=DMARC1; p=reject}]",
//! )?;
//! let engine = Engine::builder().authserv_id("mx.example.net").zone(zone).build()?;
//! let envelope = Envelope::new("192.0.2.7".parse()?, "mail.example.org", "ann@example.org");
//! let verdict = engine.verify(b"From: ann@example.org\r\n\r\nHello.\r\n", envelope);
//! assert_eq!(verdict.dmarc.result.word(), "pass");
//! println!("Authentication-Results: {}", verdict.authentication_results);
//! # Ok(())
//! # }
//! ```
//!
//! Without `.zone(..)` the engine asks the resolvers of the system, with its own client on its own threads. Everything is decided in the crate
//! `mailproof-proto`, which does no input or output; this crate feeds it messages, DNS answers and the time.
//!
//! | feature | what |
//! |---|---|
//! | `blocking-resolver` (default) | engines that ask by sockets of the thread that wants an answer |
//! | `network` (default) | the engine's own DNS client and worker threads, on io_uring or epoll |
//! | `dns-over-tls` | encrypted questions to servers that prove their name (RFC 7858, RFC 8310) |
//! | `tokio-uring` | conversations over the streams of a program that lives on tokio-uring |
//! | `zone-files` (default) | DNS from files: YAML and RFC 1035 master files |
//! | `simulation` | the workers on one thread, over a network and a clock that are simulated: for tests |
//! | `cross-check` | the same message through the crate mail-auth, for a second opinion |
//!
//! With none of them there is no thread and no socket: the questions come out of a [`Session`], and whoever drives it
//! hands in the answers.
#![forbid(unsafe_code)]

pub mod cache;
#[cfg(feature = "cross-check")]
pub mod cross_check;
mod engine;
mod hashing;
pub mod keygen;
#[cfg(feature = "network")]
pub mod network;
mod recent;
pub mod resolver;
pub mod service;
mod session;
#[cfg(feature = "simulation")]
pub mod simulation;
#[cfg(feature = "tokio-uring")]
pub mod tokio_uring;
#[cfg(feature = "zone-files")]
pub mod zone;

pub use mailproof_proto as proto;
pub use mailproof_proto::verdict::{Action, Verdict};
pub use mailproof_proto::verification::{Envelope, Options, Progress};

pub use self::engine::{Engine, EngineBuilder};
pub use self::session::Session;
