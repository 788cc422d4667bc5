//! Which library this is.

use std::ffi::c_char;

/// In mailproof_features(): the DNS client and the threads, MAILPROOF_DNS_SYSTEM, MAILPROOF_DNS_SERVERS, and queues.
pub const MAILPROOF_FEATURE_NETWORK: u32 = 1;
/// In mailproof_features(): zones.
pub const MAILPROOF_FEATURE_ZONE_FILES: u32 = 2;
/// In mailproof_features(): servers with a name are asked by DNS over TLS (RFC 7858).
pub const MAILPROOF_FEATURE_DNS_OVER_TLS: u32 = 4;
/// In mailproof_features(): mailproof_explain().
pub const MAILPROOF_FEATURE_EXPLAIN: u32 = 8;

/// The version of the library, as in "1.2.3". A constant of the library. From any thread.
#[unsafe(no_mangle)]
pub extern "C" fn mailproof_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// What this build of the library has: MAILPROOF_FEATURE_NETWORK and others, added up. The functions of what it leaves out
/// are there, and answer with MAILPROOF_STATUS_UNSUPPORTED. From any thread.
#[unsafe(no_mangle)]
pub extern "C" fn mailproof_features() -> u32 {
    let mut features = 0;
    if cfg!(feature = "network") {
        features |= MAILPROOF_FEATURE_NETWORK;
    }
    if cfg!(feature = "zone-files") {
        features |= MAILPROOF_FEATURE_ZONE_FILES;
    }
    if cfg!(feature = "dns-over-tls") {
        features |= MAILPROOF_FEATURE_DNS_OVER_TLS;
    }
    if cfg!(feature = "explain") {
        features |= MAILPROOF_FEATURE_EXPLAIN;
    }
    features
}
