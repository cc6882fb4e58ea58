//! What happens to the server as a whole: it starts, crashes, drains, is stopped for a while, and its clock jumps.

use std::rc::Rc;
use std::time::Duration;

use keepwatch_protocol::UnixMillis;
use keepwatch_watch::store::MemoryStore;
use keepwatch_watch::{Revision, Shared};

use super::World;
use super::core::{Doors, Machine, Stage};
use super::model::{Generation, Tapped};
use super::others::Elsewhere;
use crate::sim::{Order, Sim, SimConfig};

impl World {
    pub(super) fn start(&mut self) {
        let generation = self.core.model.borrow().generations.len();
        let micros = self.core.now.unix.0 * 1000;
        let first = Revision::new(micros).unwrap_or_default();
        let shared = Shared::new(self.config.clone(), first);
        let store = MemoryStore::new(first, self.config.store_limits());
        let model = Rc::clone(&self.core.model);
        let begun = Generation::new(micros, self.machines, self.config.clone(), self.core.now.instant);
        model.borrow_mut().generations.push(begun);
        self.core.doors = Doors::new(&self.config);
        for index in 0..self.machines {
            let name = format!("machine {index} of {generation}");
            let mut random = self.seed.fork(&name);
            let tapped = Tapped::new(&store, random.fork("elsewhere"), &model, generation, index);
            let elsewhere = Elsewhere::new(&store, &model, generation, index);
            let mut meanwhile = random.fork("meanwhile");
            let (server, handle) = shared.machine_over(tapped, random.next_u64());
            let config = SimConfig {
                driver: self.driver.clone(),
                start: self.core.now,
                reports_hang_up: self.reports_hang_up,
                order: Order::Drawn(random),
                // Every connection may have its look without moving anything.
                turns: (200_000, 300),
                trace_steps: if self.core.transcript.is_some() { usize::MAX } else { 0 },
                ..SimConfig::default()
            };
            let mut sim = Sim::with_config(server, config);
            sim.set_meanwhile(Box::new(move |client| elsewhere.meanwhile(&mut meanwhile, client)));
            self.core.machines.push(Machine { sim, shown: 0, handle, collected: 0, is_fresh: true });
        }
        self.core.marks.hit(if self.machines == 1 { "machines: one" } else { "machines: two" });
        self.core.accepts = true;
        self.note("the server starts");
    }

    fn stop(&mut self) {
        self.core.accepts = false;
        self.draining = None;
        for machine in std::mem::take(&mut self.core.machines) {
            self.hash.write(&machine.sim.trace().hash().to_le_bytes());
        }
        self.core.lose_all();
        let again = self.core.now.instant + Duration::from_millis(5 + self.core.random.below(3000) as u64);
        self.core.stage_at(again, Stage::Start);
    }

    pub(super) fn stage(&mut self, stage: Stage) {
        self.note(&format!("{stage:?}"));
        match stage {
            Stage::Start => self.start(),
            Stage::Crash if self.core.accepts => self.stop(),
            Stage::Drain if self.core.accepts => {
                let grace = Duration::from_millis(self.core.random.one_of(&[300, 5000]));
                self.core.accepts = false;
                for machine in &mut self.core.machines {
                    machine.sim.start_drain(grace);
                }
                let by = self.core.now.instant + grace + Duration::from_millis(100);
                self.draining = Some(by);
                self.core.stage_at(by, Stage::Drained);
            }
            Stage::Drained if self.draining.is_some() => {
                let now = self.core.now.instant;
                let drained = self.core.machines.iter().all(|machine| machine.sim.driver().is_drained());
                if !drained && now.since(self.core.last_pause) < Duration::from_secs(1) {
                    // It has had no time yet.
                    return self.core.stage_at(now + Duration::from_secs(1), stage);
                }
                if !drained {
                    self.core.fail("the drain's time is over, and there are connections");
                }
                self.core.marks.hit("drain: all said farewell");
                self.stop();
            }
            Stage::ClockJump => {
                let random = &mut self.core.random;
                let by = 1000 + random.below([60_000, 100_000_000][random.clone().below(2)]) as u64;
                let unix = self.core.now.unix.0;
                let unix = if random.chance(500) { unix + by } else { unix - by };
                self.core.now.unix = UnixMillis(unix);
                for machine in &mut self.core.machines {
                    machine.sim.set_unix(UnixMillis(unix));
                }
            }
            Stage::Pause => {
                let by = Duration::from_millis(1 + self.core.random.below(40_000) as u64);
                let to = self.core.now.instant + by;
                self.move_time(to);
                self.core.last_pause = to;
            }
            Stage::Crash | Stage::Drain | Stage::Drained => {}
        }
    }
}
