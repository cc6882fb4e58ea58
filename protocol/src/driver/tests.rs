//! The driver's contract, tried by every way of driving it.

mod bench;
mod closing;
mod contract;
mod input;
mod leases;
mod lingering;
mod output;
mod random;
mod toy;
mod transform;
mod turns;
