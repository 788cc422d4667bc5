//! Base64 as DKIM writes it: folding white space may stand anywhere (RFC 6376 section 2.10).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Missing padding and stray bits behind the last octet are let pass, as RFC 6376 section 2.10 and RFC 4648 section
/// 3.5 leave open: neither can make a wrong signature right.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Appends the octets that `text` stands for; `None` when it is empty or not base64.
pub(crate) fn decode(text: &str, octets: &mut Vec<u8>) -> Option<()> {
    let white = |octet: &u8| octet.is_ascii_whitespace();
    if text.is_empty() {
        return None;
    }
    // The text without white space, then room for what it stands for, in one buffer.
    let start = octets.len();
    text.as_bytes().split(white).for_each(|run| octets.extend_from_slice(run));
    let middle = octets.len();
    octets.resize(middle + (middle - start) / 4 * 3 + 3, 0);
    let (packed, room) = octets.split_at_mut_checked(middle)?;
    let decoded = ENGINE.decode_slice(packed.get(start..)?, room);
    if let Ok(count) = decoded {
        octets.copy_within(middle..middle + count, start);
    }
    octets.truncate(start + decoded.as_ref().map_or(0, |count| *count));
    decoded.is_ok().then_some(())
}

/// Padded base64 without line ends.
pub(crate) fn encode(octets: &[u8]) -> String {
    ENGINE.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_skipped_and_padding_may_be_missing() {
        let of = |text: &str| {
            let mut octets = vec![b'>'];
            decode(text, &mut octets).map(|()| String::from_utf8_lossy(&octets).into_owned())
        };
        assert_eq!(of("aGk\r\n hIQ=\t="), Some(">hi!!".to_owned()));
        assert_eq!(of("aGkhIQ"), Some(">hi!!".to_owned()));
        for bad in ["", "a", "aGk_", "=", "aG=k", "\u{e9}aaa"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
