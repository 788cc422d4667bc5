//! One message from envelope to verdict.
