//! Arguments that are taken with more patience, or refused with other words, than PyO3 does of itself.

use std::ops::RangeInclusive;

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Text from a peer or from the file system.
///
/// What is no UTF-8 Python keeps as lone surrogates (PEP 383): octets that are UTF-8 after all are taken as such, the rest
/// becomes U+FFFD, so that no peer makes a call raise.
#[derive(Debug, Default)]
pub(crate) struct Text(pub(crate) String);

impl FromPyObject<'_, '_> for Text {
    type Error = PyErr;

    fn extract(it: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let text = it.cast::<PyString>()?;
        if let Ok(text) = text.to_str() {
            return Ok(Self(text.to_owned()));
        }
        let octets = text.call_method1("encode", ("utf-8", "surrogateescape"));
        Ok(Self(match octets.as_ref().map(|octets| octets.cast::<PyBytes>()) {
            Ok(Ok(octets)) => String::from_utf8_lossy(octets.as_bytes()).into_owned(),
            // Surrogates that stand for no octet.
            _ => text.to_string_lossy().into_owned(),
        }))
    }
}

/// A natural number; `None` for an integer that is none, or is larger than any that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Natural(Option<u64>);

impl Natural {
    pub(crate) const fn new(number: u64) -> Self {
        Self(Some(number))
    }

    /// The number, where it is in range.
    ///
    /// # Errors
    /// `ValueError` with the name of the argument where it is not.
    pub(crate) fn within(self, name: &str, range: RangeInclusive<u64>) -> PyResult<u64> {
        let is_in_range = |number: &u64| range.contains(number);
        let refuse = || {
            let given = self.0.map_or_else(String::new, |number| format!(", not {number}"));
            PyValueError::new_err(format!("{name}: {} to {}{given}", range.start(), range.end()))
        };
        self.0.filter(is_in_range).ok_or_else(refuse)
    }

    /// As [`Natural::within`], for a number of things in memory.
    pub(crate) fn count_within(self, name: &str, range: RangeInclusive<usize>) -> PyResult<usize> {
        let number = self.within(name, *range.start() as u64..=*range.end() as u64)?;
        // It is not larger than the end of the range.
        Ok(usize::try_from(number).unwrap_or(*range.end()))
    }
}

impl FromPyObject<'_, '_> for Natural {
    type Error = PyErr;

    fn extract(it: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match it.extract::<u64>() {
            Ok(number) => Ok(Self(Some(number))),
            Err(error) if error.is_instance_of::<PyOverflowError>(it.py()) => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }
}
