//! Deaths: at random, while it comes up, in short lives, by its own hand; and what stops without dying.
//!
//! Invariant: the harness kills only gateways that it started. Each row counts by the oracle.

use crate::power;
use crate::row::{Row, Trials};
use crate::support::gateway::Gateway;
use crate::support::model::Model;
use crate::support::oracle::{Load, World, settled};
use crate::support::pause;

const SENDERS: usize = 20;

/// The rows of this family.
pub fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "R1",
            fault: "killed at random moments under load",
            injection: "SIGKILL after 5 ms to 1.5 s, 20 senders",
            holds: "lost 0, doubled 0, order kept, database whole",
            trials: (25, 1000),
            run: Some(killed),
            tests: &["killed_again_and_again_nothing_is_lost_doubled_or_disordered"],
            lacks: "",
        },
        Row {
            id: "R3",
            fault: "killed while it recovers",
            injection: "SIGKILL, start, SIGKILL again after 0 to 60 ms, start",
            holds: "as R1; no message is given up for it",
            trials: (15, 300),
            run: Some(killed_recovering),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R39",
            fault: "brown-outs: each life is short",
            injection: "SIGKILL 20 to 250 ms after each start, under load",
            holds: "as R1; there is progress in most lives",
            trials: (25, 400),
            run: Some(brown_outs),
            tests: &["progress_is_made_however_short_the_lives_are"],
            lacks: "",
        },
    ]
}

/// Kills and starts again, `wanted` times, each life between `low` and `high` ms; `again` kills a second time during the start.
fn deaths(trials: &mut Trials, low: u64, high: u64, again: Option<u64>) {
    let (world, model) = (World::new(), Model::echo());
    let sink = world.sink();
    let mut gateway = Gateway::start(World::config(&model, &sink));
    let load = Load::begin(&world, gateway.port, SENDERS, 300);
    let mut progress = 0;
    for n in 0..trials.wanted {
        let before = sink.got().len();
        pause(trials.random.between(low, high));
        gateway.kill9();
        world.killed();
        if let Some(limit) = again {
            gateway.spawn();
            pause(trials.random.between(0, limit));
            gateway.kill9();
            world.killed();
        }
        progress += u64::from(sink.got().len() > before);
        trials.trial(&format!("start {n}"), |trials| {
            gateway.restart();
            trials.recovered(gateway.boot);
            Ok(())
        });
    }
    load.end();
    let counted = settled(&world, 20);
    if let Err(why) = counted.verdict() {
        trials.fail(&why);
    }
    if gateway.term().0 != 0 {
        trials.fail("it did not end in order");
    }
    if let Err(why) = power::integrity(&gateway.data.join("gatelet.db")) {
        trials.fail(&why);
    }
    trials.figure("kills", counted.deaths);
    trials.figure("accepted", counted.accepted);
    trials.figure("lost", counted.lost.len());
    trials.figure("doubled", counted.doubled.len());
    trials.figure("sends cut off and repeated under the same id", counted.cut_off);
    trials.figure("lives in which something was delivered", progress);
}

fn killed(trials: &mut Trials) {
    deaths(trials, 5, 1500, None);
}

fn killed_recovering(trials: &mut Trials) {
    deaths(trials, 50, 600, Some(60));
}

fn brown_outs(trials: &mut Trials) {
    deaths(trials, 20, 250, None);
}
