//! Tag lists: `name=value; name=value` (RFC 6376 section 3.2), shared by signatures, keys and ARC fields.
//!
//! The reader is strict: one list, each name at most once, nothing between the tags but folding white space and one
//! final semicolon. Internationalised mail adds UTF-8 to the values (RFC 8616 section 5). Nothing is copied; a list
//! remembers where in the text its tags are.

use std::ops::Range;

use memchr::memchr_iter;

use crate::limits::TAGS_MAX;

/// A tag list that was read; its tags borrow the text.
#[derive(Clone, Debug)]
pub struct TagList<'a> {
    text: &'a str,
    places: [Place; TAGS_MAX],
    count: usize,
}

/// One tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tag<'a> {
    /// The name; upper and lower case differ.
    pub name: &'a str,
    /// The value without the folding white space around it; may be empty.
    pub value: &'a str,
}

/// Why a text is no tag list.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TagListError {
    /// Something between two semicolons has no name, or no equals sign.
    #[error("a part that is no tag")]
    NotATag,
    /// A control character, a line end that folds nothing, or octets that are not UTF-8.
    #[error("a character that a tag list can not hold")]
    BadCharacter,
    /// RFC 6376 section 3.2: the whole list is then invalid.
    #[error("the same tag twice")]
    Duplicate,
    /// More than [`TAGS_MAX`].
    #[error("more than {} tags", TAGS_MAX)]
    TooMany,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    name: (u32, u32),
    value: (u32, u32),
    /// Everything between the equals sign and the semicolon.
    slot: (u32, u32),
}

impl<'a> TagList<'a> {
    /// Reads a whole list.
    ///
    /// # Errors
    /// [`TagListError`] when any part of it is malformed.
    pub fn parse(text: &'a [u8]) -> Result<Self, TagListError> {
        check_characters(text)?;
        let text = std::str::from_utf8(text).map_err(|_| TagListError::BadCharacter)?;
        let length = u32::try_from(text.len()).map_err(|_| TagListError::TooMany)?;
        let mut list = Self { text, places: [Place::default(); TAGS_MAX], count: 0 };
        let mut start = 0;
        for end in memchr_iter(b';', text.as_bytes()).map(|end| end as u32).chain([length]) {
            // One semicolon may stand at the end, with nothing but white space behind it.
            if end == length && list.count > 0 && trim(text, start, end).is_empty() {
                break;
            }
            list.add(start, end)?;
            start = end + 1;
        }
        Ok(list)
    }

    /// The tags in their order.
    pub fn iter(&self) -> impl Iterator<Item = Tag<'a>> {
        self.places.iter().take(self.count).map(|place| self.tag(place))
    }

    /// The value of a tag; `None` when the tag is absent, which differs from an empty value.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.place(name).map(|place| self.slice(place.value))
    }

    /// Where in the text the value of a tag is, without the white space around it.
    #[must_use]
    pub fn value_range(&self, name: &str) -> Option<Range<usize>> {
        self.place(name).map(|place| range(place.value))
    }

    /// Where in the text the value of a tag is, with all white space around it: what is taken out of `b=` before
    /// hashing (RFC 6376 section 3.5).
    #[must_use]
    pub fn slot_range(&self, name: &str) -> Option<Range<usize>> {
        self.place(name).map(|place| range(place.slot))
    }

    /// True when the list begins with a tag of this name.
    #[must_use]
    pub fn begins_with(&self, name: &str) -> bool {
        self.iter().next().is_some_and(|first| first.name == name)
    }

    fn add(&mut self, start: u32, end: u32) -> Result<(), TagListError> {
        let spec = self.slice((start, end));
        let equals = start + spec.find('=').ok_or(TagListError::NotATag)? as u32;
        let name = trim(self.text, start, equals);
        if !is_tag_name(self.slice((name.start, name.end))) {
            return Err(TagListError::NotATag);
        }
        let value = trim(self.text, equals + 1, end);
        let place = Place { name: (name.start, name.end), value: (value.start, value.end), slot: (equals + 1, end) };
        let name = self.slice(place.name);
        if self.place(name).is_some() {
            return Err(TagListError::Duplicate);
        }
        *self.places.get_mut(self.count).ok_or(TagListError::TooMany)? = place;
        self.count += 1;
        Ok(())
    }

    fn place(&self, name: &str) -> Option<&Place> {
        // Names are an octet or two: the first tells nearly all of them apart, with no call for the rest.
        let first = name.as_bytes().first();
        self.places.iter().take(self.count).find(|place| {
            let other = self.slice(place.name);
            other.as_bytes().first() == first && other == name
        })
    }

    fn tag(&self, place: &Place) -> Tag<'a> {
        Tag { name: self.slice(place.name), value: self.slice(place.value) }
    }

    fn slice(&self, (start, end): (u32, u32)) -> &'a str {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// The parts of a value between colons, without the folding white space around them.
pub(crate) fn colon_list(value: &str) -> impl Iterator<Item = &str> {
    value.split(':').map(trim_fws)
}

/// A text without the folding white space around it. A list that was read holds line ends only in folding.
pub(crate) fn trim_fws(text: &str) -> &str {
    text.trim_matches(is_fws)
}

/// A number of 1 to `digits_max` digits, and no other character; one too large for the type is its maximum.
pub(crate) fn digits(text: &str, digits_max: usize) -> Option<u64> {
    let well_formed = (1..=digits_max).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    well_formed.then(|| {
        text.bytes().fold(0_u64, |number, octet| number.saturating_mul(10).saturating_add(u64::from(octet - b'0')))
    })
}

/// Which characters may stand anywhere in a list: visible ASCII, white space, line ends that fold, and UTF-8.
fn check_characters(text: &[u8]) -> Result<(), TagListError> {
    let control = |octet: u8| (octet < b' ' && !matches!(octet, b'\t' | b'\r' | b'\n')) || octet == 0x7f;
    // No early exit: this way the loop becomes vector instructions.
    if text.iter().fold(false, |found, &octet| found | control(octet)) {
        return Err(TagListError::BadCharacter);
    }
    for lf in memchr_iter(b'\n', text) {
        let folds = lf > 0 && text.get(lf - 1) == Some(&b'\r') && matches!(text.get(lf + 1), Some(b' ' | b'\t'));
        if !folds {
            return Err(TagListError::BadCharacter);
        }
    }
    if memchr_iter(b'\r', text).any(|cr| text.get(cr + 1) != Some(&b'\n')) {
        return Err(TagListError::BadCharacter);
    }
    Ok(())
}

fn trim(text: &str, start: u32, end: u32) -> Range<u32> {
    let part = text.get(start as usize..end as usize).unwrap_or_default();
    let left = part.len() - part.trim_start_matches(is_fws).len();
    let middle = trim_fws(part).len();
    let start = start + left as u32;
    start..start + middle as u32
}

fn is_fws(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn is_tag_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
}

fn range((start, end): (u32, u32)) -> Range<usize> {
    start as usize..end as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(&str, &str)>, TagListError> {
        Ok(TagList::parse(text.as_bytes())?.iter().map(|tag| (tag.name, tag.value)).collect())
    }

    #[test]
    fn white_space_around_names_and_values_does_not_count() {
        assert_eq!(read(" a =\r\n\t1 ;b= x \t y\r\n ; "), Ok(vec![("a", "1"), ("b", "x \t y")]));
        assert_eq!(read("a=;b="), Ok(vec![("a", ""), ("b", "")]));
        assert_eq!(read("p=a=b=="), Ok(vec![("p", "a=b==")]));
        assert_eq!(read("i=s\u{e9}l@x"), Ok(vec![("i", "s\u{e9}l@x")]));
    }

    #[test]
    fn anything_malformed_spoils_the_whole_list() {
        for text in ["", ";", "a", "a=1;;", "a=1;;b=2", ";a=1", "=1", "1a=2", "a-b=2", "a b=2", "a=1; b"] {
            assert_eq!(read(text), Err(TagListError::NotATag), "{text:?}");
        }
        for text in ["a=\0", "a=1\n b", "a=1\r b", "a=1\r\nb", "a=1;\r\n", "a=\x7f", "n=1\x0b"] {
            assert_eq!(read(text), Err(TagListError::BadCharacter), "{text:?}");
        }
        assert_eq!(TagList::parse(b"a=\xff").unwrap_err(), TagListError::BadCharacter);
        assert_eq!(read("a=1; b=2; a=1"), Err(TagListError::Duplicate));
        assert_eq!(read("a=1; A=2"), Ok(vec![("a", "1"), ("A", "2")]));
    }

    #[test]
    fn tag_limit_holds_on_both_sides() {
        let list = |count: usize| (0..count).map(|n| format!("t{n}=1")).collect::<Vec<_>>().join(";");
        assert_eq!(read(&list(TAGS_MAX)).unwrap().len(), TAGS_MAX);
        assert_eq!(read(&list(TAGS_MAX + 1)), Err(TagListError::TooMany));
    }

    #[test]
    fn the_slot_of_a_value_holds_its_white_space() {
        let text = b"b= x\r\n y ; c=1";
        let list = TagList::parse(text).unwrap();
        assert_eq!(&text[list.slot_range("b").unwrap()], b" x\r\n y ");
        assert_eq!(&text[list.value_range("b").unwrap()], b"x\r\n y");
        assert_eq!((list.value("c"), list.value("d")), (Some("1"), None));
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!((digits("007", 3), digits("0007", 3), digits("", 3)), (Some(7), None, None));
        assert_eq!((digits("-1", 3), digits("1 ", 3)), (None, None));
        assert_eq!(digits(&"9".repeat(76), 76), Some(u64::MAX));
    }
}
