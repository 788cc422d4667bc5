//! Changes to the header of a message, in the order in which a mail server has to get them.

use mailproof_proto::authres::{AuthservId, forged};
use mailproof_proto::message::{FieldKind, Headers};

use crate::protocol::{Reply, write_reply};

/// Appends changes. Remove first: inserting a field moves the numbers of those of its name.
pub(super) struct Changes<'a> {
    out: &'a mut Vec<u8>,
    /// The server takes values with the space after the colon.
    with_space: bool,
}

impl<'a> Changes<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, with_space: bool) -> Self {
        Self { out, with_space }
    }

    /// Removes one instance of a field, counted from 1.
    pub(super) fn remove(&mut self, name: &str, occurrence: u32) {
        write_reply(self.out, Reply::ChangeHeader { index: occurrence, name, value: b"" });
    }

    /// Puts a field on top of the header, above those put there before and above the Received field of this hop.
    pub(super) fn insert(&mut self, name: &str, value: &str) {
        let value = if self.with_space { format!(" {value}") } else { value.to_owned() };
        write_reply(self.out, Reply::InsertHeader { index: 0, name, value: value.as_bytes() });
    }
}

/// The Authentication-Results fields that have to go, as the server counts them, highest number first.
///
/// `count` is how many the server handed over. Where the scanned header has another number of them, a field was not
/// scanned or a value holds what looks like a field: then which is which is not sure, and all of them go.
pub(super) fn forged_fields(headers: Option<Headers<'_>>, count: u32, ours: &[AuthservId]) -> Vec<u32> {
    let all = || (1..=count).rev().collect();
    let Some(headers) = headers else { return all() };
    if headers.of_kind(FieldKind::AuthenticationResults).count() != count as usize {
        return all();
    }
    forged(headers, ours).filter_map(|field| u32::try_from(field.occurrence).ok()).collect()
}
