//! Messages from Python objects.

use std::fmt;
use std::ops::Deref;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// Octets of one message; more are refused.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The octets of a message with CRLF line ends.
pub(crate) enum Octets {
    /// Those of a `bytes` object.
    Borrowed(PyBackedBytes),
    /// A copy.
    Own(Vec<u8>),
    /// A copy whose line ends were LF.
    Converted(Vec<u8>),
}

impl Octets {
    /// The octets of whatever Python keeps a message in.
    ///
    /// # Errors
    /// `TypeError` when it is no message, `ValueError` when it is too long, `OSError` when it can not be read.
    pub(crate) fn of(message: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = message.cast::<PyBytes>() {
            return Self::with_crlf(PyBackedBytes::from(bytes.clone()));
        }
        if let Ok(buffer) = PyBuffer::<u8>::get(message) {
            // It may be a view of more than there is memory.
            check_length(buffer.len_bytes())?;
            return Ok(Self::with_crlf_copied(buffer.to_vec(message.py())?));
        }
        let py = message.py();
        let module = py.import(pyo3::intern!(py, "mailproof._messages"))?;
        let octets = module.call_method1(pyo3::intern!(py, "octets"), (message,))?;
        Self::with_crlf(PyBackedBytes::from(octets.cast_into::<PyBytes>()?))
    }

    fn with_crlf(bytes: PyBackedBytes) -> PyResult<Self> {
        check_length(bytes.len())?;
        Ok(match crlf(&bytes) {
            None => Self::Borrowed(bytes),
            Some(converted) => Self::Converted(converted),
        })
    }

    fn with_crlf_copied(octets: Vec<u8>) -> Self {
        crlf(&octets).map_or(Self::Own(octets), Self::Converted)
    }

    /// True when the message was stored with LF line ends.
    pub(crate) fn had_lf(&self) -> bool {
        matches!(self, Self::Converted(_))
    }

    /// The octets for keeps.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Borrowed(bytes) => bytes.to_vec(),
            Self::Own(octets) | Self::Converted(octets) => octets,
        }
    }
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Own(octets) | Self::Converted(octets) => octets,
        }
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Octets({})", self.len())
    }
}

fn check_length(length: usize) -> PyResult<()> {
    if length > MESSAGE_BYTES_MAX {
        return Err(PyValueError::new_err(format!("a message of more than {MESSAGE_BYTES_MAX} octets")));
    }
    Ok(())
}

/// The message with the line ends it had when it was sent; `None` where they are right.
///
/// Mail stored on Unix has LF line ends. When not one line of the header ends in CRLF, every LF of the message that has
/// no CR in front gets one. When at least one does, nothing is changed, since signatures cover the octets as they are.
fn crlf(octets: &[u8]) -> Option<Vec<u8>> {
    let mut header = octets.split_inclusive(|octet| *octet == b'\n').take_while(|line| *line != b"\n");
    if header.any(|line| line.ends_with(b"\r\n")) || !octets.contains(&b'\n') {
        return None;
    }
    let bare = octets.iter().filter(|octet| **octet == b'\n').count();
    let mut converted = Vec::with_capacity(octets.len() + bare);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) if !text.ends_with(b"\r") => {
                converted.extend_from_slice(text);
                converted.extend_from_slice(b"\r\n");
            }
            _ => converted.extend_from_slice(line),
        }
    }
    Some(converted)
}
