//! The milter and the policy service of Mailproof, for Postfix and Sendmail.
//!
//! Everything but [`daemon`] is sans I/O: a [`MilterConversation`] or [`PolicyConversation`] is the state of one
//! connection, driven by a loop through [`mailproof::service::Conversation`]. The loop brings the sockets, the DNS and the
//! time.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use mailproof::Engine;
//! use mailproof::service::{Conversation, Host, Requests};
//! use mailproof_milter::config::Config;
//! use mailproof_milter::log::Sink;
//! use mailproof_milter::signing::Signer;
//! use mailproof_milter::{MilterConversation, Service};
//!
//! struct StandardError;
//!
//! impl Sink for StandardError {
//!     fn write_line(&self, line: &str) {
//!         eprintln!("{line}");
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::parse("[policy]\nmode = \"enforce\"", Path::new("mailproof.toml"))?;
//! let engine = Engine::builder().options(config.options("mx.example.net")).offline().build()?;
//! let signer = Signer::load(&config.signing)?;
//! let service = Service::new(&config, "mx.example.net", signer, Arc::default(), Arc::new(StandardError));
//!
//! let mut conversation = MilterConversation::new(Arc::new(service), engine.clone());
//! let mut requests = Requests::default();
//! // What a mail server says first: version 6, every action, every step.
//! let offer = [0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff];
//! conversation.received(&offer, &mut Host::new(engine.now(), &mut requests));
//! assert_eq!(requests.take_output().get(4), Some(&b'O'));
//! # Ok(())
//! # }
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`protocol`] | the milter protocol, versions 2 and 6 |
//! | [`policy`] | what is done with a message: a pure function |
//! | [`signing`] | keys, patterns, signatures; OpenDKIM's tables; new keys |
//! | [`config`] | the configuration file |
//! | [`daemon`] | sockets, signals, reload, end |
//! | [`log`], [`metrics`] | one line an event; figures and state over HTTP |
#![forbid(unsafe_code)]

pub mod config;
mod conversation;
pub mod daemon;
mod guard;
pub mod log;
pub mod metrics;
pub mod network;
pub mod policy;
mod policy_service;
pub mod protocol;
mod service;
pub mod signing;

pub use self::conversation::MilterConversation;
pub use self::policy_service::PolicyConversation;
pub use self::service::{Auditor, MessageReport, Observer, Sample, Service};
