//! Long polling.
