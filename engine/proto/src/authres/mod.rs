//! Authentication-Results (RFC 8601): read, write, and remove forged ones.
