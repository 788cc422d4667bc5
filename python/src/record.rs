//! Frozen objects of named values, with what Python expects of such: equality, hash, copy, repr, a dictionary.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

/// A list that Python sees as a tuple, so that nobody changes it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Tuple<T>(pub(crate) Vec<T>);

impl<'py, T: IntoPyObject<'py>> IntoPyObject<'py> for Tuple<T> {
    type Target = PyTuple;
    type Output = Bound<'py, PyTuple>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        PyTuple::new(py, self.0)
    }
}

/// `Name(field='value', ...)`.
pub(crate) fn repr(it: &Bound<'_, PyAny>, fields: &[&str]) -> PyResult<String> {
    let mut parts = Vec::with_capacity(fields.len());
    for field in fields {
        parts.push(format!("{field}={}", it.getattr(*field)?.repr()?));
    }
    Ok(format!("{}({})", it.get_type().name()?, parts.join(", ")))
}

/// The values by name, objects among them as dictionaries and tuples as lists.
pub(crate) fn to_dict<'py>(it: &Bound<'py, PyAny>, fields: &[&str]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(it.py());
    for field in fields {
        dict.set_item(PyString::intern(it.py(), field), plain(it.getattr(*field)?)?)?;
    }
    Ok(dict)
}

fn plain(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    if let Ok(items) = value.cast::<PyTuple>() {
        let items = items.iter().map(plain).collect::<PyResult<Vec<_>>>()?;
        return Ok(pyo3::types::PyList::new(value.py(), items)?.into_any());
    }
    match value.getattr_opt("to_dict")? {
        Some(to_dict) => to_dict.call0(),
        None => Ok(value),
    }
}

/// Defines a frozen class whose attributes are its fields.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[pyo3::pyclass(frozen, eq, hash, get_all, module = "mailproof")]
        #[derive(Clone, Debug, Eq, Hash, PartialEq)]
        pub(crate) struct $name {
            $($(#[$field_meta])* pub(crate) $field: $type,)*
        }

        #[pyo3::pymethods]
        impl $name {
            /// Every attribute by its name, as plain Python values.
            fn to_dict<'py>(slf: &pyo3::Bound<'py, Self>) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::types::PyDict>> {
                crate::record::to_dict(slf.as_any(), &[$(stringify!($field)),*])
            }

            /// What never changes is its own copy.
            fn __copy__(slf: pyo3::Bound<'_, Self>) -> pyo3::Bound<'_, Self> {
                slf
            }

            fn __deepcopy__<'py>(
                slf: pyo3::Bound<'py, Self>,
                _memo: &pyo3::Bound<'py, pyo3::PyAny>,
            ) -> pyo3::Bound<'py, Self> {
                slf
            }

            fn __repr__(slf: &pyo3::Bound<'_, Self>) -> pyo3::PyResult<String> {
                crate::record::repr(slf.as_any(), &[$(stringify!($field)),*])
            }
        }
    };
}

pub(crate) use record;
