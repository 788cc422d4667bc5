//! The Organizational Domain of RFC 7489 section 3.2, by the Public Suffix List.

use psl::Psl as _;

use crate::dns::Name;

/// Labels a name of 255 octets can have.
const LABELS_MAX: usize = 127;

/// The registrable domain: one label more than the public suffix. `None` for a public suffix itself. A top-level domain
/// that is not on the list counts as a suffix. Needs A-labels.
#[must_use]
pub fn registrable_domain(domain: &Name) -> Option<Name> {
    let mut labels: [&[u8]; LABELS_MAX] = [&[]; LABELS_MAX];
    let mut count = 0;
    for (room, label) in labels.iter_mut().zip(domain.labels()) {
        *room = label;
        count += 1;
    }
    let labels = labels.get(..count)?;
    let suffix_bytes = psl::List.find(labels.iter().rev().copied()).len;
    let mut bytes = 0;
    let suffix_labels = labels.iter().rev().take_while(|label| {
        bytes += label.len() + usize::from(bytes > 0);
        bytes <= suffix_bytes
    });
    let suffix_labels = suffix_labels.count();
    (count > suffix_labels && suffix_labels > 0).then(|| domain.suffix(suffix_labels + 1))
}

/// The Organizational Domain: the registrable domain, or the domain itself where there is none.
pub(super) fn organizational_domain(domain: &Name) -> Name {
    registrable_domain(domain).unwrap_or(*domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_wildcards_exceptions_and_unlisted() {
        let name = |text: &str| Name::parse(text).unwrap();
        for (domain, registrable) in [
            ("a.b.example.co.uk", Some("example.co.uk")),
            ("co.uk", None),
            ("c.kobe.jp", None),
            ("a.b.c.kobe.jp", Some("b.c.kobe.jp")),
            ("x.city.kobe.jp", Some("city.kobe.jp")),
            ("a.b.example", Some("b.example")),
            ("example", None),
        ] {
            assert_eq!(registrable_domain(&name(domain)), registrable.map(name), "{domain}");
        }
        let longest = format!("{}a", "a.".repeat(126));
        assert_eq!(registrable_domain(&name(&longest)), Some(name("a.a")));
    }
}
