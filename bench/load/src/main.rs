//! `load --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use keepwatch_load::check::Checker;
use keepwatch_load::options::Options;
use keepwatch_load::run::run;
use keepwatch_load::subscriber::Subscriber;

fn main() -> ExitCode {
    let options = Options::parse();
    let report = if options.check { run::<Checker>(&options) } else { run::<Subscriber>(&options) };
    match report {
        Ok(report) => {
            println!("{}", report.json());
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("load: {fault}");
            ExitCode::FAILURE
        }
    }
}
