//! What Mailproof's tests share: the corpus runner, a driver for evaluations, scenarios and the oracles.

pub mod corpus;
pub mod demo;
#[cfg(feature = "oracles")]
pub mod differential;
pub mod drive;
pub mod generate;
pub mod mail_server;
pub mod properties;
pub mod random;
pub mod responder;
pub mod scenario;
pub mod servers;
pub mod stream;
pub mod verify;
