//! One seed, with everything that happens.

use sim::Run;

use crate::seeds::{make, plain};

#[test]
fn one_seed() {
    let Some(seed) = std::env::var("BLOCKYARD_SIM_SEED").ok() else {
        println!("set BLOCKYARD_SIM_SEED to make one run");
        return;
    };
    let seed = seed.parse().expect("BLOCKYARD_SIM_SEED is a number");
    let loud = std::env::var_os("BLOCKYARD_SIM_QUIET").is_none();
    let run = if std::env::var_os("BLOCKYARD_SIM_PLAIN").is_some() { plain(seed) } else { Run::of_seed(seed) };
    let report = make(Run { loud, ..run });
    println!("{report:?}");
    assert_eq!(report.failure, None);
}
