//! Authentication-Results (RFC 8601), read and written.

use std::borrow::Cow;

use mailproof_explain::split;
use mailproof_proto::authres::{self, AuthservId, Layout, Version, Writer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::message::Octets;
use crate::record::{Tuple, repr, to_dict};

/// `ptype.name=value`: what was checked.
#[pyclass(frozen, eq, hash, get_all, module = "mailproof", from_py_object)]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Property {
    /// `smtp`, `header`, `body`, `policy` or an unknown one, in lower case; empty where a writer left it out.
    ptype: String,
    /// The property, in lower case.
    name: String,
    /// The value without quotes.
    value: String,
    /// The first comment after the value.
    comment: Option<String>,
}

#[pymethods]
impl Property {
    #[new]
    #[pyo3(signature = (ptype, name, value, comment = None))]
    fn new(ptype: String, name: String, value: String, comment: Option<String>) -> Self {
        Self { ptype, name, value, comment }
    }

    /// Every attribute by its name.
    fn to_dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(slf.as_any(), &["ptype", "name", "value", "comment"])
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr(slf.as_any(), &["ptype", "name", "value", "comment"])
    }
}

/// One result with what it is about: `spf=pass smtp.mailfrom=example.org`.
#[pyclass(frozen, eq, hash, get_all, module = "mailproof", from_py_object)]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Resinfo {
    /// The method, in lower case.
    method: String,
    /// The result, in lower case.
    result: String,
    /// What was checked.
    properties: Tuple<Property>,
    /// `reason=`.
    reason: Option<String>,
    /// The first comment after the result.
    comment: Option<String>,
    /// The version of the method, when written.
    method_version: Option<u32>,
}

#[pymethods]
impl Resinfo {
    #[new]
    #[pyo3(signature = (method, result, properties = Vec::new(), *, reason = None, comment = None, method_version = None))]
    fn new(
        method: String,
        result: String,
        properties: Vec<Property>,
        reason: Option<String>,
        comment: Option<String>,
        method_version: Option<u32>,
    ) -> Self {
        Self { method, result, properties: Tuple(properties), reason, comment, method_version }
    }

    /// The value of the first property of this type and name, both in lower case; None when there is none.
    fn find(&self, ptype: &str, name: &str) -> Option<&str> {
        self.properties.0.iter().find(|it| it.ptype == ptype && it.name == name).map(|it| it.value.as_str())
    }

    /// Every attribute by its name.
    fn to_dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(slf.as_any(), &["method", "result", "properties", "reason", "comment", "method_version"])
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr(slf.as_any(), &["method", "result", "properties", "reason", "comment", "method_version"])
    }
}

/// The value of one Authentication-Results field (RFC 8601 section 2.2); `str()` writes it on one line.
#[pyclass(frozen, eq, hash, get_all, module = "mailproof")]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct AuthenticationResults {
    /// Who claims the results; empty when the field names nobody.
    authserv_id: String,
    /// The results in order; empty for `none`.
    results: Tuple<Resinfo>,
    /// The version as written, 1 when it is not; None when it is no number. A field of another version than 1 is not to
    /// be understood (RFC 8601 section 2.6).
    version: Option<u32>,
    /// The comment after `none`.
    comment: Option<String>,
    /// False when the grammar was broken in a way that could still be read.
    regular: bool,
}

#[pymethods]
impl AuthenticationResults {
    #[new]
    #[pyo3(signature = (authserv_id, results = Vec::new(), *, comment = None))]
    fn new(authserv_id: String, results: Vec<Resinfo>, comment: Option<String>) -> Self {
        Self { authserv_id, results: Tuple(results), version: Some(1), comment, regular: true }
    }

    /// The value as it stands behind `Authentication-Results:`, quoted and escaped where needed so that no value can begin
    /// another result or field. `layout` is `folded` (CRLF and a tab), `folded-lf`, or `line`.
    ///
    /// Raises ValueError for another layout, and for a field whose version is None: what it means nobody knows.
    #[pyo3(signature = (layout = "line"))]
    fn to_value(&self, layout: &str) -> PyResult<String> {
        let layout = read_layout(layout)?;
        if self.version.is_none() {
            return Err(PyValueError::new_err("a field whose version is no number can not be written"));
        }
        let mut value = String::new();
        Writer::write(&mut value, &self.borrowed(), layout);
        Ok(value)
    }

    fn __str__(&self) -> PyResult<String> {
        self.to_value("line")
    }

    /// Every attribute by its name.
    fn to_dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(slf.as_any(), &["authserv_id", "results", "version", "comment", "regular"])
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr(slf.as_any(), &["authserv_id", "results", "version", "comment", "regular"])
    }
}

impl AuthenticationResults {
    fn borrowed(&self) -> authres::AuthenticationResults<'_> {
        let text = |text: &Option<String>| text.as_ref().map(|text| Cow::Owned(text.clone()));
        let property = |it: &Property| authres::Property {
            ptype: it.ptype.clone().into(),
            name: it.name.clone().into(),
            value: it.value.clone().into(),
            comment: text(&it.comment),
        };
        let resinfo = |it: &Resinfo| authres::Resinfo {
            method: it.method.clone().into(),
            method_version: it.method_version,
            result: it.result.clone().into(),
            reason: text(&it.reason),
            comment: text(&it.comment),
            properties: it.properties.0.iter().map(property).collect(),
        };
        authres::AuthenticationResults {
            authserv_id: Cow::Borrowed(&self.authserv_id),
            version: match self.version {
                Some(number) if number != 1 => Version::Number(number),
                _ => Version::Absent,
            },
            results: self.results.0.iter().map(resinfo).collect(),
            comment: text(&self.comment),
            regular: self.regular,
        }
    }
}

/// The layout of a field by its word.
///
/// # Errors
/// `ValueError` when there is none of that word.
pub(crate) fn read_layout(word: &str) -> PyResult<Layout> {
    match word {
        "folded" => Ok(Layout::Folded),
        "folded-lf" => Ok(Layout::FoldedLf),
        "line" => Ok(Layout::OneLine),
        _ => Err(PyValueError::new_err("layout: 'folded', 'folded-lf' or 'line'")),
    }
}

/// Removes the Authentication-Results fields of a message that claim to be of this host, and gives the rest as it came.
///
/// `authserv_id` is the name under which this host writes such fields. Those that bear it go, those that a careless reader
/// could take for it, and those of a version that nobody knows: before our own results are put on top, what a stranger
/// wrote in our name has to go (RFC 8601 section 5). A field of that name that begins behind a bare CR or LF goes as well,
/// since the next host may see a field there. Fields of other hosts stay, and so do those of an attached message.
///
/// `message` is taken as by `verify`; one with LF line ends comes back with CRLF.
///
/// Raises ValueError when `authserv_id` is none: empty, longer than 255 octets, or with white space, quotes, parentheses or
/// semicolons in it.
#[pyfunction]
pub(crate) fn remove_forged<'py>(message: &Bound<'py, PyAny>, authserv_id: &str) -> PyResult<Bound<'py, PyBytes>> {
    let py = message.py();
    let ours = AuthservId::new(authserv_id).map_err(|error| PyValueError::new_err(format!("authserv_id: {error}")))?;
    let octets = Octets::of(message)?;
    let kept = py.detach(|| {
        let (header, _) = split(&octets);
        let mut kept = authres::without_forged(header, &[ours]);
        kept.extend_from_slice(octets.get(header.len()..).unwrap_or_default());
        kept
    });
    Ok(PyBytes::new(py, &kept))
}

/// Reads the value of an Authentication-Results field: what follows the colon, str or bytes.
///
/// Reads what large senders are seen to write beyond the grammar, and says so with `regular`. Nothing here says that the
/// results are true: only fields of a host that one trusts are.
///
/// Raises ValueError when it can not be split into results without guessing.
#[pyfunction]
pub(crate) fn parse_authentication_results(value: &Bound<'_, PyAny>) -> PyResult<AuthenticationResults> {
    let owned;
    let octets = match value.cast::<PyString>() {
        Ok(text) => {
            owned = text.to_cow()?;
            owned.as_bytes()
        }
        Err(_) => value.cast::<PyBytes>()?.as_bytes(),
    };
    let read = authres::parse(octets).map_err(|problem| PyValueError::new_err(problem.to_string()))?;
    let text = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let property = |it: authres::Property<'_>| Property {
        ptype: it.ptype.into_owned(),
        name: it.name.into_owned(),
        value: it.value.into_owned(),
        comment: text(it.comment),
    };
    let resinfo = |it: authres::Resinfo<'_>| Resinfo {
        method: it.method.into_owned(),
        result: it.result.into_owned(),
        properties: Tuple(it.properties.into_iter().map(property).collect()),
        reason: text(it.reason),
        comment: text(it.comment),
        method_version: it.method_version,
    };
    Ok(AuthenticationResults {
        authserv_id: read.authserv_id.into_owned(),
        version: match read.version {
            Version::Absent => Some(1),
            Version::Number(number) => Some(number),
            Version::Unreadable => None,
        },
        results: Tuple(read.results.into_iter().map(resinfo).collect()),
        comment: text(read.comment),
        regular: read.regular,
    })
}
