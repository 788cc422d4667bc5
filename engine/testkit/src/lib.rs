//! What Mailproof's tests share: the corpus runner, a driver for evaluations, scenarios and the oracles.

pub mod corpus;
pub mod drive;
pub mod properties;
pub mod scenario;
pub mod verify;
