//! The grammar of RFC 7208 section 12 written down rule by rule, slow and without thought: the plain twin of the
//! record parser. A rule maps the places where it may start to the places where it may end.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

type Places = BTreeSet<usize>;

/// True when a text is a record of section 12, with the rules of sections 4.6.1, 6 and 7.3 that the ABNF can not say:
/// `exp` and `redirect` once, prefix lengths in range, part counts from 1 to 2^32 - 1, `c`, `r` and `t` in no
/// domain-spec.
#[must_use]
pub fn is_record(text: &[u8]) -> bool {
    let Some((version, mut rest)) = text.split_at_checked(6) else { return false };
    if !version.eq_ignore_ascii_case(b"v=spf1") {
        return false;
    }
    let (mut redirects, mut exps) = (0, 0);
    while !rest.is_empty() {
        let spaces = rest.iter().take_while(|&&octet| octet == b' ').count();
        if spaces == 0 {
            return false;
        }
        rest = &rest[spaces..];
        let len = rest.iter().position(|&octet| octet == b' ').unwrap_or(rest.len());
        let (term, after) = rest.split_at(len);
        rest = after;
        if term.is_empty() {
            continue;
        }
        let term = Text(term);
        let redirect = term.whole(|it, at| it.domain_spec(&it.word(at, "redirect=")));
        let exp = term.whole(|it, at| it.domain_spec(&it.word(at, "exp=")));
        redirects += u32::from(redirect);
        exps += u32::from(exp);
        if !(redirect || exp || term.whole(Text::unknown_modifier) || term.whole(Text::directive)) {
            return false;
        }
    }
    redirects < 2 && exps < 2
}

struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn whole(&self, rule: impl Fn(&Self, &Places) -> Places) -> bool {
        rule(self, &Places::from([0])).contains(&self.0.len())
    }

    fn one(&self, from: &Places, wanted: impl Fn(u8) -> bool) -> Places {
        from.iter().filter(|&&at| self.0.get(at).is_some_and(|&octet| wanted(octet))).map(|at| at + 1).collect()
    }

    fn word(&self, from: &Places, word: &str) -> Places {
        word.bytes().fold(from.clone(), |from, octet| self.one(&from, |it| it.eq_ignore_ascii_case(&octet)))
    }

    fn any(&self, from: &Places, words: &[&str]) -> Places {
        words.iter().flat_map(|word| self.word(from, word)).collect()
    }

    fn many(&self, from: &Places, rule: impl Fn(&Self, &Places) -> Places) -> Places {
        let mut reached = from.clone();
        let mut new = from.clone();
        while !new.is_empty() {
            new = rule(self, &new).difference(&reached).copied().collect();
            reached.extend(&new);
        }
        reached
    }

    fn directive(&self, from: &Places) -> Places {
        let from = &(from | &self.any(from, &["+", "-", "?", "~"]));
        let domain = |name: &str| self.domain_spec(&self.word(&self.word(from, name), ":"));
        let with_optional = |name: &str| &self.word(from, name) | &domain(name);
        let mut ends = self.word(from, "all");
        ends.extend(domain("include"));
        ends.extend(domain("exists"));
        ends.extend(with_optional("ptr"));
        ends.extend(self.dual_cidr_length(&with_optional("a")));
        ends.extend(self.dual_cidr_length(&with_optional("mx")));
        ends.extend(self.network(&self.word(from, "ip4:"), 32, |text| text.parse::<Ipv4Addr>().is_ok()));
        ends.extend(self.network(&self.word(from, "ip6:"), 128, |text| text.parse::<Ipv6Addr>().is_ok()));
        ends
    }

    /// `ip4-network` and `ip6-network` with their length; the addresses are those of the standard library, which wants
    /// four numbers without leading zeros, and RFC 4291 section 2.2.
    fn network(&self, from: &Places, max: u32, is_address: impl Fn(&str) -> bool) -> Places {
        let mut ends = Places::new();
        for &at in from {
            for end in at..=self.0.len() {
                if std::str::from_utf8(&self.0[at..end]).is_ok_and(&is_address) {
                    ends.insert(end);
                }
            }
        }
        &ends | &self.length(&self.word(&ends, "/"), max)
    }

    fn dual_cidr_length(&self, from: &Places) -> Places {
        let four = from | &self.length(&self.word(from, "/"), 32);
        &four | &self.length(&self.word(&four, "//"), 128)
    }

    fn length(&self, from: &Places, max: u32) -> Places {
        let mut ends = Places::new();
        for &at in from {
            for end in at + 1..=self.0.len().min(at + 3) {
                let digits = std::str::from_utf8(&self.0[at..end]).unwrap_or("-");
                let plain = digits.bytes().all(|it| it.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
                if plain && digits.parse::<u32>().is_ok_and(|number| number <= max) {
                    ends.insert(end);
                }
            }
        }
        ends
    }

    fn unknown_modifier(&self, from: &Places) -> Places {
        let is_known = ["redirect=", "exp="].iter().any(|word| !self.word(from, word).is_empty());
        if is_known {
            return Places::new();
        }
        let name = self.one(from, |it| it.is_ascii_alphabetic());
        let name = self.many(&name, |text, at| text.one(at, |it| it.is_ascii_alphanumeric() || b"-_.".contains(&it)));
        self.macro_string(&self.word(&name, "="), b"slodiphcrtv")
    }

    fn domain_spec(&self, from: &Places) -> Places {
        let letters = b"slodiphv";
        let before = self.macro_string(from, letters);
        let top = self.top_label(&self.word(&before, "."));
        let top = &top | &self.word(&top, ".");
        &top | &self.macro_expand(&before, letters)
    }

    fn top_label(&self, from: &Places) -> Places {
        let alphanumeric = |text: &Self, at: &Places| text.one(at, |it| it.is_ascii_alphanumeric());
        let first = self.one(&self.many(from, alphanumeric), |it| it.is_ascii_alphabetic());
        let first = self.many(&first, alphanumeric);
        let second = self.many(&alphanumeric(self, from), alphanumeric);
        let second = self.word(&second, "-");
        let second = self.many(&second, |text, at| text.one(at, |it| it.is_ascii_alphanumeric() || it == b'-'));
        &first | &alphanumeric(self, &second)
    }

    fn macro_string(&self, from: &Places, letters: &[u8]) -> Places {
        self.many(from, |text, at| {
            let literal = text.one(at, |it| matches!(it, 0x21..=0x24 | 0x26..=0x7e));
            &literal | &text.macro_expand(at, letters)
        })
    }

    fn macro_expand(&self, from: &Places, letters: &[u8]) -> Places {
        let simple = self.any(from, &["%%", "%_", "%-"]);
        let letter = self.one(&self.word(from, "%{"), |it| letters.contains(&it.to_ascii_lowercase()));
        let mut counted = letter.clone();
        for &at in &letter {
            for end in at + 1..=self.0.len() {
                let digits = std::str::from_utf8(&self.0[at..end]).unwrap_or("-");
                if digits.bytes().all(|it| it.is_ascii_digit()) && digits.parse::<u32>().is_ok_and(|it| it > 0) {
                    counted.insert(end);
                }
            }
        }
        let transformed = &counted | &self.word(&counted, "r");
        let delimited = self.many(&transformed, |text, at| text.one(at, |it| b".-+,/_=".contains(&it)));
        &simple | &self.word(&delimited, "}")
    }
}

#[cfg(test)]
mod tests {
    use mailproof_proto::spf::Record;
    use proptest::prelude::*;

    use super::is_record;

    /// Texts near the grammar: pieces of records, glued at random.
    fn near_record() -> impl Strategy<Value = String> {
        let pieces = [
            "a",
            "mx",
            "ptr",
            "all",
            "include",
            "exists",
            "ip4",
            "ip6",
            "redirect",
            "exp",
            "foo",
            ":",
            "/",
            "//",
            "=",
            "+",
            "-",
            "~",
            "?",
            " ",
            ".",
            "%",
            "%{",
            "}",
            "%%",
            "%_",
            "%-",
            "{",
            "d",
            "i",
            "l",
            "p",
            "c",
            "R",
            "1",
            "0",
            "12",
            "33",
            "128",
            "129",
            "1.2.3.4",
            "::1",
            "::ffff:1.2.3.4",
            "example.com",
            ".com",
            "com.",
            "-x",
            "_",
            ",",
            "\u{7f}",
            "é",
            "%{d}",
            "%{l1r-+}",
            "%{ir}.%{v}.x",
            "a:b.c/24//64",
        ];
        let piece = prop::sample::select(pieces.to_vec());
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("v=spf1 {}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_accepts_what_the_grammar_accepts(text in near_record()) {
            prop_assert_eq!(Record::parse(text.as_bytes()).is_ok(), is_record(text.as_bytes()), "{}", text);
        }
    }
}
