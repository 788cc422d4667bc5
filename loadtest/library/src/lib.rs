//! libmailproof, loaded while running: what a mail server with modules does, to put load on it.
//!
//! Nothing here comes from the library's source. The declarations are those of `mailproof.h`, so a change that breaks
//! programs which are compiled already breaks this one too.
#![deny(unsafe_op_in_unsafe_fn)]

use std::ffi::{CStr, CString, NulError, c_char, c_void};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::Library as Shared;

/// An engine of libmailproof that answers DNS questions from a zone, and verifies messages in one call each.
pub struct Library {
    calls: Calls,
    engine: *mut Engine,
    name: String,
    // Last: everything above points into it.
    _shared: Shared,
}

// SAFETY: mailproof.h allows every call whose first argument is const from several threads at once; the engine is freed
// by the only owner.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// Who delivers a message.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The client.
    pub client: IpAddr,
    /// Its name, as it says.
    pub helo: &'a str,
    /// The reverse-path; empty for none.
    pub mail_from: &'a str,
}

/// Why the library can not be used, or gives no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// It is not there, or is something else.
    #[error("{}: {error}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        error: libloading::Error,
    },
    /// A call failed.
    #[error("{call}: {text}")]
    Call {
        /// Which one.
        call: &'static str,
        /// What the library says.
        text: String,
    },
    /// A name with a NUL, which no C text holds.
    #[error("a name with a NUL in it")]
    Nul(#[from] NulError),
}

impl Library {
    /// Loads the shared library at `path` and makes an engine with this zone, in the YAML form.
    ///
    /// # Errors
    /// [`LibraryError::Load`] when the file is not there or lacks a function, [`LibraryError::Call`] when the library does
    /// not take the zone.
    pub fn load(path: &Path, zone: &str) -> Result<Self, LibraryError> {
        let fault = |error| LibraryError::Load { path: path.to_owned(), error };
        // SAFETY: the file is named by whoever runs the program, to be run; libmailproof has no code that runs at loading.
        let shared = unsafe { Shared::new(path) }.map_err(fault)?;
        let calls = Calls::find(&shared).map_err(fault)?;
        let engine = calls.engine(zone)?;
        // SAFETY: the function takes nothing and gives a text that lasts.
        let version = unsafe { CStr::from_ptr((calls.version)()) };
        let name = format!("libmailproof {}", version.to_string_lossy());
        Ok(Self { calls, engine, name, _shared: shared })
    }

    /// Name and version.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Verifies a message with line ends of CR LF; gives the value of its Authentication-Results field.
    ///
    /// # Errors
    /// [`LibraryError::Call`] when the library says so, [`LibraryError::Nul`] for a name that no C text can be.
    pub fn verify(&self, message: &[u8], delivery: Delivery<'_>) -> Result<String, LibraryError> {
        let helo = CString::new(delivery.helo)?;
        let mail_from = CString::new(delivery.mail_from)?;
        let address = Octets::from(delivery.client);
        let octets = address.octets();
        let envelope = Envelope {
            size: size_of::<Envelope>(),
            ip: ptr::null(),
            ip_octets: octets.as_ptr(),
            ip_length: octets.len(),
            helo: helo.as_ptr(),
            mail_from: mail_from.as_ptr(),
            flags: 0,
        };
        let mut verdict = ptr::null_mut();
        // SAFETY: the engine is this one's own and not freed; the message is of that length; all that the envelope points to
        // lives until the call returns; a verdict is written only on success.
        let status = unsafe {
            (self.calls.verify)(self.engine, message.as_ptr().cast(), message.len(), &envelope, &mut verdict)
        };
        self.calls.check("mailproof_verify", status)?;
        let mut text = ptr::null();
        // SAFETY: the verdict was just made.
        let status = unsafe { (self.calls.results)(verdict, &mut text) };
        let results = self.calls.check("mailproof_verdict_authentication_results", status).map(|()| {
            // SAFETY: a text that ends with a NUL and belongs to the verdict, which is freed below.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        });
        // SAFETY: nothing points into the verdict any more.
        unsafe { (self.calls.verdict_free)(verdict) };
        results
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: made by this library, freed once, and no call is under way: they borrow this.
        unsafe { (self.calls.engine_free)(self.engine) };
    }
}

/// The address of a client in network order, as the library takes it.
enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Octets {
    fn octets(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

impl From<IpAddr> for Octets {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6(address.octets()),
        }
    }
}

type Status = u32;
const OK: Status = 0;
const DNS_ZONE: u32 = 2;
const ZONE_YAML: u32 = 0;

#[repr(C)]
struct Engine {
    _opaque: [u8; 0],
}

#[repr(C)]
struct Zone {
    _opaque: [u8; 0],
}

#[repr(C)]
struct Verdict {
    _opaque: [u8; 0],
}

#[repr(C)]
struct EngineOptions {
    size: usize,
    flags: u64,
    authserv_id: *const c_char,
    dns: u32,
    policy: u32,
    servers: *const *const c_char,
    server_count: usize,
    zone: *const Zone,
    threads: u32,
    backend: u32,
    cache_bytes: u64,
    cache_stale_seconds: u64,
    now_seconds: u64,
    log: Option<unsafe extern "C" fn(*mut c_void, u32, *const c_char)>,
    log_context: *mut c_void,
}

#[repr(C)]
struct Envelope {
    size: usize,
    ip: *const c_char,
    ip_octets: *const u8,
    ip_length: usize,
    helo: *const c_char,
    mail_from: *const c_char,
    flags: u64,
}

/// The functions that are called, as `mailproof.h` declares them.
struct Calls {
    version: unsafe extern "C" fn() -> *const c_char,
    last_error: unsafe extern "C" fn() -> *const c_char,
    zone_new: unsafe extern "C" fn(*mut *mut Zone) -> Status,
    zone_add_text: unsafe extern "C" fn(*mut Zone, *const c_void, usize, u32) -> Status,
    zone_free: unsafe extern "C" fn(*mut Zone),
    options_init: unsafe extern "C" fn(usize, *mut EngineOptions) -> Status,
    engine_new: unsafe extern "C" fn(*const EngineOptions, *mut *mut Engine) -> Status,
    engine_free: unsafe extern "C" fn(*mut Engine),
    verify: unsafe extern "C" fn(*const Engine, *const c_void, usize, *const Envelope, *mut *mut Verdict) -> Status,
    results: unsafe extern "C" fn(*const Verdict, *mut *const c_char) -> Status,
    verdict_free: unsafe extern "C" fn(*mut Verdict),
}

impl Calls {
    fn find(shared: &Shared) -> Result<Self, libloading::Error> {
        // SAFETY: each has the type that mailproof.h gives it, and is kept no longer than the library.
        unsafe {
            Ok(Self {
                version: *shared.get(b"mailproof_version\0")?,
                last_error: *shared.get(b"mailproof_last_error\0")?,
                zone_new: *shared.get(b"mailproof_zone_new\0")?,
                zone_add_text: *shared.get(b"mailproof_zone_add_text\0")?,
                zone_free: *shared.get(b"mailproof_zone_free\0")?,
                options_init: *shared.get(b"mailproof_engine_options_init\0")?,
                engine_new: *shared.get(b"mailproof_engine_new\0")?,
                engine_free: *shared.get(b"mailproof_engine_free\0")?,
                verify: *shared.get(b"mailproof_verify\0")?,
                results: *shared.get(b"mailproof_verdict_authentication_results\0")?,
                verdict_free: *shared.get(b"mailproof_verdict_free\0")?,
            })
        }
    }

    fn engine(&self, records: &str) -> Result<*mut Engine, LibraryError> {
        let mut zone = ptr::null_mut();
        // SAFETY: a zone is written on success.
        let status = unsafe { (self.zone_new)(&mut zone) };
        self.check("mailproof_zone_new", status)?;
        // SAFETY: the zone was just made, and the text is of that length.
        let status = unsafe { (self.zone_add_text)(zone, records.as_ptr().cast(), records.len(), ZONE_YAML) };
        let engine = self.check("mailproof_zone_add_text", status).and_then(|()| self.engine_of(zone));
        // SAFETY: the engine has a copy.
        unsafe { (self.zone_free)(zone) };
        engine
    }

    fn engine_of(&self, zone: *const Zone) -> Result<*mut Engine, LibraryError> {
        let mut options = EngineOptions {
            size: 0,
            flags: 0,
            authserv_id: ptr::null(),
            dns: 0,
            policy: 0,
            servers: ptr::null(),
            server_count: 0,
            zone: ptr::null(),
            threads: 0,
            backend: 0,
            cache_bytes: 0,
            cache_stale_seconds: 0,
            now_seconds: 0,
            log: None,
            log_context: ptr::null_mut(),
        };
        // SAFETY: the size is that of the structure, of which no more is written.
        let status = unsafe { (self.options_init)(size_of::<EngineOptions>(), &mut options) };
        self.check("mailproof_engine_options_init", status)?;
        (options.authserv_id, options.dns, options.zone) = (c"mx.example.net".as_ptr(), DNS_ZONE, zone);
        let mut engine = ptr::null_mut();
        // SAFETY: all that the options point to lives until the call returns.
        let status = unsafe { (self.engine_new)(&options, &mut engine) };
        self.check("mailproof_engine_new", status)?;
        Ok(engine)
    }

    fn check(&self, call: &'static str, status: Status) -> Result<(), LibraryError> {
        if status == OK {
            return Ok(());
        }
        // SAFETY: the text of the last fault on this thread, which lasts until the next call.
        let text = unsafe { CStr::from_ptr((self.last_error)()) }.to_string_lossy().into_owned();
        Err(LibraryError::Call { call, text })
    }
}
