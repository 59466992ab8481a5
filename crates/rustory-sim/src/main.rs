//! Runs simulated worlds: one to look at, or many.

use std::process::ExitCode;
use std::time::Instant;

use rustory_sim::{MemLog, Outcome, run_seed};

const USAGE: &str = "\
usage: rr-sim --seed S [-v]
       rr-sim [--seed-from S] --seeds N";

#[derive(Debug, Default)]
struct Args {
    seed: Option<u64>,
    from: u64,
    seeds: u64,
    verbose: bool,
}

fn parse() -> Option<Args> {
    let mut args = Args::default();
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        match arg.as_str() {
            "--seed" => args.seed = Some(given.next()?.parse().ok()?),
            "--seed-from" => args.from = given.next()?.parse().ok()?,
            "--seeds" => args.seeds = given.next()?.parse().ok()?,
            "-v" => args.verbose = true,
            _ => return None,
        }
    }
    (args.seed.is_some() || args.seeds > 0).then_some(args)
}

fn main() -> ExitCode {
    let Some(args) = parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // The oracle tells of panics, with the seed.
    let verbose = args.verbose;
    std::panic::set_hook(Box::new(move |info| {
        if verbose {
            eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
        }
    }));
    match args.seed {
        Some(seed) => one(seed, args.verbose),
        None => many(args.from, args.seeds),
    }
}

fn one(seed: u64, verbose: bool) -> ExitCode {
    let outcome = run(seed, verbose.then_some(|line: &str| println!("{line}")));
    match tell(seed, &outcome) {
        true => ExitCode::FAILURE,
        false => {
            println!(
                "{} events, {} sessions: all is well",
                outcome.events, outcome.sessions
            );
            ExitCode::SUCCESS
        }
    }
}

fn many(from: u64, seeds: u64) -> ExitCode {
    let began = Instant::now();
    let (mut failed, mut events, mut sessions) = (0u64, 0, 0);
    for seed in from..from + seeds {
        let outcome = run(seed, None);
        events += outcome.events;
        sessions += outcome.sessions;
        failed += u64::from(tell(seed, &outcome));
    }
    let took = began.elapsed();
    println!(
        "{seeds} seeds, {failed} failed; {sessions} sessions, {events} events; {:.1} s, {:.2} ms a seed",
        took.as_secs_f64(),
        took.as_secs_f64() * 1_000.0 / seeds.max(1) as f64,
    );
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn run(seed: u64, trace: Option<fn(&str)>) -> Outcome {
    run_seed::<MemLog>(seed, trace)
}

/// Says which property a seed violates, and how to see it again.
fn tell(seed: u64, outcome: &Outcome) -> bool {
    if let Some(violation) = &outcome.violation {
        println!("rr-sim --seed {seed}   {violation}");
    }
    outcome.violation.is_some()
}
