//! Sockets of one thread, by io_uring or by epoll.
//!
//! A [`Driver`] belongs to the thread that made it. Sockets are added to it; it receives, sends, accepts and connects,
//! and says in [`Event`]s what happened. It computes nothing, so its owner decides when to look: after every slice of
//! work, not when a runtime finds time.
//!
//! ```
//! use std::net::UdpSocket;
//! use std::time::{Duration, Instant};
//! use mailproof_io::{Choice, Driver, Event, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
//! here.connect(there.local_addr()?)?;
//! there.connect(here.local_addr()?)?;
//!
//! let mut driver = Driver::new(Choice::Auto, Options::default())?;
//! let socket = driver.add_datagram(here.into())?;
//! driver.receive(socket);
//! there.send(b"hello")?;
//! driver.wait(Some(Instant::now() + Duration::from_secs(5)))?;
//! while let Some(event) = driver.next_event() {
//!     if let Event::Received { octets, .. } = event {
//!         assert_eq!(octets, b"hello");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # The two backends
//!
//! *Ring*: one io_uring a thread, made with SINGLE_ISSUER and DEFER_TASKRUN (without them the same work costs a quarter
//! to a half more). Receiving and accepting are multishot; octets are handed out where the kernel put them. Nothing that
//! the kernel may still touch is freed before its last completion.
//!
//! *Epoll*: level-triggered epoll, datagrams by recvmmsg and sendmmsg. Container runtimes refuse io_uring by default, so
//! this is what many users run.
//!
//! [`Choice::Auto`] takes the ring where it works, which is found out by using it: a filter may allow the set-up and
//! refuse the rest. A filter that appears later moves the driver to epoll, see [`Event::Moved`].
//!
//! # Why not a runtime
//!
//! Measured on a 2-CPU virtual machine with Linux 6.18: with tokio-uring 0.5 and tokio 1.54 no operation reaches the ring
//! while a task is runnable, a read that is dropped loses the octets it would have read, and port-0 sockets share ports.
//! A DNS round trip beside 64 tasks that compute takes 0.2 ms in a loop that looks at the ring between slices, and 6 ms
//! under tokio.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batch;
mod driver;
mod epoll;
mod outbox;
mod ring;
#[cfg(feature = "simulation")]
pub mod simulated;
mod socket;
mod waker;

pub use self::driver::{Backend, Choice, Driver, DriverError, Event, Options, Statistics};
pub use self::socket::SocketId;
pub use self::waker::Waker;
