//! The sans-IO loop around a server.
