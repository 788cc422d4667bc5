//! Differential.
