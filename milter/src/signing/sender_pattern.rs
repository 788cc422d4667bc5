//! Which authors a key signs for.

use mailproof_proto::dns::Name;
use serde::Deserialize;

/// A pattern over an address in lower case: `*` stands for any octets, also none.
///
/// Short forms: a domain alone stands for every address in it, one with a dot in front for every address below it too,
/// `*` for everybody.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct SenderPattern {
    alternatives: Vec<String>,
}

impl SenderPattern {
    /// Every address of one domain.
    #[must_use]
    pub fn domain(domain: &Name) -> Self {
        Self { alternatives: vec![format!("*@{domain}")] }
    }

    /// The pattern of a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = Self::checked(text)?;
        let alternatives = if text.contains('@') || text == "*" {
            vec![text]
        } else if let Some(domain) = text.strip_prefix('.') {
            vec![format!("*@{domain}"), format!("*@*.{domain}")]
        } else {
            vec![format!("*@{text}")]
        };
        Ok(Self { alternatives })
    }

    /// The pattern of a line of OpenDKIM's tables with wildcards: over the whole address.
    pub(super) fn glob(text: &str) -> Result<Self, String> {
        Ok(Self { alternatives: vec![Self::checked(text)?] })
    }

    /// What a line of OpenDKIM's tables without wildcards is for: `user@host`, `host`, the names below a domain with a dot
    /// in front for either of them, `user@*`, `*`.
    pub(super) fn exact(text: &str) -> Result<Self, String> {
        let text = Self::checked(text)?;
        let (user, host) = text.rsplit_once('@').unwrap_or(("", &text));
        if user.contains('*') || (host.contains('*') && host != "*") {
            return Err(format!("`{text}` has a wildcard; name the table as `refile:`"));
        }
        let user = if text.contains('@') { user } else { "*" };
        let below = if host.starts_with('.') { "*" } else { "" };
        Ok(Self { alternatives: vec![format!("{user}@{below}{host}")] })
    }

    /// A text in lower case that may be a pattern.
    fn checked(text: &str) -> Result<String, String> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || text.contains(|it: char| it.is_control()) {
            return Err(format!("`{}` is no pattern for addresses", text.escape_default()));
        }
        Ok(text.to_lowercase())
    }

    /// True for an address that is meant; its domain as A-labels, everything in lower case.
    #[must_use]
    pub fn matches(&self, address: &str) -> bool {
        self.alternatives.iter().any(|it| glob(it.as_bytes(), address.as_bytes()))
    }
}

impl TryFrom<String> for SenderPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

/// Matches with `*`. At most pattern times text steps: after a mismatch only the last `*` takes one octet more.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut of_text) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of_text < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, of_text));
                at += 1;
            }
            Some(octet) if Some(octet) == text.get(of_text) => {
                at += 1;
                of_text += 1;
            }
            _ => {
                let Some((after_star, taken)) = star else { return false };
                star = Some((after_star, taken + 1));
                at = after_star;
                of_text = taken + 1;
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|octet| *octet == b'*')
}

/// Octets of a pattern: an address and a margin.
const PATTERN_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Word by word: `*` takes every number of octets in turn.
    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| plain(rest, &text[taken..])),
            Some((octet, rest)) => text.split_first().is_some_and(|(first, text)| first == octet && plain(rest, text)),
        }
    }

    #[test]
    fn short_forms_mean_what_they_say() {
        let matches = |pattern: &str, address: &str| SenderPattern::new(pattern).unwrap().matches(address);
        assert!(matches("Example.com", "a@example.com") && !matches("example.com", "a@b.example.com"));
        assert!(matches(".example.com", "a@example.com") && matches(".example.com", "a@b.example.com"));
        assert!(!matches(".example.com", "a@anexample.com"));
        assert!(matches("*", "a@example.com") && matches("news*@*.example.com", "news-1@a.example.com"));
        let exact = |pattern: &str, address: &str| SenderPattern::exact(pattern).unwrap().matches(address);
        assert!(!exact(".example.com", "a@example.com") && exact(".example.com", "a@b.example.com"));
        assert!(exact("a@.example.com", "a@b.example.com") && !exact("a@.example.com", "b@b.example.com"));
        assert!(
            exact("a@*", "a@example.com")
                && exact("*", "a@example.com")
                && exact("example.com", "a@EXAMPLE.com".to_lowercase().as_str())
        );
        assert!(SenderPattern::exact("*@example.com").is_err() && SenderPattern::exact("a@*.example.com").is_err());
        assert!(!SenderPattern::glob("example.com").unwrap().matches("a@example.com"));
        assert!(SenderPattern::new("").is_err() && SenderPattern::new("a\nb").is_err());
        assert!(SenderPattern::new(&"x".repeat(PATTERN_BYTES_MAX)).is_ok());
        assert!(SenderPattern::new(&"x".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn quick_matching_equals_plain(pattern in "[ab*]{0,10}", text in "[ab*]{0,12}") {
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), plain(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
