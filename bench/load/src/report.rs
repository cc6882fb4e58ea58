//! Figures as a line of JSON, for other programs, and as a few lines of text, for people.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::options::{Keys, Options};
use crate::process::Cpu;

/// All that one run says.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked for.
    pub options: Options,
    /// What held connections take.
    pub memory: Option<Memory>,
    /// What was measured.
    pub window: Window,
    /// System calls per delivery.
    pub calls: Option<f64>,
    /// Microseconds to each delivery.
    pub delays: Histogram<u64>,
    /// Microseconds to each PUT's answer.
    pub answers: Histogram<u64>,
    /// The same, of the PUTs that nobody waited for.
    pub probes: Option<Histogram<u64>>,
}

/// Resident memory of the server, in bytes, before so many connections were held and with them.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// How many.
    pub connections: u32,
    /// Before.
    pub before: u64,
    /// With them.
    pub after: u64,
}

/// What was measured while so many changes were published.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Changes.
    pub changes: u32,
    /// Changes times those who got them.
    pub deliveries: u64,
    /// From the first PUT to the last delivery.
    pub seconds: f64,
    /// Processor time of the server.
    pub server: Option<Cpu>,
    /// Processor time of the load: what was busy all the time is a limit of the figures.
    pub load: Cpu,
}

impl Report {
    /// As JSON. Times are in microseconds.
    pub fn json(&self) -> Value {
        let (options, window) = (&self.options, &self.window);
        let each = |cpu: f64| round(cpu * 1e6 / window.deliveries.max(1) as f64);
        json!({
            "transport": options.transport.to_string(),
            "subscribers": options.subscribers,
            "keys": if options.keys == Keys::Shared { "shared" } else { "distinct" },
            "burst": options.burst,
            "writers": options.writers,
            "rate": options.rate,
            "value_bytes": options.value,
            "changes": window.changes,
            "deliveries": window.deliveries,
            "seconds": round(window.seconds),
            "deliveries_per_second": (window.deliveries as f64 / window.seconds).round(),
            "cpu_us": window.server.map(|cpu| each(cpu.all)),
            "user_us": window.server.map(|cpu| each(cpu.user)),
            "load_cpu_us": each(window.load.all),
            "load_busy": round(window.load.all / window.seconds),
            "calls": self.calls.map(round),
            "bytes_held": self.memory.filter(|memory| memory.connections > 0)
                .map(|memory| ((memory.after as f64 - memory.before as f64) / f64::from(memory.connections)).round()),
            "resident": self.memory.map(|memory| memory.after),
            "delay_us": quantiles(&self.delays),
            "answer_us": quantiles(&self.answers),
            "probe_us": self.probes.as_ref().map(quantiles),
        })
    }
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    json!({
        "p50": histogram.value_at_quantile(0.5),
        "p99": histogram.value_at_quantile(0.99),
        "p99.9": histogram.value_at_quantile(0.999),
        "max": histogram.max(),
        "count": histogram.len(),
    })
}

fn round(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}
