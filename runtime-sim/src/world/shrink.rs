//! A seed that failed, with less in it.

use super::{Fault, Options, run};

/// Leaves out one kind of fault and one actor after the other, as long as something still fails. What fails may be another
/// thing in the end.
pub fn shrink(options: &Options) -> Options {
    let mut best = Options { trace: false, ..options.clone() };
    let outcome = run(&best);
    if outcome.failure.is_none() {
        return best;
    }
    for (fault, count) in Fault::ALL.iter().zip(&outcome.faults) {
        if *count > 0 {
            let mut fewer = best.clone();
            fewer.without.push(*fault);
            keep_if_it_fails(&mut best, fewer);
        }
    }
    for name in &outcome.actors {
        let all = if best.only.is_empty() { &outcome.actors } else { &best.only };
        let only: Vec<String> = all.iter().filter(|other| *other != name).cloned().collect();
        if !only.is_empty() {
            let fewer = Options { only, ..best.clone() };
            keep_if_it_fails(&mut best, fewer);
        }
    }
    best
}

fn keep_if_it_fails(best: &mut Options, fewer: Options) {
    if run(&fewer).failure.is_some() {
        *best = fewer;
    }
}
