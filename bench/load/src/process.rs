//! What a process spends, as the kernel tells it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Fault;

/// Processor time up to now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// All of it, in seconds: what the scheduler counted, in nanoseconds (`/proc/PID/task/*/schedstat`).
    pub all: f64,
    /// The share of it outside the kernel. The kernel looks at each tick where a process is, 250 times a second on Debian, so
    /// this is a sample (`/proc/PID/stat`): right to a few hundredths after some seconds.
    pub user: f64,
}

impl Cpu {
    /// That of this process up to now.
    ///
    /// # Errors
    ///
    /// There is no such process, or no `/proc`.
    pub fn of(pid: u32) -> Result<Self, Fault> {
        let mut nanoseconds = 0_u64;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let stat = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += stat.split_whitespace().next().ok_or("there is no schedstat")?.parse::<u64>()?;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name of the program, in brackets, may have spaces in it.
        let user = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(11));
        let user = user.ok_or("/proc/PID/stat is of another shape")?;
        Ok(Self { all: nanoseconds as f64 / 1e9, user: user.parse::<f64>()? / TICKS })
    }

    /// What was spent from `before` to this.
    pub fn since(self, before: Self) -> Self {
        Self { all: self.all - before.all, user: self.user - before.user }
    }
}

/// `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux that Debian has.
const TICKS: f64 = 100.0;

/// Resident memory, in bytes.
///
/// # Errors
///
/// There is no such process, or it is another user's.
pub fn resident(pid: u32) -> Result<u64, Fault> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).ok_or("there is no Rss")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Counts the system calls of a process, of all its threads, by `perf stat` on the tracepoint of their entry.
#[derive(Debug)]
pub struct Calls {
    perf: Child,
    said: PathBuf,
}

impl Calls {
    /// Begins to count. It takes a moment until perf is there.
    ///
    /// # Errors
    ///
    /// There is no perf.
    pub fn begin(pid: u32) -> Result<Self, Fault> {
        let said = std::env::temp_dir().join(format!("load-{}-calls", std::process::id()));
        let perf = Command::new("perf")
            .args(["stat", "-x", ";", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string(), "-o"])
            .arg(&said)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self { perf, said })
    }

    /// How many there were. `None` if perf may not count them here.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    pub fn end(mut self) -> Result<Option<u64>, Fault> {
        // It says what it counted when it is interrupted.
        Command::new("kill").args(["-INT", &self.perf.id().to_string()]).status()?;
        self.perf.wait()?;
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        let _gone = fs::remove_file(&self.said);
        let line = said.lines().find(|line| line.contains("raw_syscalls:sys_enter"));
        Ok(line.and_then(|line| line.split(';').next()?.parse().ok()))
    }
}
