//! Server processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::Client;
use super::watcher::{Transport, Watch, Watcher};
use crate::BINARY;

/// How long anything may take before a test fails instead of waiting for ever. It is long, as what runs may be looked at by a
/// sanitizer, on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server. Dropped, it is killed; it must not have ended by itself until then.
pub(crate) struct Process {
    child: Child,
    addresses: Vec<SocketAddr>,
    killed: bool,
}

impl Process {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With further arguments; an address to listen on is one more.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Self::run(command, 1 + arguments.iter().filter(|argument| **argument == "--listen").count())
    }

    /// One that another program runs: the first of these words, with the others as its arguments. None: it runs by itself.
    pub(crate) fn under(program: &[String]) -> Self {
        let mut words = program.iter().map(String::as_str).chain([BINARY, "--listen", "127.0.0.1:0"]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        Self::run(command, 1)
    }

    /// One that may have so many open files, sockets included.
    pub(crate) fn with_descriptors(most: u32) -> Self {
        let mut command = Command::new("sh");
        let limit = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
        command.args(["-c", &limit, BINARY, "--listen", "127.0.0.1:0"]);
        Self::run(command, 1)
    }

    /// Runs one that is to listen on so many addresses.
    fn run(mut command: Command, expected: usize) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (said, ready) = mpsc::channel();
        spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        let mut process = Self { child, addresses: Vec::new(), killed: false };
        for _ in 0..expected {
            // One that is looked at takes long to start.
            let line = ready.recv_timeout(5 * PATIENCE).expect("a ready line");
            process.addresses.push(line.strip_prefix("listening on http://").unwrap().parse().unwrap());
        }
        process
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn connect(&self) -> Client {
        self.connect_to(0)
    }

    /// Connects to one of several addresses.
    pub(crate) fn connect_to(&self, index: usize) -> Client {
        let address = self.addresses[index];
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client::new(stream, address)
    }

    /// Whether it takes new connections.
    pub(crate) fn accepts(&self) -> bool {
        TcpStream::connect(self.address()).is_ok()
    }

    /// A watch that is on when this returns.
    pub(crate) fn watch(&self, transport: Transport, watch: &Watch<'_>) -> Watcher {
        Watcher::open(self.connect(), transport, watch)
    }

    pub(crate) fn send_signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// Ends it where it is: SIGKILL.
    pub(crate) fn kill(mut self) {
        self.killed = true;
        self.child.kill().unwrap();
    }

    /// The most memory that it had at any time, in bytes.
    pub(crate) fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        most.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// The time that processors have worked for it so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = stat(self.child.id());
        // Behind the state: utime and stime are the fields 14 and 15 of that file, in ticks of 10 ms.
        let ticks: u64 = stat[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// How many files and sockets it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Waits until the server has ended by itself.
    pub(crate) fn exit_status(mut self) -> ExitStatus {
        exit_status(&mut self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.try_wait().unwrap();
        let _gone = self.child.kill();
        let _status = self.child.wait();
        if let (Some(status), false) = (ended, thread::panicking() || self.killed) {
            // A status that nobody asked for, that is.
            assert!(status.success() || status.code() == Some(128 + 15), "the server failed: {status}");
        }
    }
}

fn exit_status(child: &mut Child) -> ExitStatus {
    // There is no wait with a timeout in the standard library.
    for _ in 0..PATIENCE.as_millis() / 10 {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        pause(Duration::from_millis(10));
    }
    let _gone = child.kill();
    panic!("the process does not end: {:?}", child.wait());
}

/// What a run of the binary that ends by itself says.
pub(crate) fn output(arguments: &[&str]) -> Output {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    exit_status(&mut child);
    child.wait_with_output().unwrap()
}

pub(crate) fn signal(name: &str, process: u32) {
    let kill = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &process.to_string()]).status();
    assert!(kill.unwrap().success());
}

/// What Linux says of a process in `/proc/PID/stat`: its state, and what follows that.
pub(crate) fn stat(process: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, behind_name) = stat.rsplit_once(") ").unwrap();
    behind_name.split(' ').map(str::to_owned).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test has several clients at once")]
pub(crate) fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(body)
}

#[expect(clippy::disallowed_methods, reason = "a client is slow, or looks again")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}
