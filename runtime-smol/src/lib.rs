//! Drives keepwatch servers over sockets with smol.
#![forbid(unsafe_code)]
