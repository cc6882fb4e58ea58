//! Plays seeds: one as a conversation, or many in parallel.

use std::fmt::{Display, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use keepwatch_sim::world::{self, Fault, Marks, Options, Outcome};

/// Plays the watch server in a world of faults, by seeds.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The seed to play.
    seed: Option<u64>,
    /// Print everything that happens in it.
    #[arg(long)]
    trace: bool,
    /// Faults that are not to happen in it, whatever it says.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// The only actors of it, by name.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The first of many seeds.
    #[arg(long, conflicts_with = "seed")]
    from: Option<u64>,
    /// How many.
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// Threads for many seeds: as many as there are processors if it is left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Stop after so many seeds that fail.
    #[arg(long, default_value_t = 3)]
    failures: usize,
    /// Print what happened, and how often, as tables of a document.
    #[arg(long)]
    table: bool,
    /// Do not look for less in which they fail, too.
    #[arg(long)]
    no_shrink: bool,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut without = Vec::new();
    for name in &arguments.without {
        match Fault::ALL.iter().find(|fault| fault.name() == name) {
            Some(fault) => without.push(*fault),
            None => {
                let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
                eprintln!("there is no fault {name}; there are {}", names.join(", "));
                return ExitCode::from(2);
            }
        }
    }
    let options = Options { without, only: arguments.only, trace: arguments.trace, ..Options::default() };
    match (arguments.seed, arguments.from) {
        (Some(seed), _) => {
            let outcome = world::run(&Options { seed, ..options });
            for line in &outcome.transcript {
                println!("{line}");
            }
            print_one(seed, &outcome);
            if outcome.failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        (None, Some(from)) => {
            let many = Many {
                from,
                count: arguments.count,
                threads: arguments.threads,
                failures: arguments.failures,
                shrink: !arguments.no_shrink,
                table: arguments.table,
            };
            many.play(&options)
        }
        (None, None) => {
            eprintln!("a seed is needed, or --from and --count");
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command")]
fn print_one(seed: u64, outcome: &Outcome) {
    let Outcome { hash, steps, changes, actors, .. } = outcome;
    println!("seed {seed}: {steps} steps, {changes} changes, trace {hash:016x}, {}", actors.join(", "));
    for (fault, count) in Fault::ALL.iter().zip(&outcome.faults).filter(|(_, count)| **count > 0) {
        println!("  {:<20}{count}", fault.name());
    }
    if let Some(failure) = &outcome.failure {
        println!("FAILED: {failure}");
    }
}

/// What many seeds came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    steps: u64,
    changes: u64,
    twice: u64,
    faults: Vec<u64>,
    marks: Marks,
    failures: Vec<(u64, String)>,
}

/// Each of so many seeds is played twice, and must come to the same.
const TWICE: u64 = 16;

/// Many seeds, and what is to be done with them.
struct Many {
    from: u64,
    count: u64,
    threads: Option<usize>,
    failures: usize,
    shrink: bool,
    table: bool,
}

impl Many {
    #[expect(clippy::print_stdout, reason = "a command")]
    #[expect(clippy::disallowed_methods, reason = "how long it takes is measured, and nothing depends on it")]
    fn play(&self, options: &Options) -> ExitCode {
        let started = std::time::Instant::now();
        let mut total = self.total(options);
        let elapsed = started.elapsed();
        self.print(&total);
        total.failures.sort();
        for (seed, failure) in &total.failures {
            println!("seed {seed}: {failure}");
            if !self.shrink {
                continue;
            }
            let smaller = world::shrink(&Options { seed: *seed, trace: false, ..options.clone() });
            let again = world::run(&smaller).failure.unwrap_or_default();
            println!("  smaller: {}\n  {again}", command(&smaller));
        }
        let mut failed = !total.failures.is_empty();
        if self.count >= 1000 && !failed && options.without.is_empty() && options.only.is_empty() {
            for missing in total.missing() {
                println!("{missing}");
                failed = true;
            }
        }
        let Total { seeds, steps, changes, twice, faults, failures, .. } = &total;
        let faults: u64 = faults.iter().sum();
        println!(
            "{seeds} seeds from {} ({twice} of them twice), {steps} steps, {changes} changes, {faults} faults of {} kinds, {} \
            failures; {:.1} s, {} seeds/s",
            self.from,
            Fault::ALL.len(),
            failures.len(),
            elapsed.as_secs_f64(),
            u128::from(*seeds) * 1000 / elapsed.as_millis().max(1),
        );
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    /// Plays them, on all threads.
    fn total(&self, options: &Options) -> Total {
        let threads =
            self.threads.or(std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
        let next = AtomicU64::new(self.from);
        let total = Mutex::new(Total { faults: vec![0; Fault::ALL.len()], ..Total::default() });
        let lock = || total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let is_over = seed >= self.from.saturating_add(self.count);
                        if is_over || lock().failures.len() >= self.failures {
                            return;
                        }
                        let options = Options { seed, trace: false, ..options.clone() };
                        let mut outcome = world::run(&options);
                        let twice = seed % TWICE == 0;
                        if twice && outcome.failure.is_none() && world::run(&options).hash != outcome.hash {
                            outcome.failure = Some("played again, it came to something else".into());
                        }
                        lock().add(seed, twice, outcome);
                    }
                });
            }
        });
        total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How often everything happened: in columns, or as tables in Markdown.
    #[expect(clippy::print_stdout, reason = "a command")]
    fn print(&self, total: &Total) {
        let title = |what: &str, times: &str| {
            self.row(what, &times);
            if self.table {
                println!("| --- | --- |");
            }
        };
        let row = |what: &str, times: &dyn Display| self.row(what, times);
        title("worlds", "how many");
        row("seeds", &total.seeds);
        row("seeds that were played twice", &total.twice);
        row("steps", &total.steps);
        row("changes", &total.changes);
        row("faults", &total.faults.iter().sum::<u64>());
        println!();
        title("fault", "times");
        for (fault, count) in Fault::ALL.iter().zip(&total.faults) {
            row(fault.name(), count);
        }
        println!();
        title("seen", "times");
        for (mark, count) in total.marks.all() {
            row(mark, &count);
        }
        println!();
        title("a connection is cut", "at so many of its first bytes");
        for (cut, count, of) in total.marks.cuts() {
            row(cut, &format_args!("{count} of {of}"));
        }
        println!();
    }

    #[expect(clippy::print_stdout, reason = "a command")]
    fn row(&self, what: &str, times: &dyn Display) {
        if self.table {
            println!("| {what} | {times} |");
        } else {
            println!("{what:<50}{times}");
        }
    }
}

fn command(options: &Options) -> String {
    let mut command = format!("keepwatch-sim {} --trace", options.seed);
    if !options.without.is_empty() {
        let names: Vec<_> = options.without.iter().map(|fault| fault.name()).collect();
        let _infallible = write!(command, " --without {}", names.join(","));
    }
    if !options.only.is_empty() {
        let _infallible = write!(command, " --only {}", options.only.join(","));
    }
    command
}

impl Total {
    /// What must have happened, and never did.
    fn missing(&self) -> Vec<String> {
        let never = Fault::ALL.iter().zip(&self.faults).filter(|(_, count)| **count == 0);
        let faults = never.map(|(fault, _)| format!("the fault {} never happened", fault.name()));
        faults.chain(self.marks.missing().map(|mark| format!("never seen: {mark}"))).collect()
    }

    fn add(&mut self, seed: u64, twice: bool, outcome: Outcome) {
        self.seeds += 1;
        self.twice += u64::from(twice);
        self.steps += outcome.steps;
        self.changes += outcome.changes;
        for (sum, count) in self.faults.iter_mut().zip(&outcome.faults) {
            *sum += count;
        }
        self.marks.add(&outcome.marks);
        self.failures.extend(outcome.failure.map(|failure| (seed, failure)));
    }
}
