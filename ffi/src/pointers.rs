//! What comes through pointers, and what goes out through them.
//!
//! Every function here trusts its caller in one thing, which the header demands of C: a pointer that is not NULL points
//! to what its type says, for as long as the call takes, and nobody else writes there meanwhile.

use std::borrow::Cow;
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use crate::status::{Failure, Outcome, mailproof_status};

/// Structures that callers fill in and hand over with their size, so that later versions can add members at the end.
///
/// # Safety
/// The first member is `size: usize`, and the structure with all octets zero is a value of the type.
pub(crate) unsafe trait Given: Sized {
    /// Octets of the structure in the first version that had it: [`first_size`].
    const FIRST_SIZE: usize;
}

/// Structures that the library fills in, as far as the caller has room.
///
/// # Safety
/// Every octet of a value, up to the end of its last member, may be read by C.
pub(crate) unsafe trait Told: Sized {
    /// Octets of the structure in the first version that had it: [`first_size`].
    const FIRST_SIZE: usize;
}

/// Octets of a structure up to the end of a member: the last one of its first version, whatever is added behind it.
macro_rules! first_size {
    ($structure:ty, $last:ident) => {
        std::mem::offset_of!($structure, $last) + crate::pointers::size_of_member(|it: &$structure| &it.$last)
    };
}

pub(crate) use first_size;

pub(crate) const fn size_of_member<T, M>(_: fn(&T) -> &M) -> usize {
    size_of::<M>()
}

/// Octets of a structure that are looked at for members of later versions.
const STRUCTURE_BYTES_MAX: usize = 4096;

/// What is behind a handle that several threads may use.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn shared<'a, T>(handle: *const T, what: &'static str) -> Outcome<&'a T> {
    // SAFETY: the caller's, as the module says.
    unsafe { handle.as_ref() }.ok_or_else(|| Failure::null(what))
}

/// What is behind a handle that one thread uses at a time.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn exclusive<'a, T>(handle: *mut T, what: &'static str) -> Outcome<&'a mut T> {
    // SAFETY: the caller's, as the module says.
    unsafe { handle.as_mut() }.ok_or_else(|| Failure::null(what))
}

/// Where a result goes; what stands there before means nothing.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn out<'a, T>(to: *mut T) -> Outcome<&'a mut MaybeUninit<T>> {
    // SAFETY: the caller's, as the module says; what is not initialized yet is not read.
    unsafe { to.cast::<MaybeUninit<T>>().as_mut() }.ok_or_else(|| Failure::null("the out pointer"))
}

/// Ends a handle that was made by `Box::into_raw`; NULL is fine.
///
/// # Safety
/// The handle was made by this library, has not been freed, and nobody uses it.
pub(crate) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: the caller's, as above.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// A handle for C.
pub(crate) fn handle<T>(it: T) -> *mut T {
    Box::into_raw(Box::new(it))
}

/// Octets; NULL where there are none.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn octets<'a>(start: *const c_void, length: usize) -> Outcome<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if start.is_null() {
        return Err(Failure::null("what holds the octets"));
    }
    if length > isize::MAX as usize {
        return Err(Failure::new(mailproof_status::BadText, "a length beyond all memory"));
    }
    // SAFETY: not NULL, no longer than memory; the rest is the caller's.
    Ok(unsafe { std::slice::from_raw_parts(start.cast(), length) })
}

/// A list; NULL where it is empty.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn list<'a, T>(start: *const T, count: usize) -> Outcome<&'a [T]> {
    let length = count.saturating_mul(size_of::<T>());
    // SAFETY: the caller's. What fits as octets fits as the list.
    unsafe { octets(start.cast(), length)? };
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, no longer than memory; the rest is the caller's.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// A text that ends with NUL; `None` for NULL.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn octets_to_nul<'a>(text: *const c_char) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and it ends with NUL.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A text of the protocol, where others may have written what is no UTF-8: that becomes U+FFFD.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn foreign_text<'a>(text: *const c_char) -> Cow<'a, str> {
    // SAFETY: the caller's, as the module says.
    String::from_utf8_lossy(unsafe { octets_to_nul(text) }.unwrap_or_default())
}

/// A text of the program's own; `None` for NULL.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn own_text<'a>(text: *const c_char) -> Outcome<Option<&'a str>> {
    // SAFETY: the caller's, as the module says.
    let Some(octets) = (unsafe { octets_to_nul(text) }) else { return Ok(None) };
    let text = std::str::from_utf8(octets);
    text.map(Some).map_err(|_| Failure::new(mailproof_status::BadText, "a text that is no UTF-8"))
}

/// The path of a file.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn path<'a>(text: *const c_char) -> Outcome<&'a Path> {
    // SAFETY: the caller's, as the module says.
    let octets = unsafe { octets_to_nul(text) }.ok_or_else(|| Failure::null("the path"))?;
    Ok(Path::new(OsStr::from_bytes(octets)))
}

/// An address: its octets in network order where they are given, else its text; `None` where there is neither.
///
/// # Safety
/// As the module says.
pub(crate) unsafe fn address(text: *const c_char, start: *const u8, length: usize) -> Outcome<Option<IpAddr>> {
    let bad = |what: String| Failure::new(mailproof_status::BadAddress, what);
    if !start.is_null() {
        // SAFETY: the caller's, as the module says.
        let octets = unsafe { octets(start.cast(), length)? };
        if let Ok(octets) = <[u8; 4]>::try_from(octets) {
            return Ok(Some(Ipv4Addr::from(octets).into()));
        }
        let octets = <[u8; 16]>::try_from(octets);
        return octets.map(|it| Some(Ipv6Addr::from(it).into())).map_err(|_| bad(format!("{length} octets")));
    }
    // SAFETY: the caller's, as the module says.
    let text = unsafe { foreign_text(text) };
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| bad(format!("{text}: not an IP address")))
}

/// Reads a structure of the caller: members that it does not have are zero, and those that this version does not know
/// have to be.
///
/// # Safety
/// As the module says; there are as many octets as the first member tells.
pub(crate) unsafe fn given<T: Given>(from: *const T, what: &'static str) -> Outcome<T> {
    if from.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the first member is the size.
    let size = unsafe { from.cast::<usize>().read() };
    if !(T::FIRST_SIZE..=STRUCTURE_BYTES_MAX).contains(&size) {
        return Err(Failure::new(mailproof_status::BadSize, format!("{what}: size {size}")));
    }
    let mut it = MaybeUninit::<T>::zeroed();
    let known = size.min(size_of::<T>());
    // SAFETY: so many octets are there, and so much room.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), it.as_mut_ptr().cast::<u8>(), known) };
    for at in known..size {
        // SAFETY: below the size that the caller tells.
        if unsafe { from.cast::<u8>().add(at).read() } != 0 {
            return Err(Failure::new(mailproof_status::BadSize, format!("{what}: set beyond what this version knows")));
        }
    }
    // SAFETY: zeroes are a value, and what was copied is one.
    Ok(unsafe { it.assume_init() })
}

/// Whether [`tell`] can write, for calls that do something first.
pub(crate) fn has_room<T: Told>(size: usize, to: *mut T) -> Outcome {
    if to.is_null() {
        return Err(Failure::null("the out pointer"));
    }
    if !(T::FIRST_SIZE..=STRUCTURE_BYTES_MAX).contains(&size) {
        return Err(Failure::new(mailproof_status::BadSize, format!("room for {size} octets")));
    }
    Ok(())
}

/// Writes a structure as far as the caller has room; members of later versions become zero.
///
/// # Safety
/// As the module says; there is room for `size` octets.
pub(crate) unsafe fn tell<T: Told>(it: T, size: usize, to: *mut T) -> Outcome {
    has_room(size, to)?;
    let known = size.min(size_of::<T>());
    // SAFETY: so many octets are there, and so much room.
    unsafe { ptr::copy_nonoverlapping((&raw const it).cast::<u8>(), to.cast::<u8>(), known) };
    // SAFETY: the rest of the caller's room.
    unsafe { ptr::write_bytes(to.cast::<u8>().add(known), 0, size - known) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    struct Known {
        size: usize,
        first: u64,
        second: u64,
    }
    // SAFETY: it begins with its size, and zeroes are a value.
    unsafe impl Given for Known {
        const FIRST_SIZE: usize = 16;
    }
    // SAFETY: it has no padding.
    unsafe impl Told for Known {
        const FIRST_SIZE: usize = 16;
    }

    fn read(structure: &[u64]) -> Result<Known, mailproof_status> {
        // SAFETY: as many octets as the first says, or a size that is refused.
        unsafe { given(structure.as_ptr().cast::<Known>(), "it") }.map_err(|failure| failure.status())
    }

    #[test]
    fn structures_of_other_versions_are_read() {
        assert_eq!(read(&[24, 1, 2]), Ok(Known { size: 24, first: 1, second: 2 }));
        assert_eq!(read(&[16, 1, 99]), Ok(Known { size: 16, first: 1, second: 0 }));
        assert_eq!(read(&[32, 1, 2, 0]), Ok(Known { size: 32, first: 1, second: 2 }));
        assert_eq!(read(&[32, 1, 2, 1]), Err(mailproof_status::BadSize));
        assert_eq!(read(&[15, 1, 2]), Err(mailproof_status::BadSize));
        assert_eq!(read(&[0, 1, 2]), Err(mailproof_status::BadSize));
        assert_eq!(read(&[STRUCTURE_BYTES_MAX as u64 + 1, 1, 2]), Err(mailproof_status::BadSize));
        let mut longest = vec![0; STRUCTURE_BYTES_MAX / 8];
        longest[0] = STRUCTURE_BYTES_MAX as u64;
        assert!(read(&longest).is_ok());
    }

    #[test]
    fn structures_of_other_versions_are_written() {
        for (size, wanted) in [(24, [9, 1, 2, 7]), (16, [9, 1, 7, 7]), (32, [9, 1, 2, 0])] {
            let mut room = [7_u64; 4];
            let it = Known { size: 9, first: 1, second: 2 };
            // SAFETY: there is room for 32 octets.
            unsafe { tell(it, size, room.as_mut_ptr().cast::<Known>()) }.unwrap();
            assert_eq!(room, wanted);
        }
        let it = Known { size: 9, first: 1, second: 2 };
        let mut room = [7_u64; 4];
        // SAFETY: as above.
        let refused = unsafe { tell(it, 15, room.as_mut_ptr().cast::<Known>()) };
        assert_eq!(refused.unwrap_err().status(), mailproof_status::BadSize);
        assert_eq!(room, [7; 4]);
    }

    #[test]
    fn addresses() {
        // SAFETY: every pointer is to a whole text or as many octets as are named.
        let read = |text: Option<&CStr>, octets: &[u8]| unsafe {
            let start = if octets.is_empty() { ptr::null() } else { octets.as_ptr() };
            address(text.map_or(ptr::null(), CStr::as_ptr), start, octets.len()).map_err(|failure| failure.status())
        };
        let v4 = Some(IpAddr::from([192, 0, 2, 7]));
        assert_eq!(read(Some(c"192.0.2.7"), &[]), Ok(v4));
        assert_eq!(read(Some(c"nonsense"), &[192, 0, 2, 7]), Ok(v4));
        assert_eq!(read(None, &[0; 16]), Ok(Some(Ipv6Addr::UNSPECIFIED.into())));
        assert_eq!(read(None, &[]), Ok(None));
        assert_eq!(read(Some(c""), &[]), Ok(None));
        assert_eq!(read(Some(c"192.0.2"), &[]), Err(mailproof_status::BadAddress));
        assert_eq!(read(None, &[0; 5]), Err(mailproof_status::BadAddress));
    }
}
