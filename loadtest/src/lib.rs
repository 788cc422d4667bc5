//! Load on mail authentication, with every verdict checked: streams whose verdicts are known, an open-loop generator,
//! comparison with other programs, and scenarios that end in a pass or a fail.
//!
//! Messages start when the plan says, whatever the target does, and latency counts from that moment: a target that stalls
//! for a second makes every message late that was due in it. A run in which the generator itself fell behind is invalid
//! and says so. Only addresses of loopback and unix sockets are driven.
//!
//! ```
//! use std::time::Duration;
//!
//! use mailproof_loadtest::corpus::{Maker, Options, Sizes};
//! use mailproof_loadtest::drive::{self, Settings, Subject, Unseen};
//! use mailproof_loadtest::plan::Load;
//!
//! let maker = Maker::new(&Options { sizes: Sizes::Tiny, domain_count: 5, ..Options::new(10, 1) });
//! let corpus = maker.corpus();
//! let engine = mailproof::Engine::builder().zone(corpus.records.to_zone()?).build()?;
//! let load: Load = "50/s for 200ms".parse()?;
//! let run = drive::run(&Subject::Verifier(&engine), &corpus.letters, &load, &Settings::default(), &mut Unseen)?;
//! assert_eq!((run.total.offered, run.total.right), (10, 10));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`corpus`] | streams of mail, with their DNS and what must be found |
//! | [`plan`] | when messages start |
//! | [`target`] | what is driven |
//! | [`drive`] | the generator |
//! | [`measure`] | counts, latencies, what processes cost |
//! | [`report`] | a run as JSON, HTML and text |
//! | [`sim`] | the same parts on one thread, in virtual time, with faults drawn from a seed |
#![forbid(unsafe_code)]

pub mod arguments;
pub mod command;
pub mod compare;
pub mod corpus;
pub mod drive;
pub mod measure;
pub mod null;
pub mod plan;
pub mod report;
pub mod scenario;
pub mod sim;
pub mod sink;
pub mod spawner;
pub mod target;
pub mod view;
