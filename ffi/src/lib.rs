//! libmailproof: the engine behind a C interface. The interface is described in `include/mailproof.h`, which is made from
//! the comments here; programs that use it are in `examples`.
//!
//! What holds for every function, and is said once at the top of the header, is kept in two modules: `status` stops panics
//! and turns failures into numbers, `pointers` reads and writes what is behind pointers.
//!
//! Cost beside the engine: two copies of the envelope's texts, one piece of memory for the verdict, and one more when a
//! text of it is first read.
#![allow(non_camel_case_types, reason = "they are the names of the header")]
#![allow(clippy::missing_safety_doc, reason = "the duties of callers stand in the comments, which C programmers read")]

mod answer;
mod build;
mod engine;
mod envelope;
mod log;
mod pointers;
#[cfg_attr(not(feature = "network"), path = "queue_absent.rs")]
mod queue;
mod session;
mod signer;
mod status;
mod verdict;
mod zone;

pub use self::answer::*;
pub use self::build::*;
pub use self::engine::*;
pub use self::envelope::*;
pub use self::log::*;
pub use self::queue::*;
pub use self::session::*;
pub use self::signer::*;
pub use self::status::*;
pub use self::verdict::*;
pub use self::zone::*;
