//! What the benchmarks share: messages, and the two verifiers that judge them.
//!
//! The task is the whole verdict on one message with warm caches: SPF with three includes, one RSA-2048 signature in
//! relaxed/relaxed form, DMARC, and the Authentication-Results field written. Both verifiers see the same octets and
//! the same DNS records in one process; neither has a network. Every bench checks the verdict before it takes the time.
//!
//! ```text
//! cargo bench -p mailproof-benches --bench verdict       time for each size and kind of body
//! cargo bench -p mailproof-benches --bench canonical     the body forms alone, for every vector routine of the CPU
//! cargo bench -p mailproof-benches --bench keys          one signature verified, one key prepared
//! cargo bench -p mailproof-benches --bench dns           a question that is not in the cache
//! cargo bench -p mailproof-benches --bench latency       an answer while the same thread verifies
//! cargo bench -p mailproof-benches --bench cache         a million cached names
//! cargo bench -p mailproof-benches --bench allocations   allocations and octets for one verdict
//! ```

pub mod allocations;
pub mod cases;
pub mod comparison;
pub mod mail_auth_side;
pub mod mailproof_side;
pub mod messages;
pub mod picture;
pub mod record;
