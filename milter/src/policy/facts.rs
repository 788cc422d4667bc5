//! What a decision needs to know of a message beside its verdict.

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
        let arc_dmarc_pass = match (verdict.arc.result, &verdict.dmarc.from_domain) {
            (ArcResult::Pass, Some(author)) => passes(headers, author),
            _ => Vec::new(),
        };
        Self { list, arc_dmarc_pass }
    }
}

fn passes(headers: Headers<'_>, author: &Name) -> Vec<u8> {
    let fields = headers.of_kind(FieldKind::ArcAuthenticationResults);
    let passed = fields.filter_map(|field| {
        let (instance, results) = authres::parse_arc(field.value).ok()?;
        let names_author = |it: &authres::Resinfo<'_>| {
            let domain = it.property("header", "from").and_then(|from| Name::parse_domain(from).ok());
            domain.is_some_and(|domain| domain == *author)
        };
        let passed = results.understood().any(|it| it.method == "dmarc" && it.result == "pass" && names_author(it));
        passed.then_some(instance)
    });
    passed.collect()
}

/// What list programs write, and bulk senders do not: those write List-Unsubscribe alone.
const LIST_FIELDS: [&[u8]; 3] = [b"List-Id", b"List-Post", b"List-Archive"];
