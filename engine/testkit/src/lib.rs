//! What Mailproof's tests share: the corpus runner, a driver for evaluations, scenarios and the oracles.

pub mod corpus;
pub mod demo;
pub mod drive;
pub mod properties;
pub mod responder;
pub mod scenario;
pub mod verify;
