//! Mailproof verifies SPF, DKIM, DMARC and ARC for message streams, with a cached DNS layer.
#![forbid(unsafe_code)]

#[cfg(feature = "cross-check")]
pub mod cross_check;
pub mod cache;
pub mod resolver;
#[cfg(feature = "zone-files")]
pub mod zone;
