//! GET /health at 1, 16 and 64 keep-alive connections, beside a bare blocking responder and axum.

use std::time::Duration;

use super::Scenario;
use crate::Outcome;
use crate::baseline::Baseline;
use crate::gateway::{Gateway, Setting};
use crate::http;
use crate::load;
use crate::proc::look;
use crate::stats::Spread;
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "health",
    title: "GET /health",
    note: "One client thread drives all connections (epoll; blocking calls at 1 connection), each with one request outstanding; the three \
servers take turns. *Bare* is a thread per connection that searches the end of the head and writes a fixed answer; *axum* runs on tokio \
with 2 workers. The best round of each counts: at 1 connection a round is fast or slow by where the kernel puts the two \
processes. Processor time is the server's own, user and system.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (bare, axum) = (Baseline::start("serve-bare")?, Baseline::start("serve-axum")?);
    let gateway = Gateway::start(setting, &serde_json::json!({}))?;
    let servers = [(gateway.address, gateway.pid()), (bare.address, bare.pid()), (axum.address, axum.pid())];
    let (rounds, lasting) = setting.pick((2, Duration::from_millis(100)), (12, Duration::from_millis(500)));
    for connections in [1, 16, 64] {
        let (mut rates, mut costs) = (<[Vec<f64>; 3]>::default(), <[Vec<f64>; 3]>::default());
        for round in 0..rounds {
            for turn in 0..servers.len() {
                let at = (round + turn) % servers.len();
                let (address, pid) = servers[at];
                let before = look(pid)?.cpu;
                let loaded = load::run(address, connections, lasting, 200, |_, request| request.extend_from_slice(http::HEALTH))?;
                rates[at].push(loaded.rate());
                costs[at].push((look(pid)?.cpu - before) * 1e6 / loaded.served as f64);
            }
        }
        let [own, bare, axum] = &rates;
        let what = format!("{connections} connection{}", if connections == 1 { "" } else { "s" });
        let row = || Row::spread(what.clone(), "/s", Spread::best(own));
        let beside_axum = row().beside("axum", Spread::best(axum).mid, Spread::best_ratio(own, axum));
        let cost = Spread::ratio(&costs[0], &costs[2]).mid;
        let why = format!(
            "its processor time for a request is {cost:.2} of axum's, so what differs is waiting: how soon each server is woken, and where the \
             kernel puts it and the client"
        );
        let held = beside_axum.budget(Budget::RatioAtLeast(1.0));
        // Where it works more than the other, that is the reason, and another table's matter.
        table.add(SCENARIO.name, if cost <= 1.0 { held.because(why) } else { held });
        table.add(SCENARIO.name, row().beside("bare", Spread::best(bare).mid, Spread::best_ratio(own, bare)));
        let [own, _, axum] = &costs;
        let cost = Row::spread(format!("processor time, {what}"), "µs", Spread::of(own));
        table.add(SCENARIO.name, cost.beside("axum", Spread::of(axum).mid, Spread::ratio(own, axum)));
    }
    Ok(())
}
