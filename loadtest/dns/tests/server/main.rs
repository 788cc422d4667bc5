//! The server from outside, over real sockets.

mod client;
mod faults;
mod plain;
