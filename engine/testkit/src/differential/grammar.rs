//! The ABNF of RFC 7208 section 12 for one term, as plainly as it is written there: which generated terms are legal is
//! decided here, not by the parser under test.

/// True for a term that the grammar allows.
#[must_use]
pub fn is_legal_term(term: &str) -> bool {
    if let Some((name, value)) = term.split_once('=')
        && is_modifier_name(name)
    {
        return match &*name.to_ascii_lowercase() {
            "redirect" | "exp" => is_domain_spec(value),
            _ => tokens(value).is_some(),
        };
    }
    let mechanism = term.strip_prefix(['+', '-', '?', '~']).unwrap_or(term);
    let name_end = mechanism.find([':', '/']).unwrap_or(mechanism.len());
    let (name, rest) = mechanism.split_at(name_end);
    match &*name.to_ascii_lowercase() {
        "all" => rest.is_empty(),
        "include" | "exists" => rest.strip_prefix(':').is_some_and(is_domain_spec),
        "ptr" => rest.is_empty() || rest.strip_prefix(':').is_some_and(is_domain_spec),
        "a" | "mx" => is_domain_with_cidr(rest),
        "ip4" => rest.strip_prefix(':').is_some_and(|network| {
            let (address, length) = network.split_once('/').unwrap_or((network, "32"));
            is_ip4(address) && is_length(length, 32)
        }),
        "ip6" => rest.strip_prefix(':').is_some_and(|network| {
            let (address, length) = network.split_once('/').unwrap_or((network, "128"));
            address.parse::<std::net::Ipv6Addr>().is_ok() && is_length(length, 128)
        }),
        _ => false,
    }
}

/// True for a whole record that the grammar allows, modifiers of which there may be one counted.
#[must_use]
pub fn is_legal_record(record: &str) -> bool {
    let mut terms = record.split(' ').skip(1).filter(|term| !term.is_empty());
    let count = |name: &str| {
        let mut terms =
            record.split(' ').filter(|term| term.split('=').next().is_some_and(|it| it.eq_ignore_ascii_case(name)));
        terms.by_ref().filter(|term| term.contains('=')).count()
    };
    terms.all(is_legal_term) && count("redirect") < 2 && count("exp") < 2
}

fn is_modifier_name(name: &str) -> bool {
    let mut octets = name.bytes();
    octets.next().is_some_and(|first| first.is_ascii_alphabetic())
        && octets.all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.'))
}

/// `[ ":" domain-spec ] [ dual-cidr-length ]`: the lengths are what can be taken from the end.
fn is_domain_with_cidr(rest: &str) -> bool {
    let mut splits = vec![rest];
    for (at, _) in rest.match_indices('/') {
        let (before, lengths) = rest.split_at(at);
        if is_dual_cidr(lengths) {
            splits.push(before);
        }
    }
    splits.iter().any(|domain| domain.is_empty() || domain.strip_prefix(':').is_some_and(is_domain_spec))
}

fn is_dual_cidr(lengths: &str) -> bool {
    let (four, six) = match lengths.split_once("//") {
        Some((four, six)) => (four, Some(six)),
        None => (lengths, None),
    };
    let four_is_legal = four.is_empty() || four.strip_prefix('/').is_some_and(|length| is_length(length, 32));
    four_is_legal && six.is_none_or(|length| is_length(length, 128)) && !(four.is_empty() && six.is_none())
}

fn is_length(text: &str, max: u32) -> bool {
    text.bytes().all(|octet| octet.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
        && text.parse::<u32>().is_ok_and(|length| length <= max)
}

fn is_ip4(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 4 && parts.iter().all(|part| is_length(part, 255))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Token {
    Expand,
    Literal(char),
}

/// `macro-string`; `None` when it is none.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '%' {
            let after = rest.get(1..)?;
            if let Some(after) = after.strip_prefix(['%', '_', '-']) {
                rest = after;
            } else {
                let (inside, after) = after.strip_prefix('{')?.split_once('}')?;
                if !is_expand(inside) {
                    return None;
                }
                rest = after;
            }
            tokens.push(Token::Expand);
        } else if first.is_ascii_graphic() {
            tokens.push(Token::Literal(first));
            rest = rest.get(1..)?;
        } else {
            return None;
        }
    }
    Some(tokens)
}

/// `macro-letter transformers *delimiter`, without the letters of explanations.
fn is_expand(inside: &str) -> bool {
    let Some(rest) = inside.get(1..) else { return false };
    let letter_is_legal = inside.starts_with(|letter: char| "slodiphv".contains(letter.to_ascii_lowercase()));
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = rest.split_at(digits);
    let rest = rest.strip_prefix(['r', 'R']).unwrap_or(rest);
    letter_is_legal
        && (number.is_empty() || number.bytes().any(|digit| digit != b'0'))
        && rest.chars().all(|delimiter| ".-+,/_=".contains(delimiter))
}

fn is_domain_spec(text: &str) -> bool {
    let Some(tokens) = tokens(text) else { return false };
    if tokens.last() == Some(&Token::Expand) {
        return true;
    }
    let tail: String = tokens
        .iter()
        .rev()
        .map_while(|token| if let Token::Literal(literal) = token { Some(*literal) } else { None })
        .collect();
    let tail: String = tail.chars().rev().collect();
    let tail = tail.strip_suffix('.').unwrap_or(&tail);
    tail.rsplit_once('.').is_some_and(|(_, label)| is_toplabel(label))
}

fn is_toplabel(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().any(|octet| !octet.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_told_apart() {
        for legal in
            ["a", "-mx/24//64", "a:d.example/0", "exists:%{ir}.%{v}._spf.d.example", "x-y_z.1=%%", "ip4:0.0.0.0/0"]
        {
            assert!(is_legal_term(legal), "{legal}");
        }
        for illegal in [
            "",
            "a/33",
            "ip4:1.2.3",
            "ip4:1.2.3.04",
            "include",
            "all:x",
            "a:d",
            "a:d.1",
            "exists:%{d0}.x.example",
            "foo:bar",
            "1x=y",
        ] {
            assert!(!is_legal_term(illegal), "{illegal}");
        }
        assert!(!is_legal_record("v=spf1 exp=a.example EXP=b.example"));
    }
}
