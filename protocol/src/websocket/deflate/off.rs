//! What stands in for the codec where it is left out: a pool that cannot be, so that nothing is agreed to, received
//! compressed, or sent so.

use alloc::sync::Arc;

use super::super::connection::{Connection, Event};
use super::super::frame::Opcode;
use super::super::{MessageKind, RecvError, Role};
use super::compression::Agreed;
use super::offer::{Parameters, Terms};
use crate::input::Input;
use crate::output::Sink;
use crate::time::Now;

#[derive(Debug)]
pub(super) enum Pool {}

#[derive(Debug)]
pub(in super::super) struct Reservation;

#[derive(Debug, Default)]
pub(in super::super) struct States {}

impl Pool {
    pub(super) fn reserve_takeover(self: &Arc<Self>) -> (Terms, Reservation) {
        match **self {}
    }
}

#[expect(clippy::unused_self, reason = "they stand in for those of the codec")]
impl Reservation {
    pub(super) fn reduce(&mut self, _: Parameters, _: Role) {}
}

#[expect(clippy::unused_self, reason = "as above")]
impl States {
    pub(in super::super) fn taken(&self) -> u64 {
        0
    }
}

#[expect(clippy::unused_self, reason = "as above")]
impl Connection {
    pub(in super::super) fn set_deflate(&mut self, agreed: Agreed) {
        let Agreed { reservation: Reservation, .. } = agreed;
    }

    #[expect(clippy::unnecessary_wraps, reason = "as above")]
    pub(in super::super) fn next_inflated<'b>(
        &mut self,
        _: &mut Input<'b>,
        _: Now,
    ) -> Result<Option<Event<'b>>, RecvError> {
        Ok(None)
    }

    pub(in super::super) fn put_deflated(&mut self, _: MessageKind, _: &[u8], _: &mut impl Sink) -> bool {
        false
    }

    pub(in super::super) fn begin_deflated(&mut self) -> bool {
        false
    }

    pub(in super::super) fn put_deflated_part(&mut self, _: bool, _: Opcode, _: &[u8], _: &mut impl Sink) {}
}
