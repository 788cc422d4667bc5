//! Domain names, checked once and kept in lower-case wire form without the heap.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// A domain name: labels of 1 to 63 octets, at most 255 octets on the wire (RFC 1035 section 2.3.4), ASCII letters in
/// lower case. Labels may hold any octet; what a label means is the caller's affair.
#[derive(Clone, Copy)]
pub struct Name {
    /// Octets of `wire` in use, the final root label included.
    len: u8,
    wire: [u8; Name::WIRE_BYTES_MAX],
}

/// Why a text is no domain name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing there, or the root alone.
    #[error("no label")]
    Empty,
    /// Two dots in a row, or a dot in front.
    #[error("an empty label")]
    EmptyLabel,
    /// RFC 1035 section 2.3.4.
    #[error("a label of more than 63 octets")]
    LabelTooLong,
    /// RFC 1035 section 2.3.4.
    #[error("a name of more than 255 octets")]
    NameTooLong,
    /// A character that no mail domain holds, or a U-label without an A-label (RFC 5891).
    #[error("a character that a mail domain can not hold")]
    BadCharacter,
}

impl Name {
    const WIRE_BYTES_MAX: usize = 255;
    const LABEL_BYTES_MAX: usize = 63;
    /// The root, to which labels are then added.
    pub const ROOT: Self = Self { len: 1, wire: [0; Self::WIRE_BYTES_MAX] };

    /// Takes on another name, moving no more octets than it has.
    pub fn assign(&mut self, other: &Self) {
        self.len = other.len;
        let len = usize::from(other.len);
        // In whole cache lines: the octets behind the name mean nothing, and lines are copied fastest.
        let lines = (len + 1).next_multiple_of(64).min(Self::WIRE_BYTES_MAX);
        if let (Some(room), Some(wire)) = (self.wire.get_mut(..lines), other.wire.get(..lines)) {
            room.copy_from_slice(wire);
        }
    }

    /// Reads dotted text; one final dot is fine. Only a dot separates labels: every other octet, a backslash or NUL
    /// included, is part of its label.
    ///
    /// # Errors
    /// [`NameError`] when a label or the name breaks the limits of RFC 1035.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, NameError> {
        let text = text.as_ref();
        let text = text.strip_suffix(b".").unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let mut name = Self::ROOT;
        for label in text.split(|&octet| octet == b'.') {
            name.push(label)?;
        }
        Ok(name)
    }

    /// Reads the domain of a mail address or of a signature: U-labels become A-labels (UTS 46, non-transitional), and
    /// only letters, digits, hyphens and underscores are accepted, so what is logged, looked up and compared is the
    /// same string.
    ///
    /// # Errors
    /// [`NameError`] when the text is no such domain.
    pub fn parse_domain(text: &str) -> Result<Self, NameError> {
        let ascii = if text.is_ascii() {
            Cow::Borrowed(text)
        } else {
            let to_ascii = idna::AsciiDenyList::EMPTY;
            idna::domain_to_ascii_cow(text.as_bytes(), to_ascii).map_err(|_| NameError::BadCharacter)?
        };
        let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
        if !ascii.bytes().all(plain) {
            return Err(NameError::BadCharacter);
        }
        Self::parse(ascii.as_bytes())
    }

    /// Reads uncompressed wire form.
    ///
    /// # Errors
    /// [`NameError`] when the octets are no single whole name.
    pub fn from_wire(mut wire: &[u8]) -> Result<Self, NameError> {
        let mut name = Self::ROOT;
        loop {
            let (&len, rest) = wire.split_first().ok_or(NameError::Empty)?;
            if len == 0 {
                return if rest.is_empty() { Ok(name) } else { Err(NameError::EmptyLabel) };
            }
            let (label, rest) = rest.split_at_checked(usize::from(len)).ok_or(NameError::LabelTooLong)?;
            name.push(label)?;
            wire = rest;
        }
    }

    /// The name below `in-addr.arpa` or `ip6.arpa` where the host name of an address stands (RFC 1035 section 3.5,
    /// RFC 3596 section 2.5).
    #[must_use]
    pub fn reverse(address: IpAddr) -> Self {
        let mut name = Self::ROOT;
        // At most 34 labels of one to eight octets: always within the limits.
        let mut add = |label: &[u8]| name.push(label).unwrap_or_default();
        match address {
            IpAddr::V4(address) => {
                for octet in address.octets().iter().rev() {
                    add(octet.to_string().as_bytes());
                }
                add(b"in-addr");
            }
            IpAddr::V6(address) => {
                for octet in address.octets().iter().rev() {
                    add(format!("{:x}", octet & 15).as_bytes());
                    add(format!("{:x}", octet >> 4).as_bytes());
                }
                add(b"ip6");
            }
        }
        add(b"arpa");
        name
    }

    /// The name made of these labels, from left to right, without the root.
    ///
    /// # Errors
    /// [`NameError`] when a label or the name breaks the limits of RFC 1035.
    pub fn from_labels<'l>(labels: impl IntoIterator<Item = &'l [u8]>) -> Result<Self, NameError> {
        let mut name = Self::ROOT;
        for label in labels {
            name.push(label)?;
        }
        Ok(name)
    }

    /// This name below one more label, or several given as dotted text.
    ///
    /// # Errors
    /// [`NameError`] when the result would be too long or a label is empty.
    pub fn prepend(&self, labels: impl AsRef<[u8]>) -> Result<Self, NameError> {
        let mut name = Self::ROOT;
        for label in labels.as_ref().split(|&octet| octet == b'.').chain(self.labels()) {
            name.push(label)?;
        }
        Ok(name)
    }

    /// The name without its left-most label; `None` when that would be the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let count = self.label_count();
        (count > 1).then(|| self.suffix(count - 1))
    }

    /// The right-most `label_count` labels; the whole name when it has no more than that.
    #[must_use]
    pub fn suffix(&self, label_count: usize) -> Self {
        let mut rest = self.wire();
        for _ in label_count..self.label_count() {
            let skip = rest.first().map_or(0, |&len| usize::from(len) + 1);
            rest = rest.get(skip..).unwrap_or_default();
        }
        Self::copied(rest)
    }

    /// Lower-case wire form with the root label at its end.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        self.wire.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The labels from left to right, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.wire();
        std::iter::from_fn(move || {
            let (&len, after) = rest.split_first()?;
            let (label, after) = after.split_at_checked(usize::from(len))?;
            rest = after;
            (!label.is_empty()).then_some(label)
        })
    }

    /// Labels without the root.
    #[must_use]
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// True when the name equals `other` or stands below it.
    #[must_use]
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.label_count(), other.label_count());
        mine >= theirs && self.suffix(theirs).wire() == other.wire()
    }

    fn copied(wire: &[u8]) -> Self {
        let mut name = Self::ROOT;
        if let Some(room) = name.wire.get_mut(..wire.len()) {
            room.copy_from_slice(wire);
            name.len = u8::try_from(wire.len()).unwrap_or(1);
        }
        name
    }

    /// Adds a label at the right end.
    fn push(&mut self, label: &[u8]) -> Result<(), NameError> {
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > Self::LABEL_BYTES_MAX {
            return Err(NameError::LabelTooLong);
        }
        let at = usize::from(self.len) - 1;
        let room = self.wire.get_mut(at..at + label.len() + 2).ok_or(NameError::NameTooLong)?;
        if let Some((len, rest)) = room.split_first_mut() {
            *len = label.len() as u8;
            for (to, from) in rest.iter_mut().zip(label) {
                *to = from.to_ascii_lowercase();
            }
        }
        self.len += label.len() as u8 + 1;
        Ok(())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire() == other.wire()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire().hash(state);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.wire().cmp(other.wire())
    }
}

/// Dotted text without a final dot; octets that could mislead a reader are written `\DDD` (RFC 1035 section 5.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            let mut rest = label;
            while let Some((&octet, after)) = rest.split_first() {
                let plain = rest.iter().position(|&o| !o.is_ascii_graphic() || matches!(o, b'.' | b'\\'));
                let count = plain.unwrap_or(rest.len());
                if count > 0 {
                    let (run, after) = rest.split_at(count);
                    f.write_str(std::str::from_utf8(run).unwrap_or_default())?;
                    rest = after;
                } else {
                    write!(f, "\\{octet:03}")?;
                    rest = after;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn limits_of_rfc_1035_hold_on_both_sides() {
        let label = "a".repeat(63);
        assert!(Name::parse(&label).is_ok());
        assert_eq!(Name::parse("a".repeat(64)), Err(NameError::LabelTooLong));
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name(&longest).wire().len(), 255);
        assert_eq!(Name::parse(format!("{longest}a")), Err(NameError::NameTooLong));
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse("."), Err(NameError::Empty));
        assert_eq!(Name::parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(".a"), Err(NameError::EmptyLabel));
    }

    #[test]
    fn text_and_relations() {
        let it = name("A.Mail.Example.COM.");
        assert_eq!(it.to_string(), "a.mail.example.com");
        assert_eq!(it.parent(), Some(name("mail.example.com")));
        assert_eq!(it.suffix(2), name("example.com"));
        assert_eq!(it.suffix(9), it);
        assert_eq!(name("com").parent(), None);
        assert!(it.is_at_or_below(&name("example.com")));
        assert!(!name("badexample.com").is_at_or_below(&name("example.com")));
        assert_eq!(name("example.com").prepend("s1._domainkey").unwrap(), name("s1._domainkey.example.com"));
        assert_eq!(Name::from_wire(it.wire()), Ok(it));
    }

    #[test]
    fn reverse_names() {
        let v4 = Name::reverse("192.0.2.10".parse().unwrap());
        assert_eq!(v4, name("10.2.0.192.in-addr.arpa"));
        let v6 = Name::reverse("2001:db8::b".parse().unwrap());
        assert_eq!(v6, name("b.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"));
    }

    #[test]
    fn odd_octets_stay_in_their_label_and_show_as_numbers() {
        let it = Name::parse(b"a\\b\0 c.example").unwrap();
        assert_eq!(it.label_count(), 2);
        assert_eq!(it.to_string(), "a\\092b\\000\\032c.example");
    }

    #[test]
    fn mail_domains_are_a_labels_of_plain_characters() {
        assert_eq!(Name::parse_domain("Bücher.example").unwrap().to_string(), "xn--bcher-kva.example");
        for bad in
            ["a b.example", "legit.example(a.example", "x\0.example", "[192.0.2.1]", "a@b.example", "a'b.example"]
        {
            assert!(Name::parse_domain(bad).is_err(), "{bad}");
        }
    }
}
