//! The lookup state machine: one question over several servers, UDP and TCP.
