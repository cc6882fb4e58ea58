//! A timer wheel.
