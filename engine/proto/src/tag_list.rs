//! Tag lists: `name=value; name=value` (RFC 6376 section 3.2), shared by signatures, keys and DMARC records.
