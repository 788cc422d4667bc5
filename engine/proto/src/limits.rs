//! Every limit of the core, with its source; a test stands on both sides of each.

use std::time::Duration;

/// Octets of the header block that are read; a longer one is cut off and reported.
pub const HEADER_BLOCK_BYTES_MAX: usize = 1024 * 1024;
/// Header fields that are looked at.
pub const HEADER_FIELDS_MAX: usize = 2000;
/// Octets of one header field, name and folding included.
pub const HEADER_FIELD_BYTES_MAX: usize = 64 * 1024;
/// DKIM signatures judged per message (RFC 6376 section 6.1 permits a cap).
pub const DKIM_SIGNATURES_MAX: usize = 10;
/// Names in one `h=` tag.
pub const DKIM_SIGNED_NAMES_MAX: usize = 200;
/// Key records tried where a selector holds several (RFC 6376 section 3.6.2.2 leaves it open).
pub const DKIM_KEY_RECORDS_MAX: usize = 3;
/// Smallest RSA modulus that may verify (RFC 8301 section 3.2), in bits.
pub const RSA_BITS_MIN: usize = 1024;
/// Largest RSA modulus that is tried, in bits.
pub const RSA_BITS_MAX: usize = 8192;
/// Terms that cause DNS queries, per SPF evaluation (RFC 7208 section 4.6.4).
pub const SPF_LOOKUP_TERMS_MAX: u8 = 10;
/// Void lookups per SPF evaluation (RFC 7208 section 4.6.4).
pub const SPF_VOID_LOOKUPS_MAX: u8 = 2;
/// Exchanges looked up for one `mx` term (RFC 7208 section 4.6.4).
pub const SPF_MX_NAMES_MAX: usize = 10;
/// Names looked at for one `ptr` term or `%{p}` (RFC 7208 section 4.6.4).
pub const SPF_PTR_NAMES_MAX: usize = 10;
/// Time an SPF evaluation may take in all (RFC 7208 section 4.6.4 asks for at least 20 seconds).
pub const SPF_TIME_MAX: Duration = Duration::from_secs(20);
/// Octets of an SPF explanation that is passed on.
pub const SPF_EXPLANATION_BYTES_MAX: usize = 1024;
/// Queries of one DMARC tree walk (RFC 9989 section 4.10).
pub const DMARC_WALK_QUERIES_MAX: usize = 8;
/// Author domains judged where a From field names several (RFC 9989 section 11.5 asks for a cap).
pub const DMARC_AUTHOR_DOMAINS_MAX: usize = 4;
/// Findings on the tags of one DMARC record.
pub const DMARC_FINDINGS_MAX: usize = 64;
/// Addresses of From fields that are read; more name no author.
pub const FROM_ADDRESSES_MAX: usize = 256;
/// Octets of the domain of an address: no name of 255 octets is longer when written with U-labels.
pub const ADDRESS_DOMAIN_BYTES_MAX: usize = 1024;
/// Depth of comments within comments in an address field (RFC 5322 section 3.2.2 sets none).
pub const ADDRESS_COMMENT_DEPTH_MAX: usize = 32;
/// ARC sets of one message (RFC 8617 section 4.2.1).
pub const ARC_SETS_MAX: usize = 50;
/// Links of a CNAME chain that are followed.
pub const CNAME_CHAIN_MAX: usize = 8;
/// Octets of one TXT answer.
pub const TXT_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Time from the first octet to the verdict at the most.
pub const MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);
/// DNS questions that one message may cause; the excess is answered as failed.
pub const QUESTIONS_MAX: usize = 400;
