//! What a decision needs to know of a message beside its verdict.

use std::net::IpAddr;

use mailproof_proto::arc::ArcResult;
use mailproof_proto::authres;
use mailproof_proto::dmarc::DmarcResult;
use mailproof_proto::dns::Name;
use mailproof_proto::message::{FieldKind, Headers};
use mailproof_proto::verdict::Verdict;

/// What speaks for an indirect way, read from the header of a message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// A mailing list wrote into the header (RFC 2919, RFC 2369).
    pub list: bool,
    /// The ARC instances that say of themselves to have seen a DMARC pass for the author domain.
    pub arc_dmarc_pass: Vec<u8>,
    /// The client from which the first ARC instance says to have got the message (`smtp.remote-ip`).
    pub arc_first_client: Option<IpAddr>,
}

impl Facts {
    /// Reads what is needed: nothing where no policy applies.
    #[must_use]
    pub fn read(headers: Headers<'_>, verdict: &Verdict) -> Self {
        if verdict.dmarc.result != DmarcResult::Fail {
            return Self::default();
        }
        let names_list = |name: &[u8]| LIST_FIELDS.iter().any(|list| name.eq_ignore_ascii_case(list));
        let list = headers.of_kind(FieldKind::List).any(|field| names_list(field.name));
        let mut facts = Self { list, ..Self::default() };
        if let (ArcResult::Pass, Some(author)) = (verdict.arc.result, &verdict.dmarc.from_domain) {
            headers
                .of_kind(FieldKind::ArcAuthenticationResults)
                .for_each(|field| facts.read_instance(field.value, author));
        }
        facts
    }

    /// What an instance of a chain that validates says of the message it got.
    fn read_instance(&mut self, value: &[u8], author: &Name) {
        let Ok((instance, results)) = authres::parse_arc(value) else { return };
        let names_author = |it: &authres::Resinfo<'_>| {
            let domain = it.property("header", "from").and_then(|from| Name::parse_domain(from).ok());
            domain.is_some_and(|domain| domain == *author)
        };
        if results.understood().any(|it| it.method == "dmarc" && it.result == "pass" && names_author(it)) {
            self.arc_dmarc_pass.push(instance);
        }
        if instance == 1 {
            let mut clients = results.understood().filter_map(|it| it.property("smtp", "remote-ip")?.parse().ok());
            self.arc_first_client = clients.next();
        }
    }
}

/// What list programs write, and bulk senders do not: those write List-Unsubscribe alone.
const LIST_FIELDS: [&[u8]; 3] = [b"List-Id", b"List-Post", b"List-Archive"];
