//! Drives keepwatch servers over sockets with mio.
#![forbid(unsafe_code)]
