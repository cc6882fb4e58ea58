//! What a binary around a runtime does: the ready line, and the signals that end it.

use std::io::{self, Write};
use std::panic::resume_unwind;
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

/// Runs each of these to its end, the first on this thread and each other on one of its own. If one fails, all are stopped and
/// the first error is given back; if one panics, all are stopped, and so does this.
///
/// # Errors
///
/// Those of the jobs, and that the system has no more threads.
pub fn on_threads<J>(handle: &Handle, jobs: Vec<J>) -> io::Result<()>
where
    J: FnOnce() -> io::Result<()> + Send,
{
    let run = |job: J| {
        let stop = StopOthers(handle);
        let result = job();
        if result.is_ok() {
            std::mem::forget(stop);
        }
        result
    };
    let run = &run;
    std::thread::scope(|scope| {
        let mut jobs = jobs.into_iter();
        let first = jobs.next();
        let mut result = Ok(());
        let mut others = Vec::new();
        for job in jobs {
            match std::thread::Builder::new().spawn_scoped(scope, move || run(job)) {
                Ok(thread) => others.push(thread),
                Err(error) => {
                    handle.abort();
                    result = Err(error);
                    break;
                }
            }
        }
        if let Some(first) = first {
            result = result.and(run(first));
        }
        for thread in others {
            result = result.and(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        result
    })
}

/// Stops all when a job ends by an error or a panic.
struct StopOthers<'a>(&'a Handle);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Waker;

    use super::*;
    use crate::Control;

    /// Two runtimes that end when they are told to.
    fn two() -> (Handle, [Control; 2]) {
        let (handle, first) = Handle::new([], Waker::noop().clone());
        let second = first.another(Waker::noop().clone());
        (handle, [first, second])
    }

    #[expect(clippy::unnecessary_wraps, reason = "a job")]
    fn until_stopped(mut control: Control) -> io::Result<()> {
        while control.take().is_none() {
            std::thread::yield_now();
        }
        Ok(())
    }

    type Job = Box<dyn FnOnce() -> io::Result<()> + Send>;

    #[test]
    fn one_that_fails_stops_the_others() {
        for failing in [0, 1] {
            let (handle, [control, _]) = two();
            let mut jobs: Vec<Job> = vec![Box::new(|| until_stopped(control))];
            jobs.insert(failing, Box::new(|| Err(io::Error::other("no more"))));
            assert_eq!(on_threads(&handle, jobs).unwrap_err().to_string(), "no more");
        }
    }

    #[test]
    fn one_that_panics_stops_the_others() {
        let (handle, [control, _]) = two();
        let jobs: Vec<Job> = vec![Box::new(|| until_stopped(control)), Box::new(|| panic!("as it should"))];
        assert!(catch_unwind(AssertUnwindSafe(|| on_threads(&handle, jobs))).is_err());
    }

    #[test]
    fn those_that_end_well_stop_none() {
        let (handle, [mut control, _]) = two();
        on_threads(&handle, vec![|| Ok(()); 3]).unwrap();
        assert_eq!(control.take(), None);
    }
}
