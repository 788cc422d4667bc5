//! The extension module `mailproof._mailproof`: the engine as Python objects. The package around it, which is what programs
//! import, adds what is better written in Python: `averify`, tables, the command.
//!
//! What every function here keeps to:
//!
//! - Verdicts are data. Exceptions are for what the caller got wrong (`TypeError`, `ValueError`) and for what the system
//!   refused (`OSError`); a message, whatever its octets are, has a verdict.
//! - The interpreter is released while a message is verified. Threads that verify never touch a Python object.
//! - `bytes` are borrowed, everything that can change is copied.
//! - A call that waits for the DNS looks for signals while it does.
//!
//! Cost of a call beside the verification: the arguments (0.2 µs), the verdict put into its object (0.1 µs). What a
//! verdict says becomes Python objects when it is read.
#![forbid(unsafe_code)]

mod arguments;
mod authres;
mod batch;
mod completions;
mod engine;
mod envelope;
mod kept;
mod living;
mod message;
mod record;
mod results;
mod session;
mod signing;
mod spf;
mod verdict;
mod waiting;

/// The engine behind the package `mailproof`; import that.
#[pyo3::pymodule(gil_used = false)]
mod _mailproof {
    #[pymodule_export]
    use super::authres::{AuthenticationResults, Property, Resinfo, parse_authentication_results, remove_forged};
    #[pymodule_export]
    use super::batch::Verdicts;
    #[pymodule_export]
    use super::completions::Completions;
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::envelope::Request;
    #[pymodule_export]
    use super::living::forked;
    #[pymodule_export]
    use super::results::{
        ArcOutcome, CacheStatistics, Defects, DmarcOutcome, NetworkStatistics, SignatureOutcome, SpfOutcome,
    };
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::signing::{GeneratedKey, SigningKey, key_zone_line, keygen, sign};
    #[pymodule_export]
    use super::spf::SpfCheck;
    #[pymodule_export]
    use super::verdict::Verdict;
}
