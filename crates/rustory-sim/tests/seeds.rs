//! Many worlds, each with its own mixture of what can go wrong. `rr-sim` runs more of them.

use rustory_sim::{MemLog, run_seed};

#[test]
fn two_thousand_worlds_come_to_rest_with_everything_everywhere() {
    for seed in 0..2_000 {
        let outcome = run_seed::<MemLog>(seed, None);
        if let Some(violation) = outcome.violation {
            panic!("rr-sim --seed {seed}   {violation}");
        }
    }
}
