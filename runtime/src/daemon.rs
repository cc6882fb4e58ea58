//! What a binary around a runtime does: the ready line, and the signals that end it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Handle;

/// Prints `listening on http://ADDR:PORT` for each address, and flushes: whoever started the process waits for it.
///
/// # Errors
///
/// Standard output cannot be written to.
pub fn announce(handle: &Handle) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for address in handle.local_addresses() {
        writeln!(out, "listening on http://{address}")?;
    }
    out.flush()
}

/// From now on SIGINT and SIGTERM drain for at most `grace` and end the runtime; a second one ends the process at once, with
/// the status that a shell gives to one that was killed by the signal.
///
/// # Errors
///
/// The system does not let signals be caught.
pub fn stop_on_signals(handle: Handle, grace: Duration) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    #[expect(clippy::disallowed_methods, reason = "a thread that only waits for signals, in a binary")]
    std::thread::spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if stopping {
                std::process::exit(128 + signal);
            }
            stopping = true;
            log::info!("draining for at most {grace:?}; once more to end at once");
            handle.shutdown(grace);
        }
    });
    Ok(())
}

/// What `main` returns: an error is printed as `NAME: what and why`.
#[expect(clippy::print_stderr, reason = "where a binary says why it ends")]
pub fn exit(name: &str, result: Result<(), impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
