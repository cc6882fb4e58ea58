//! The watch server on smol: `watch-smol --help`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use keepwatch_runtime::{Clock, daemon};
use keepwatch_smol::{Options, bind};
use keepwatch_watch::command_line::Arguments;
use keepwatch_watch::{Revision, Shared};

const NAME: &str = "watch-smol";
/// How long farewells may take.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    daemon::exit(NAME, run(&Arguments::from_command_line(NAME)))
}

fn run(arguments: &Arguments) -> io::Result<()> {
    env_logger::init();
    let (runtime, handle) = bind(Options::new(arguments.listen.iter().copied()))?;
    // In microseconds, so that a server that is started again does not repeat revisions.
    let started = Clock::new().now().unix.0.saturating_mul(1000);
    let shared = Shared::new(arguments.config(), Revision::new(started).unwrap_or(Revision::ZERO));
    let (server, _publisher) = shared.machine(getrandom::u64()?);
    daemon::stop_on_signals(handle.clone(), GRACE)?;
    daemon::announce(&handle)?;
    smol::block_on(runtime.serve(server))
}
