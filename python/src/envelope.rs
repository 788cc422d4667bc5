//! What SMTP said before the message.

use std::net::{IpAddr, Ipv6Addr};

use mailproof::Envelope;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::arguments::Text;
use crate::message::Octets;

/// The envelope of these arguments. `mail_from` may stand in angle brackets.
pub(crate) fn envelope(ip: Option<&Bound<'_, PyAny>>, helo: Text, mail_from: Text) -> PyResult<Envelope> {
    let bare = mail_from.0.strip_prefix('<').and_then(|it| it.strip_suffix('>')).map(str::to_owned);
    Ok(Envelope { ip: ip.map(address).transpose()?, helo: helo.0, mail_from: bare.unwrap_or(mail_from.0) })
}

/// An address: text, or an object of the module `ipaddress`. The zone of an IPv6 address (RFC 4007 section 11) is dropped:
/// it names an interface of this host, and says nothing to others.
fn address(ip: &Bound<'_, PyAny>) -> PyResult<IpAddr> {
    if let Ok(text) = ip.cast::<PyString>() {
        let text = text.to_string_lossy();
        let read = match text.split_once('%') {
            Some((address, zone)) if !zone.is_empty() => address.parse::<Ipv6Addr>().map(IpAddr::V6),
            _ => text.parse(),
        };
        return read.map_err(|_| PyValueError::new_err(format!("ip: {text:?} is no IP address")));
    }
    ip.extract().map_err(|_| {
        let kind = ip.get_type().name().map_or_else(|_| String::new(), |name| name.to_string());
        PyTypeError::new_err(format!("ip: an address is a str or an object of ipaddress, not {kind}"))
    })
}

/// One message with its envelope, for `verify_many`.
///
/// `message` is taken as by `verify`: `bytes` are kept by reference, everything else is copied or read at once. `id` is
/// the caller's name for it, which its verdict carries. It never changes, so that its copies are itself.
///
/// Raises TypeError or ValueError for what is no message or no address, OSError for a file that can not be read.
#[pyclass(frozen, module = "mailproof")]
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) octets: Octets,
    pub(crate) envelope: Envelope,
    pub(crate) id: String,
}

#[pymethods]
impl Request {
    #[new]
    #[pyo3(
        signature = (message, *, ip = None, helo = Text::default(), mail_from = Text::default(), id = Text::default()),
        text_signature = "(message, *, ip=None, helo='', mail_from='', id='')"
    )]
    fn new(
        message: &Bound<'_, PyAny>,
        ip: Option<&Bound<'_, PyAny>>,
        helo: Text,
        mail_from: Text,
        id: Text,
    ) -> PyResult<Self> {
        let envelope = envelope(ip, helo, mail_from)?;
        Ok(Self { octets: Octets::of(message)?, envelope, id: id.0 })
    }

    /// Address of the SMTP client as text.
    #[getter]
    fn ip(&self) -> Option<String> {
        self.envelope.ip.map(|ip| ip.to_string())
    }

    /// Argument of HELO or EHLO.
    #[getter]
    fn helo(&self) -> &str {
        &self.envelope.helo
    }

    /// Argument of MAIL FROM, without angle brackets.
    #[getter]
    fn mail_from(&self) -> &str {
        &self.envelope.mail_from
    }

    /// The caller's name for the message.
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// Octets of the message.
    fn __len__(&self) -> usize {
        self.octets.len()
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }

    fn __repr__(&self) -> String {
        let Envelope { ip, helo, mail_from } = &self.envelope;
        let ip = ip.map_or_else(|| "None".to_owned(), |ip| format!("'{ip}'"));
        let (octets, id) = (self.octets.len(), &self.id);
        format!("Request(<{octets} octets>, ip={ip}, helo={helo:?}, mail_from={mail_from:?}, id={id:?})")
    }
}
