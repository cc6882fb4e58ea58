//! The watch server on smol: `watch-smol --help`.

use std::io;
use std::process::ExitCode;

use keepwatch_runtime::{Clock, daemon};
use keepwatch_smol::{Options, Runtime, bind};
use keepwatch_watch::command_line::Arguments;

const NAME: &str = "watch-smol";

fn main() -> ExitCode {
    daemon::exit(NAME, run(&Arguments::from_command_line(NAME)))
}

fn run(arguments: &Arguments) -> io::Result<()> {
    env_logger::init();
    let (runtime, handle) = bind(Options::new(arguments.listen.iter().copied()))?;
    let seeds = (0..arguments.threads.get()).map(|_| getrandom::u64()).collect::<Result<Vec<_>, _>>()?;
    let machines = arguments.machines(Clock::new().now().unix, seeds);
    let runtimes = runtime.split(arguments.threads);
    daemon::stop_on_signals(handle.clone(), Arguments::GRACE)?;
    daemon::announce(&handle)?;
    let serve = |(runtime, server): (Runtime, _)| move || smol::block_on(runtime.serve(server));
    daemon::on_threads(&handle, runtimes.into_iter().zip(machines).map(serve).collect())
}
