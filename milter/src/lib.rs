//! The milter and the policy service of Mailproof, for Postfix and Sendmail.
#![forbid(unsafe_code)]

pub mod config;
mod conversation;
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
pub use self::service::{MessageReport, Observer, Service};
