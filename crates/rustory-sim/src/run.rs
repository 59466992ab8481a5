//! One seed, from its weather to its verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::log::DeviceLog;
use crate::rng::Rng;
use crate::weather::Weather;
use crate::world::{Violation, World};

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// `None`: everything that must hold held.
    pub violation: Option<Violation>,
    /// How many events there were.
    pub events: u64,
    /// How many sessions.
    pub sessions: u64,
}

/// Runs the world that follows from a seed. `trace` is told everything that happens.
pub fn run_seed<L: DeviceLog>(seed: u64, trace: Option<fn(&str)>) -> Outcome {
    let weather = Weather::draw(&mut Rng::new(seed));
    let mut world = World::<L>::new(weather, seed);
    world.trace = trace;
    let run = catch_unwind(AssertUnwindSafe(|| world.run_to_the_end()));
    let violation = match run {
        Ok(result) => result.err(),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Violation {
                property: "no panic",
                details: text.unwrap_or_default(),
            })
        }
    };
    Outcome {
        violation,
        events: world.events(),
        sessions: world.sessions(),
    }
}
