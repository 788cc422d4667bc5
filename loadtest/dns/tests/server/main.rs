//! The server from outside, over real sockets.

mod client;
mod faults;
mod flood;
mod life;
mod plain;
mod plans;
mod tcp;
