//! `watch-mio` with a limit of connections above the default of 10,000, which has no flag.
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use keepwatch_mio::{Options, bind};
use keepwatch_protocol::UnixMillis;
use keepwatch_runtime::{Clock, daemon};
use keepwatch_watch::command_line::Arguments;
use keepwatch_watch::{Config, Revision, Shared};

const NAME: &str = "held-mio";

fn main() -> ExitCode {
    daemon::exit(NAME, run(&Arguments::from_command_line(NAME)))
}

fn run(arguments: &Arguments) -> io::Result<()> {
    env_logger::init();
    let (runtime, handle) = bind(Options::new(arguments.listen.iter().copied()))?;
    let UnixMillis(started) = Clock::new().now().unix;
    let first = Revision::new(started.saturating_mul(1000)).unwrap_or(Revision::ZERO);
    let config = Config { connections: 20_000, ..arguments.config() };
    let (server, _publisher) = Shared::new(config, first).machine(getrandom::u64()?);
    daemon::stop_on_signals(handle.clone(), Arguments::GRACE)?;
    daemon::announce(&handle)?;
    runtime.serve(server)
}
