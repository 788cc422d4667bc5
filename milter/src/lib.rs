//! The milter and the policy service of Mailproof, for Postfix and Sendmail.
#![forbid(unsafe_code)]

pub mod config;
pub mod log;
pub mod metrics;
pub mod network;
pub mod policy;
pub mod protocol;
pub mod signing;
