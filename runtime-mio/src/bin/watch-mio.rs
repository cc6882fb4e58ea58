//! The watch server on mio: `watch-mio --help`.

use std::io;
use std::process::ExitCode;

use keepwatch_mio::{Options, bind};
use keepwatch_runtime::{Clock, daemon};
use keepwatch_watch::command_line::Arguments;

const NAME: &str = "watch-mio";

fn main() -> ExitCode {
    daemon::exit(NAME, run(&Arguments::from_command_line(NAME)))
}

fn run(arguments: &Arguments) -> io::Result<()> {
    env_logger::init();
    let (runtime, handle) = bind(Options::new(arguments.listen.iter().copied()))?;
    let (server, _publisher) = arguments.machine(Clock::new().now().unix, getrandom::u64()?);
    daemon::stop_on_signals(handle.clone(), Arguments::GRACE)?;
    daemon::announce(&handle)?;
    runtime.serve(server)
}
