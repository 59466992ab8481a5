//! Runs simulated worlds: one to look at, or many.

use std::process::ExitCode;
use std::time::Instant;

use rustory_sim::{MemLog, Outcome, StoreLog, run_seed};

const USAGE: &str = "\
usage: rr-sim [--real-store] --seed S [-v]
       rr-sim [--real-store] [--seed-from S] --seeds N";

#[derive(Debug, Default)]
struct Args {
    seed: Option<u64>,
    from: u64,
    seeds: u64,
    verbose: bool,
    real_store: bool,
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
            "--real-store" => args.real_store = true,
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
        Some(seed) => one(seed, &args),
        None => many(&args),
    }
}

fn one(seed: u64, args: &Args) -> ExitCode {
    let trace: Option<fn(&str)> = args.verbose.then_some(|line| println!("{line}"));
    let outcome = run(seed, args, trace);
    match tell(seed, args, &outcome) {
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

fn many(args: &Args) -> ExitCode {
    let (from, seeds) = (args.from, args.seeds);
    let began = Instant::now();
    let (mut failed, mut events, mut sessions) = (0u64, 0, 0);
    for seed in from..from + seeds {
        let outcome = run(seed, args, None);
        events += outcome.events;
        sessions += outcome.sessions;
        failed += u64::from(tell(seed, args, &outcome));
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

fn run(seed: u64, args: &Args, trace: Option<fn(&str)>) -> Outcome {
    match args.real_store {
        true => run_seed::<StoreLog>(seed, trace),
        false => run_seed::<MemLog>(seed, trace),
    }
}

/// Says which property a seed violates, and how to see it again.
fn tell(seed: u64, args: &Args, outcome: &Outcome) -> bool {
    if let Some(violation) = &outcome.violation {
        let store = if args.real_store { " --real-store" } else { "" };
        println!("rr-sim{store} --seed {seed}   {violation}");
    }
    outcome.violation.is_some()
}
