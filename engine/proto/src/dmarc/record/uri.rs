//! Where reports go: the URIs of `rua` and `ruf` (RFC 9989 section 4.7).

use crate::dns::Name;

/// One report URI, its obsolete size limit (`!10m`) taken off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReportUri<'a> {
    /// The URI as written.
    pub uri: &'a str,
    /// Its scheme, as written; `mailto` is the one to support.
    pub scheme: &'a str,
    /// A size limit of RFC 7489 stood behind it; it means nothing any more.
    pub had_size_limit: bool,
    host: &'a str,
}

/// The entries of a `rua` or `ruf` value, valid or not.
pub fn uris(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|entry| !entry.is_empty())
}

impl<'a> ReportUri<'a> {
    /// Reads one entry; `None` when it is no URI (RFC 3986), holds a literal `!` (RFC 9989 section 4.8), or is a
    /// `mailto:` without an address (RFC 6068).
    #[must_use]
    pub fn parse(entry: &'a str) -> Option<Self> {
        let (uri, had_size_limit) = match entry.split_once('!') {
            Some((uri, limit)) if is_size_limit(limit) => (uri, true),
            Some(_) => return None,
            None => (entry, false),
        };
        let (scheme, rest) = uri.split_once(':')?;
        let mut letters = scheme.bytes();
        let is_scheme = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'));
        if !is_scheme || rest.is_empty() || !has_uri_characters(rest) {
            return None;
        }
        let host = if scheme.eq_ignore_ascii_case("mailto") {
            let (local_part, domain) = rest.split('?').next()?.rsplit_once('@')?;
            Name::parse_domain(domain).ok().filter(|_| !local_part.is_empty())?;
            domain
        } else {
            let authority = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?', '#']).next());
            let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
            let host = authority.map(|it| it.rsplit('@').next().unwrap_or(it)).unwrap_or_default();
            let host = host.split(':').next().unwrap_or(host);
            if is_web && host.is_empty() {
                return None;
            }
            host
        };
        Some(Self { uri, scheme, had_size_limit, host })
    }

    /// The host that reports would go to; `None` when the URI names none, or an address instead of a domain.
    #[must_use]
    pub fn host(&self) -> Option<Name> {
        Name::parse_domain(self.host).ok()
    }

    /// True for `mailto:`.
    #[must_use]
    pub fn is_mailto(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("mailto")
    }
}

/// The `["!" 1*DIGIT ["k" / "m" / "g" / "t"]]` of RFC 7489 section 6.4, without the `!`.
fn is_size_limit(text: &str) -> bool {
    let digits = text.trim_end_matches(['k', 'm', 'g', 't', 'K', 'M', 'G', 'T']);
    text.len() - digits.len() <= 1
        && digits.bytes().all(|octet| octet.is_ascii_digit())
        && digits.parse::<u64>().is_ok()
}

/// RFC 3986 sections 2.1 to 2.3, without the comma and `!` that RFC 9989 section 4.8 wants encoded.
fn has_uri_characters(text: &str) -> bool {
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let fits = match octet {
            b'%' => [octets.next(), octets.next()].iter().all(|it| it.is_some_and(|digit| digit.is_ascii_hexdigit())),
            b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@' => true,
            b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b'=' => true,
            _ => octet.is_ascii_alphanumeric(),
        };
        if !fits {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_size_limits() {
        for (entry, uri, host) in [
            ("mailto:a@B.example", "mailto:a@B.example", Some("b.example")),
            ("mailto:a%2Cb@b.example!10m", "mailto:a%2Cb@b.example", Some("b.example")),
            ("mailto:a@b.example?subject=x@y", "mailto:a@b.example?subject=x@y", Some("b.example")),
            ("https://u@b.example:8443/x?y", "https://u@b.example:8443/x?y", Some("b.example")),
            ("tel:1", "tel:1", None),
        ] {
            let read = ReportUri::parse(entry).unwrap();
            assert_eq!((read.uri, read.host().map(|it| it.to_string()).as_deref()), (uri, host));
        }
        for entry in [
            "",
            "a@b.example",
            "mailto:",
            "mailto:a",
            "mailto:@b.example",
            "mailto://b.example",
            "mailto:a@b..example",
            "mailto:a@b.example!",
            "mailto:a@b.example!10p",
            "mailto:a@b.example!10mm",
            "mailto:a b@c.example",
            "mailto:a%2@b.example",
            "https:///x",
            "https:x",
            "1:x",
            "mailto:a@b.example!99999999999999999999",
        ] {
            assert_eq!(ReportUri::parse(entry), None, "{entry}");
        }
    }
}
