//! The verdict on one message.

use std::hash::{DefaultHasher, Hash, Hasher};

use mailproof_proto::authres::{self, Layout};
use mailproof_proto::message::address::Author;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::authres::read_layout;
use crate::kept::Kept;
use crate::record::{Tuple, repr};
use crate::results::{ArcOutcome, Defects, DmarcOutcome, SignatureOutcome, SpfOutcome};

/// Everything known about one message. Two verdicts are equal when all they say is.
#[pyclass(frozen, eq, module = "mailproof")]
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    id: String,
    of_engine: Kept,
}

impl Verdict {
    pub(crate) fn new(id: String, verdict: Kept) -> Self {
        Self { id, of_engine: verdict }
    }
}

#[pymethods]
impl Verdict {
    /// The caller's name for the message.
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// Address of the SMTP client as text, when it was given.
    #[getter]
    fn ip(&self) -> Option<String> {
        self.of_engine.ip.map(|ip| ip.to_string())
    }

    /// MAIL FROM was the null reverse-path, so that `spf` is of the HELO name (RFC 7208 section 2.4).
    #[getter]
    fn null_reverse_path(&self) -> bool {
        self.of_engine.null_reverse_path
    }

    /// SPF of MAIL FROM, the one that DMARC looks at.
    #[getter]
    fn spf(&self) -> SpfOutcome {
        SpfOutcome::from(&self.of_engine.spf)
    }

    /// SPF of HELO.
    #[getter]
    fn helo(&self) -> SpfOutcome {
        SpfOutcome::from(&self.of_engine.helo)
    }

    /// One outcome for each DKIM signature judged, from top to bottom; empty when the message is not signed.
    #[getter]
    fn dkim(&self) -> Tuple<SignatureOutcome> {
        Tuple(self.of_engine.dkim.iter().map(SignatureOutcome::from).collect())
    }

    /// The ARC chain.
    #[getter]
    fn arc(&self) -> ArcOutcome {
        ArcOutcome::from(&self.of_engine.arc)
    }

    /// DMARC.
    #[getter]
    fn dmarc(&self) -> DmarcOutcome {
        DmarcOutcome::from(&self.of_engine.dmarc)
    }

    /// The domains that the From field names, in order; empty when it names none that could be used.
    #[getter]
    fn author_domains(&self) -> Tuple<String> {
        Tuple(match &self.of_engine.author {
            Author::One(domain) => vec![domain.to_string()],
            Author::Several(domains) => domains.iter().map(ToString::to_string).collect(),
            Author::Unusable(_) => Vec::new(),
        })
    }

    /// Why the From field names no author that could be used, as a stable word.
    #[getter]
    fn author_problem(&self) -> Option<&'static str> {
        match &self.of_engine.author {
            Author::Unusable(problem) => Some(problem.word()),
            Author::One(_) | Author::Several(_) => None,
        }
    }

    /// What is wrong with the octets of the message.
    #[getter]
    fn defects(&self) -> Defects {
        Defects::from(&self.of_engine.defects)
    }

    /// What the configured policy would do: `accept`, `quarantine`, `reject` or `defer`.
    #[getter]
    fn action(&self) -> &'static str {
        self.of_engine.action.word()
    }

    /// The value of the Authentication-Results field to add (RFC 8601), on one line.
    #[getter]
    fn authentication_results(&self) -> &str {
        &self.of_engine.authentication_results
    }

    /// The Authentication-Results field to put in front of the message (RFC 8601), with its line end, folded so that no line
    /// is long. `authserv_id` is whose results these are, the engine's if not given; `layout` is `folded` (CRLF and a tab),
    /// `folded-lf` for a message with LF line ends, or `line`.
    ///
    /// Raises ValueError for another layout.
    #[pyo3(signature = (authserv_id = None, layout = "folded"))]
    fn results_field<'py>(
        &self,
        py: Python<'py>,
        authserv_id: Option<&str>,
        layout: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let layout = read_layout(layout)?;
        let written = &self.of_engine.authentication_results;
        let own;
        let authserv_id = match authserv_id {
            Some(name) => name,
            None => {
                let read = authres::parse(written.as_bytes());
                own = read.map_err(|problem| PyValueError::new_err(problem.to_string()))?.authserv_id;
                &own
            }
        };
        let mut field = "Authentication-Results: ".to_owned();
        self.of_engine.write_authentication_results(&mut field, authserv_id, layout);
        field.push_str(if layout == Layout::FoldedLf { "\n" } else { "\r\n" });
        Ok(PyBytes::new(py, field.as_bytes()))
    }

    /// The verdict as one line of JSON, to the octet what `mailproof verify --json` writes.
    fn to_json(&self) -> String {
        self.of_engine.to_json(&self.id)
    }

    /// The document of `to_json()` as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import(pyo3::intern!(py, "json"))?.call_method1(pyo3::intern!(py, "loads"), (self.to_json(),))
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.to_json().hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr(slf.as_any(), &["id", "action", "dmarc", "spf", "dkim", "arc"])
    }
}
