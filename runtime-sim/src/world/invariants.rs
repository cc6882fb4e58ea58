//! What is held at every step, whatever happened in it.
//!
//! | | |
//! | --- | --- |
//! | memory | what a driver holds for a connection, what frames and compressors take, what requests and answers under way hold |
//! | connections | as many are counted as there are, and no more than may be (who is let in is held as they come, in `core::doors`) |
//! | the log | keeps as many changes as its limits say, and as long, and what is to leave it has a deadline |
//! | deadlines | whoever waits for a peer has one, and none that has passed is left behind |
//!
//! That a machine does not spin, writes nothing behind an end and uses no socket that is closed is held by
//! [`Sim`](crate::Sim) itself.

use std::time::Duration;

use keepwatch_protocol::Instant;

use super::World;
use super::core::{Core, Machine};

/// By so much a timer of the server or of the driver may be late: the resolutions of their wheels. The server's may fire twice:
/// what a peer said that was not read is heard before its silence is held against it.
const SERVER_TICK: Duration = Duration::from_millis(2 * 4);
const DRIVER_TICK: Duration = Duration::from_millis(16);

impl World {
    pub(super) fn check(&mut self) -> Result<(), String> {
        if let Some(failure) = self.core.failure.take() {
            return Err(failure);
        }
        if let Some(problem) = self.core.model.borrow_mut().problem.take() {
            return Err(format!("the store: {problem}"));
        }
        for (index, machine) in self.core.machines.iter().enumerate() {
            self.memory(index, machine).map_err(|what| format!("machine {index} has {what}"))?;
            deadlines(machine, &self.core, usize::from(self.has_listener))
                .map_err(|what| format!("machine {index}: {what}"))?;
        }
        let usages = || self.core.machines.iter().map(|machine| machine.sim.server().usage());
        let (inside, doors) = (usages().map(|usage| usage.connections).sum::<usize>(), &self.core.doors);
        if inside > self.config.connections || inside != doors.taken() && !self.core.machines.is_empty() {
            let (limit, taken) = (self.config.connections, doors.taken());
            return Err(format!(
                "{inside} connections are counted, of at most {limit}, and there are {taken}"
            ));
        }
        let buffered = usages().map(|usage| usage.buffered_bytes).max().unwrap_or_default();
        if buffered > self.config.buffers {
            return Err(format!("{buffered} bytes are held, and the budget is {}", self.config.buffers));
        }
        let compression = self.config.websocket.compression.memory();
        if compression > self.budget {
            return Err(format!("{compression} bytes for compression, and the budget is {}", self.budget));
        }
        Ok(())
    }

    fn memory(&self, index: usize, machine: &Machine) -> Result<(), String> {
        // A queue may be passed by what one call puts: an answer that is copied, a page of a list, and what frames them.
        let output = self.driver.output_mark + self.config.list_bytes.max(16 << 10) * 2 + (16 << 10);
        let unread = self.driver.unread_bytes + self.driver.read_bytes;
        let buffered = machine.sim.driver().buffered();
        if buffered.output > output || buffered.unread > unread {
            return Err(format!("{buffered:?}, and its limits are {output} and {unread}"));
        }
        let usage = machine.sim.server().usage();
        let model = self.core.model.borrow();
        let kept = model.generations.last().map_or(0, |generation| generation.machines[index].kept());
        if usage.log_changes != kept {
            return Err(format!("{usage:?}, and its log should have {kept} changes"));
        }
        let too_old = model.generations.last().and_then(|generation| generation.next_too_old(index));
        let looks = machine.sim.driver().deadline();
        if too_old.is_some_and(|at| looks.is_none_or(|looks| looks > at)) {
            return Err(format!("changes that are too old at {too_old:?}, and looks again at {looks:?}"));
        }
        if usage.encoded_bytes > self.config.log.encoded_bytes {
            return Err(format!("{usage:?}: frames over their limit"));
        }
        Ok(())
    }
}

/// Whoever waits for a peer has a deadline, and what was due is done. `endless`: a reader of `/hello` is waited for as long as
/// the system says that it is there.
fn deadlines(machine: &Machine, core: &Core, mut endless: usize) -> Result<(), String> {
    let (driver, server, now) = (machine.sim.driver(), machine.sim.server(), core.now.instant);
    for (id, drivers) in driver.deadlines() {
        let servers = server.deadline_of(id);
        if drivers.is_none() && servers.is_none() {
            if endless == 0 {
                return Err(format!("it waits for the peer of {id:?}, and for no time"));
            }
            endless -= 1;
        }
        // After a pause a deadline may have been set that had passed.
        let is_late = |at: Option<Instant>, tick| at.is_some_and(|at| at.max(core.last_pause) + tick <= now);
        if is_late(drivers, DRIVER_TICK) || is_late(servers, SERVER_TICK) {
            return Err(format!("it is {now:?}, and {id:?} was due at {drivers:?}, {servers:?}"));
        }
    }
    Ok(())
}
