//! SPF without a message.

use mailproof::{Engine, Envelope};
use mailproof_proto::spf::{Check, Identity, ReceivedSpf};
use pyo3::prelude::*;

use crate::record::record;
use crate::results::SpfOutcome;
use crate::waiting;

record! {
    /// One client against the records of MAIL FROM and HELO.
    SpfCheck {
        /// SPF of MAIL FROM; of the HELO name for the null reverse-path (RFC 7208 section 2.4).
        spf: SpfOutcome,
        /// SPF of HELO.
        helo: SpfOutcome,
        /// The value of the Received-SPF field to add (RFC 7208 section 9.1), on one line.
        received_spf: String,
    }
}

pub(crate) fn check(py: Python<'_>, engine: &Engine, envelope: Envelope) -> PyResult<SpfCheck> {
    // Without a From field nothing but SPF is asked about.
    let mut session = engine.session(envelope);
    let verdict = waiting::wait(py, async { session.finish_async().await.clone() })?;
    let envelope = session.envelope();
    let now_seconds = engine.now().seconds();
    let received = envelope.ip.map(|ip| {
        let (helo, mail_from) = (envelope.helo.as_str(), envelope.mail_from.as_str());
        let check = Check { ip, helo, mail_from, receiver: &engine.options().authserv_id, now_seconds };
        ReceivedSpf::new(Identity::MailFrom, &check, &verdict.spf).to_string()
    });
    let received = received.unwrap_or_default();
    Ok(SpfCheck {
        spf: SpfOutcome::from(&verdict.spf),
        helo: SpfOutcome::from(&verdict.helo),
        received_spf: received.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
    })
}
