//! What is odd about a case, read from its texts without any of the routines under test.

use super::compare::{Case, Input};
use super::grammar;
use crate::generate::MessageCase;
use crate::generate::sign::field_name;

/// A signature field, taken apart by hand.
pub(super) struct Signature<'a> {
    /// The whole field.
    pub(super) field: &'a [u8],
    /// Tags with their values, white space around both removed, in order.
    pub(super) tags: Vec<(String, String)>,
}

impl Signature<'_> {
    /// The value of a tag; white space inside it removed.
    pub(super) fn value(&self, tag: &str) -> Option<String> {
        let (_, value) = self.tags.iter().find(|(name, _)| name == tag)?;
        Some(value.split_ascii_whitespace().collect())
    }

    /// RFC 6376 section 3.2: tag names of letters, digits and underscores, each once.
    pub(super) fn has_bad_tag_list(&self) -> bool {
        has_bad_tags(&self.tags)
    }

    pub(super) fn body_is_relaxed(&self) -> bool {
        self.value("c").is_some_and(|value| value.to_ascii_lowercase().ends_with("/relaxed"))
    }

    pub(super) fn header_is_relaxed(&self) -> bool {
        self.value("c").is_some_and(|value| value.to_ascii_lowercase().starts_with("relaxed"))
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.value("h").unwrap_or_default().split(':').map(str::to_ascii_lowercase).collect()
    }

    pub(super) fn key_name(&self) -> String {
        let value = |tag: &str| self.value(tag).unwrap_or_default().to_ascii_lowercase();
        format!("{}._domainkey.{}", value("s"), value("d"))
    }
}

/// The message of a case that has one.
pub(super) fn message(case: &Case) -> Option<&MessageCase> {
    match &case.input {
        Input::Message(message) => Some(message),
        Input::Spf(_) => None,
    }
}

/// The DKIM-Signature fields from the top down.
pub(super) fn signatures(case: &Case) -> Vec<Signature<'_>> {
    let fields = message(case).map_or(&[][..], |message| &message.parts.fields);
    let signatures = fields.iter().filter(|field| field_name(field).eq_ignore_ascii_case(b"DKIM-Signature"));
    signatures
        .map(|field| {
            let value = field.get(field_name(field).len() + 1..).unwrap_or_default();
            Signature { field, tags: tags(&String::from_utf8_lossy(value)) }
        })
        .collect()
}

/// Tags of a tag list; what has no `=` gets an empty name.
pub(super) fn tags(text: &str) -> Vec<(String, String)> {
    let text = text.trim();
    let text = text.strip_suffix(';').unwrap_or(text);
    let tags = text.split(';').map(|tag| match tag.split_once('=') {
        Some((name, value)) => (name.trim().to_owned(), value.trim().to_owned()),
        None => (String::new(), tag.trim().to_owned()),
    });
    tags.collect()
}

pub(super) fn has_bad_tags(tags: &[(String, String)]) -> bool {
    let is_bad = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_alphabetic())
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let twice = |name: &str| tags.iter().filter(|(it, _)| it == name).count() > 1;
    tags.iter().any(|(name, value)| {
        is_bad(name) || twice(name) || value.chars().any(|c| !c.is_ascii_graphic() && !c.is_ascii_whitespace())
    })
}

/// CR or LF alone, in the body.
pub(super) fn has_bare_line_end(case: &Case) -> bool {
    message(case).is_some_and(|message| {
        let body = &message.parts.body;
        let count = |octet: u8| body.iter().filter(|&&it| it == octet).count();
        let pairs = memchr::memmem::find_iter(body, b"\r\n").count();
        count(b'\r') != pairs || count(b'\n') != pairs
    })
}

/// Lines of nothing but white space at the end of the body, or a body of nothing else.
pub(super) fn ends_in_blank_space(case: &Case) -> bool {
    message(case).is_some_and(|message| {
        let body = &message.parts.body;
        let text_end = body.iter().rposition(|octet| !b" \t\r\n".contains(octet)).map_or(0, |at| at + 1);
        let tail = &body[text_end..];
        let lines_start = match tail.iter().position(|&octet| octet == b'\n') {
            _ if text_end == 0 => 0,
            Some(at) => at + 1,
            None => tail.len(),
        };
        tail[lines_start..].iter().any(|octet| b" \t".contains(octet))
    })
}

/// The last line has no CRLF and ends in white space.
pub(super) fn last_line_ends_in_blank(case: &Case) -> bool {
    message(case).is_some_and(|message| matches!(message.parts.body.last(), Some(b' ' | b'\t')))
}

/// White space between the name of some field and its colon (RFC 5322 section 4.5).
pub(super) fn has_space_before_colon(case: &Case) -> bool {
    message(case).is_some_and(|message| {
        message.parts.fields.iter().any(|field| {
            let name = field_name(field).len();
            field.get(name).is_some_and(|&octet| octet != b':')
        })
    })
}

/// The texts at a name, or at the name that it is an alias of.
pub(super) fn texts_at(case: &Case, name: &str) -> Vec<String> {
    let records = case.records();
    let alias = records.0.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).and_then(|(_, list)| {
        let target = list.iter().find_map(|record| record["CNAME"].as_str())?;
        Some(target.to_owned())
    });
    let name = alias.as_deref().unwrap_or(name);
    records.texts().filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, text)| text).collect()
}

/// A field whose first line has no colon: a name with folding behind it, or no field at all.
pub(super) fn has_line_without_colon(case: &Case) -> bool {
    message(case).is_some_and(|message| {
        message.parts.fields.iter().any(|field| {
            let end = memchr::memmem::find(field, b"\r\n").unwrap_or(field.len());
            !field[..end].contains(&b':')
        })
    })
}

/// A text that is an SPF record (RFC 7208 section 4.5).
pub(super) fn is_spf(text: &str) -> bool {
    text.get(..6).is_some_and(|version| version.eq_ignore_ascii_case("v=spf1"))
        && matches!(text.as_bytes().get(6), None | Some(b' '))
}

/// The case with each SPF record changed term by term; `None` takes a term out.
pub(super) fn with_terms(case: &Case, mut change: impl FnMut(&str, &str) -> Option<String>) -> Case {
    let records = case.records().with_texts(|name, text| {
        if !is_spf(text) {
            return text.to_owned();
        }
        let (version, terms) = text.split_at(6);
        let terms: Vec<String> = terms
            .split(' ')
            .filter_map(|term| if term.is_empty() { Some(String::new()) } else { change(name, term) })
            .collect();
        format!("{version}{}", terms.join(" "))
    });
    case.with_records(records)
}

/// The case without terms that the grammar does not allow, a second `redirect` or `exp` among them.
pub(super) fn with_legal_terms(case: &Case) -> Case {
    let mut seen: Vec<String> = Vec::new();
    let mut at = String::new();
    with_terms(case, |name, term| {
        if at != name {
            seen.clear();
            name.clone_into(&mut at);
        }
        if let Some((modifier, _)) = term.split_once('=') {
            let modifier = modifier.to_ascii_lowercase();
            if matches!(&*modifier, "redirect" | "exp") {
                if seen.contains(&modifier) {
                    return None;
                }
                seen.push(modifier);
            }
        }
        grammar::is_legal_term(term).then(|| term.to_owned())
    })
}

/// The target of a term, as written.
pub(super) fn target(term: &str) -> &str {
    term.split_once([':', '=']).map_or("", |(_, target)| target)
}
