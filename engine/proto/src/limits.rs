//! Every limit of the core, with its source; a test stands on both sides of each.

use std::time::Duration;

/// Octets of the header block that are read; a longer one is cut off and reported.
pub const HEADER_BLOCK_BYTES_MAX: usize = 1024 * 1024;
/// Header fields that are looked at; of a message with more, nothing is believed.
pub const HEADER_FIELDS_MAX: usize = 10_000;
/// Octets of one header field, name and folding included.
pub const HEADER_FIELD_BYTES_MAX: usize = 64 * 1024;
/// DKIM signatures judged per message (RFC 6376 section 6.1 permits a cap).
pub const DKIM_SIGNATURES_MAX: usize = 10;
/// Names in one `h=` tag.
pub const DKIM_SIGNED_NAMES_MAX: usize = 200;
/// Tags in one tag list (RFC 6376 section 3.2); more are no list that anyone publishes.
pub const TAGS_MAX: usize = 64;
/// Key records tried where a selector holds several (RFC 6376 section 3.6.2.2 leaves it open).
pub const DKIM_KEY_RECORDS_MAX: usize = 3;
/// Smallest RSA modulus that may verify (RFC 8301 section 3.2), in bits.
pub const RSA_BITS_MIN: usize = 1024;
/// Bits of a public RSA exponent; real ones have 2 or 17.
pub const RSA_EXPONENT_BITS_MAX: usize = 32;
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
/// Octets of an SPF explanation that is passed on: a text line of RFC 5321 section 4.5.3.1.6.
pub const SPF_EXPLANATION_BYTES_MAX: usize = 1000;
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
/// Servers one lookup goes to.
pub const DNS_SERVERS_MAX: usize = 8;
/// Queries to one server by one transport (RFC 9520 section 3.1).
pub const DNS_TRIES_MAX: u8 = 3;
/// Time after which another query goes out beside the first.
pub const DNS_FIRST_TRY_TIME: Duration = Duration::from_millis(500);
/// Time one query may take.
pub const DNS_TRY_TIME: Duration = Duration::from_secs(2);
/// Time one lookup may take, all its queries together.
pub const DNS_TIME_MAX: Duration = Duration::from_secs(6);
/// Records of one DNS message: as many A records as 64 KiB hold.
pub const ANSWER_RECORDS_MAX: usize = 4096;
/// Octets of one TXT answer.
pub const TXT_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Time that answers may take after the envelope, after the header and after the end of a message; how long the client
/// takes to send them does not count.
pub const MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);
/// DNS questions that one message may cause; the excess is answered as failed.
pub const QUESTIONS_MAX: usize = 400;
/// Results of one Authentication-Results field that are read; a field with more is not read at all.
pub const AUTHRES_RESULTS_MAX: usize = 100;
/// Properties of one result that are read; a field with more is not read at all.
pub const AUTHRES_PROPERTIES_MAX: usize = 50;
/// Octets of one value that is written, so that no line passes the 998 of RFC 5322 section 2.1.1. Reasons and comments
/// are cut off there; a longer property is left out, because half a name is another name.
pub const AUTHRES_VALUE_BYTES_MAX: usize = 900;
/// Octets of one method, result, ptype or property that is written.
pub const AUTHRES_KEYWORD_BYTES_MAX: usize = 64;
/// Octets of an authserv-id: those of a domain name.
pub const AUTHSERV_ID_BYTES_MAX: usize = 255;
