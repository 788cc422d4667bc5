//! A DNS server for tests, benchmarks and load tests of resolvers: it answers from a zone and goes wrong as a plan says.
//!
//! ```
//! use std::net::UdpSocket;
//!
//! use mailproof::zone::Zone;
//! use mailproof_fault_dns::{Fault, Plan, Rule, Server};
//!
//! let zone = Zone::from_yaml("a.example:\n- TXT: it\n")?;
//! // The first query for each question is lost, the second is answered.
//! let plan = Plan::new(7).with(Rule::new(Fault::Loss).nth(1..=1));
//! let server = Server::start(zone, plan)?;
//!
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x10\0\x01";
//! client.send_to(query, server.addr())?;
//! client.send_to(query, server.addr())?;
//! let mut reply = [0; 512];
//! let (_, from) = client.recv_from(&mut reply)?;
//! assert_eq!((from, &reply[..2]), (server.addr(), &query[..2]));
//! assert_eq!(server.statistics().faults["loss"], 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Plan`], [`Rule`], [`Fault`]: what goes wrong, for which queries, how likely; from code or from YAML, seeded.
//! - [`Server`]: UDP and TCP on a port of the kernel's choice; paused, stopped and started again on the same port.
//! - [`Flood`]: forged answers from beside the path.
//! - [`Statistics`] and [`Server::questions`]: what it did, and how often each question came.
//!
//! Cost: a query that meets no fault is a look-up and a copy, in batches of 64 for each of two system calls. A delayed
//! reply is an entry of one heap. A faulty reply is taken apart and written anew.
#![forbid(unsafe_code)]

mod answer;
mod cache;
pub mod command;
mod connection;
pub mod datagrams;
mod desk;
mod draw;
mod flood;
mod message;
mod plan;
mod replies;
mod server;
mod statistics;
mod timers;
mod worker;

pub use crate::flood::{Flood, FloodReport, FloodWay};
pub use crate::plan::{
    BIT_FLIPS_MAX, CNAME_LINKS_MAX, Counts, Fault, MILLISECONDS_MAX, PLAN_FILE_BYTES_MAX, Plan, PlanError, RULES_MAX,
    Rule, Span, Stage, Transport,
};
pub use crate::replies::Replies;
pub use crate::server::{Options, Server, THREADS_MAX};
pub use crate::statistics::{QUESTIONS_MAX, Statistics};
pub use crate::worker::TCP_CONNECTIONS_MAX;
