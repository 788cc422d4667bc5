//! The verdict as an Authentication-Results field (RFC 8601).

use super::Verdict;
use crate::arc::ArcResult;
use crate::authres::{Layout, Writer};

impl Verdict {
    /// Appends the value of the field that reports this verdict; `authserv_id` is whose results these are.
    pub fn write_authentication_results(&self, out: &mut String, authserv_id: &str, layout: Layout) {
        let mut writer = Writer::new(out, authserv_id, layout);
        // One result only, with the identity that gave it (RFC 8601 section 2.7.2): a second one for HELO could be read
        // as if it spoke for the sender.
        if self.ip.is_some() {
            if self.null_reverse_path {
                writer.spf_helo(&self.spf);
            } else {
                writer.spf_mail_from(&self.spf);
            }
        }
        if self.dkim.is_empty() {
            writer.dkim(None);
        }
        for signature in &self.dkim {
            writer.dkim(Some(signature));
        }
        if self.arc.result != ArcResult::None {
            writer.arc(&self.arc, self.ip);
        }
        writer.dmarc(&self.dmarc);
        writer.finish();
    }
}
