//! RFC 1035 master files. The crate `domain` reads the records; before it stands a plain pass over the entries that
//! lets real files through: times with units, record types that are no concern here, records without data.

use std::collections::HashMap;
use std::net::IpAddr;

use domain::base::Name as WireName;
use domain::base::iana::Class;
use domain::base::name::ToLabelIter;
use domain::rdata::ZoneRecordData;
use domain::zonefile::inplace::{Entry as Scanned, ScannedRecord, Zonefile};
use mailproof_proto::dns::{Mx, Name, NameError, RecordType, Txt};

use super::ZoneError;
use super::node::{Alias, Draft, Word};

/// Stands for every record that only says that its owner exists (RFC 3597 section 5, of a private-use type).
const PLACEHOLDER: &[u8] = b" TYPE65280 \\# 0";

pub(super) fn read(text: &[u8]) -> Result<Vec<(Name, Draft)>, ZoneError> {
    let mut drafts: HashMap<Name, Draft> = HashMap::new();
    let mut plain = Vec::with_capacity(text.len() + 64);
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let entry = Entry::split(rest);
        rest = rest.get(entry.octets.len()..).unwrap_or_default();
        if let Some(comment) = entry.comment.and_then(|it| it.strip_prefix(b";ERROR,")) {
            read_error_comment(comment, line, &mut drafts)?;
        }
        if entry.words.first().is_some_and(|(word, ..)| word.eq_ignore_ascii_case(b"$INCLUDE")) {
            return Err(ZoneError::Line { line, what: "$INCLUDE: a zone file stands alone".to_owned() });
        }
        entry.write_plain(&mut plain);
        line += newlines(entry.octets);
    }
    plain.push(b'\n');
    let mut scanner = Zonefile::from(plain.as_slice());
    scanner.set_default_class(Class::IN);
    scanner.set_origin(WireName::root_bytes());
    loop {
        match scanner.next_entry() {
            Ok(None) => return Ok(drafts.into_iter().collect()),
            Ok(Some(Scanned::Record(record))) => read_record(&record, &mut drafts),
            // Refused above.
            Ok(Some(Scanned::Include { .. })) => {}
            Err(error) => {
                // `domain` gives the place only as "line:column: what" in its text.
                let text = error.to_string();
                let mut parts = text.splitn(3, ':');
                let line = parts.next().and_then(|it| it.parse().ok()).unwrap_or(0);
                return Err(ZoneError::Line { line, what: parts.nth(1).unwrap_or(&text).trim().to_owned() });
            }
        }
    }
}

/// One entry of a master file: a directive, a record, or a line without either.
struct Entry<'a> {
    /// All of it, line ends included.
    octets: &'a [u8],
    /// The first words, with where they end and whether a parenthesis is open there.
    words: Vec<(&'a [u8], usize, bool)>,
    /// White space stands in front: the owner is the one of the record before.
    is_indented: bool,
    /// A comment that stands alone.
    comment: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    /// Words looked at: owner, time, class, type, and one of the data.
    const WORDS_MAX: usize = 5;

    /// The entry in front of `text`: up to a line end outside quotes and parentheses.
    fn split(text: &'a [u8]) -> Self {
        let (mut at, mut depth, mut words, mut comment) = (0, 0_usize, Vec::new(), None);
        while let Some(&octet) = text.get(at) {
            match octet {
                b'\n' if depth == 0 => {
                    at += 1;
                    break;
                }
                b';' => {
                    let end = text.iter().skip(at).position(|&it| it == b'\n').map_or(text.len(), |more| at + more);
                    if words.is_empty() && depth == 0 {
                        comment = text.get(at..end).map(<[u8]>::trim_ascii_end);
                    }
                    at = end;
                    continue;
                }
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => {
                    let end = word_end(text, at);
                    if words.len() < Self::WORDS_MAX {
                        words.push((text.get(at..end).unwrap_or_default(), end, depth > 0));
                    }
                    at = end;
                    continue;
                }
            }
            at += 1;
        }
        let octets = text.get(..at).unwrap_or(text);
        Self { octets, words, is_indented: text.first().is_some_and(|it| matches!(it, b' ' | b'\t')), comment }
    }

    /// Writes the entry in the form that `domain` reads, with as many line ends, so that line numbers stay right.
    fn write_plain(&self, out: &mut Vec<u8>) {
        let mut words = self.words.iter();
        match self.words.first() {
            None => out.resize(out.len() + newlines(self.octets), b'\n'),
            Some((directive, ..)) if directive.starts_with(b"$") => match self.words.get(1) {
                Some((time, end, _)) if directive.eq_ignore_ascii_case(b"$TTL") && seconds(time).is_some() => {
                    out.extend_from_slice(format!("$TTL {}", seconds(time).unwrap_or(0)).as_bytes());
                    out.extend_from_slice(self.octets.get(*end..).unwrap_or_default());
                }
                _ => out.extend_from_slice(self.octets),
            },
            Some(_) => {
                if !self.is_indented
                    && let Some((owner, ..)) = words.next()
                {
                    out.extend_from_slice(owner);
                }
                self.write_record(words.as_slice(), out);
            }
        }
    }

    /// Writes what comes after the owner.
    fn write_record(&self, words: &[(&[u8], usize, bool)], out: &mut Vec<u8>) {
        let (mut ttl_seconds, mut is_internet) = (None, true);
        for (index, (word, end, in_parentheses)) in words.iter().enumerate() {
            if let Some(time) = seconds(word) {
                ttl_seconds = Some(time);
            } else if word.eq_ignore_ascii_case(b"IN") {
                is_internet = true;
            } else if word.eq_ignore_ascii_case(b"CH") || word.eq_ignore_ascii_case(b"HS") {
                is_internet = false;
            } else {
                let is_asked = is_internet && is_asked_type(word) && words.len() > index + 1;
                let data = self.octets.get(*end..).filter(|_| is_asked);
                if let Some(data) = data {
                    let time = ttl_seconds.map_or(String::new(), |it| format!(" {it}"));
                    out.extend_from_slice(format!("{time} {}", String::from_utf8_lossy(word)).as_bytes());
                    out.extend_from_slice(if *in_parentheses { b" (" } else { b"" });
                    out.extend_from_slice(data);
                    return;
                }
                break;
            }
        }
        out.extend_from_slice(PLACEHOLDER);
        out.resize(out.len() + newlines(self.octets), b'\n');
    }
}

/// Where the word that starts at `at` ends: a quoted string, or octets up to white space.
fn word_end(text: &[u8], at: usize) -> usize {
    let is_quoted = text.get(at) == Some(&b'"');
    let mut end = at + usize::from(is_quoted);
    while let Some(&octet) = text.get(end) {
        match octet {
            b'\\' => end += 1,
            b'"' if is_quoted => return end + 1,
            b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' | b'"' if !is_quoted => return end,
            _ => {}
        }
        end += 1;
    }
    text.len()
}

fn is_asked_type(word: &[u8]) -> bool {
    std::str::from_utf8(word)
        .is_ok_and(|word| RecordType::from_word(word).is_some() || word.eq_ignore_ascii_case("CNAME"))
}

/// A time as RFC 1035 has it, or with the units of the common name servers: `1h30m`.
fn seconds(word: &[u8]) -> Option<u32> {
    let (mut total, mut number, mut is_open) = (0_u32, 0_u32, false);
    word.first().filter(|it| it.is_ascii_digit())?;
    for &octet in word {
        let unit = match octet.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                number = number.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
                is_open = true;
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        (number, is_open) = (0, false);
    }
    total.checked_add(if is_open { number } else { 0 })
}

fn newlines(octets: &[u8]) -> usize {
    octets.iter().filter(|&&octet| octet == b'\n').count()
}

/// `name,type,word`; an address in place of the name stands for its reverse name.
fn read_error_comment(comment: &[u8], line: usize, drafts: &mut HashMap<Name, Draft>) -> Result<(), ZoneError> {
    let bad = || ZoneError::Line { line, what: "not `;ERROR,name,type,word`".to_owned() };
    let text = std::str::from_utf8(comment).map_err(|_| bad())?;
    let mut fields = text.split(',').map(str::trim);
    let (Some(name), Some(kind), Some(word), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(bad());
    };
    let word = Word::read(word).ok_or_else(bad)?;
    // Other types are never asked for.
    let Some(kind) = RecordType::from_word(kind) else { return Ok(()) };
    let name = match name.parse::<IpAddr>() {
        Ok(address) => Name::reverse(address),
        Err(_) => Name::parse(name).map_err(|_| bad())?,
    };
    let draft = drafts.entry(name).or_default();
    draft.set_word(kind, word);
    if word == Word::NxDomain && draft.has_no_records() && draft.otherwise.is_none() {
        draft.otherwise = Some(word);
    }
    Ok(())
}

fn read_record(record: &ScannedRecord, drafts: &mut HashMap<Name, Draft>) {
    // The root and names over the limits hold nothing that is asked for.
    let Ok(owner) = name(record.owner()) else { return };
    let draft = drafts.entry(owner).or_default();
    // A record says that the name exists, whatever a comment said.
    draft.otherwise = None;
    let ttl_seconds = record.ttl().as_secs();
    match record.data() {
        ZoneRecordData::A(a) => draft.a.push(a.addr(), ttl_seconds),
        ZoneRecordData::Aaaa(aaaa) => draft.aaaa.push(aaaa.addr(), ttl_seconds),
        ZoneRecordData::Mx(mx) => match name(mx.exchange()) {
            Ok(host) => draft.mx.push(Mx { preference: mx.preference(), exchange: Some(host) }, ttl_seconds),
            Err(NameError::Empty) => draft.mx.push(Mx { preference: mx.preference(), exchange: None }, ttl_seconds),
            Err(_) => {}
        },
        ZoneRecordData::Ptr(ptr) => {
            if let Ok(host) = name(ptr.ptrdname()) {
                draft.ptr.push(host, ttl_seconds);
            }
        }
        ZoneRecordData::Txt(txt) => {
            let text: Vec<u8> = txt.iter_charstrs().flat_map(|string| string.as_slice().to_vec()).collect();
            draft.txt.push(Txt(text.into()), ttl_seconds);
        }
        ZoneRecordData::Cname(cname) => {
            draft.alias = name(cname.cname()).ok().map(|target| Alias { target, ttl_seconds });
        }
        _ => {}
    }
}

fn name(name: &impl ToLabelIter) -> Result<Name, NameError> {
    let labels = || name.iter_labels().map(|label| label.as_slice()).filter(|label| !label.is_empty());
    if labels().next().is_none() { Err(NameError::Empty) } else { Name::from_labels(labels()) }
}
