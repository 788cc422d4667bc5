//! Zones: the DNS from files or texts, for tests, replays and closed networks.

use std::ffi::{c_char, c_void};

#[cfg(feature = "zone-files")]
use mailproof::zone::{Zone, ZoneError};

use crate::log::Log;
use crate::pointers;
#[cfg(feature = "zone-files")]
use crate::status::{Failure, Outcome};
use crate::status::{guard, guard_quietly, mailproof_status};

/// Names with their records, in the place of the DNS. One thread at a time while names are added; an engine takes a copy.
#[derive(Debug, Default)]
pub struct mailproof_zone {
    #[cfg(feature = "zone-files")]
    pub(crate) zone: Zone,
}

/// The text is YAML: a map from names to lists of `{TYPE: data}`.
pub const MAILPROOF_ZONE_YAML: u32 = 0;
/// The text is a master file (RFC 1035 section 5).
pub const MAILPROOF_ZONE_MASTER: u32 = 1;

/// Makes a zone in which no name exists. It belongs to the caller: mailproof_zone_free().
///
/// MAILPROOF_STATUS_UNSUPPORTED in a build without zone files.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_zone_new(zone: *mut *mut mailproof_zone) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let zone = unsafe { pointers::out(zone)? };
        #[cfg(not(feature = "zone-files"))]
        return Err({
            let _ = zone;
            crate::status::Failure::unsupported("zone files")
        });
        #[cfg(feature = "zone-files")]
        {
            zone.write(pointers::handle(mailproof_zone::default()));
            Ok(())
        }
    })
}

/// Adds the names of a file, in place of those that are there: a master file (RFC 1035) when its name ends in `.zone`, else
/// YAML. After a failure the zone may hold some of them.
///
/// MAILPROOF_STATUS_BAD_ZONE when it can not be read; mailproof_last_error() tells the line or the name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_zone_add_file(zone: *mut mailproof_zone, path: *const c_char) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let zone = unsafe { pointers::exclusive(zone, "the zone")? };
        // SAFETY: the caller's.
        let path = unsafe { pointers::path(path)? };
        #[cfg(feature = "zone-files")]
        zone.zone.add_file(path).map_err(|error| failure(&error))?;
        #[cfg(not(feature = "zone-files"))]
        let _ = (zone, path);
        Ok(())
    })
}

/// Adds the names of a text of `length` octets, in place of those that are there. `form` is MAILPROOF_ZONE_YAML or
/// MAILPROOF_ZONE_MASTER. The text is not kept. After a failure the zone may hold some of the names.
///
/// MAILPROOF_STATUS_BAD_ZONE when it can not be read; mailproof_last_error() tells the line or the name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_zone_add_text(
    zone: *mut mailproof_zone,
    text: *const c_void,
    length: usize,
    form: u32,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let zone = unsafe { pointers::exclusive(zone, "the zone")? };
        // SAFETY: the caller's.
        let octets = unsafe { pointers::octets(text, length)? };
        #[cfg(feature = "zone-files")]
        add(&mut zone.zone, octets, form)?;
        #[cfg(not(feature = "zone-files"))]
        let _ = (zone, octets, form);
        Ok(())
    })
}

/// Frees a zone; NULL is fine. Engines that were made of it are not touched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_zone_free(zone: *mut mailproof_zone) {
    // SAFETY: the caller's.
    guard_quietly(|| unsafe { pointers::free(zone) });
}

#[cfg(feature = "zone-files")]
fn add(zone: &mut Zone, octets: &[u8], form: u32) -> Outcome {
    match form {
        MAILPROOF_ZONE_YAML => {
            let text = std::str::from_utf8(octets);
            let text = text.map_err(|_| Failure::new(mailproof_status::BadText, "a zone that is no UTF-8"))?;
            zone.add_yaml(text)
        }
        MAILPROOF_ZONE_MASTER => zone.add_master(octets),
        _ => return Err(Failure::new(mailproof_status::BadOption, format!("form {form} of a zone"))),
    }
    .map_err(|error| failure(&error))
}

#[cfg(feature = "zone-files")]
fn failure(error: &ZoneError) -> Failure {
    Failure::new(mailproof_status::BadZone, error.to_string())
}
