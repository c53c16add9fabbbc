//! The figures, and the three forms in which they are shown.
//!
//! Invariant: a figure that could not be measured is shown as missing with its reason, never left out; a budget that is missed says so.

use serde_json::{Value, json};

use crate::chart::Chart;
use crate::machine::Machine;
use crate::scenario;
use crate::stats::Spread;

/// What a figure is held to.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// The ratio to what stands beside it.
    RatioAtLeast(f64),
    /// Likewise.
    RatioAtMost(f64),
    /// The figure itself.
    AtMost(f64),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    what: String,
    unit: &'static str,
    value: Spread,
    beside: Option<(String, f64)>,
    ratio: Option<Spread>,
    budget: Option<Budget>,
    why: Option<String>,
}

impl Row {
    /// A figure of several rounds.
    pub fn spread(what: impl Into<String>, unit: &'static str, value: Spread) -> Row {
        Row { what: what.into(), unit, value, beside: None, ratio: None, budget: None, why: None }
    }

    /// A figure of one measurement.
    pub fn one(what: impl Into<String>, unit: &'static str, value: f64) -> Row {
        Row::spread(what, unit, Spread { mid: value, low: value, high: value })
    }

    /// What was measured beside it in the same run, in the same unit, and the ratio to it.
    pub fn beside(mut self, name: impl Into<String>, value: f64, ratio: Spread) -> Row {
        self.beside = Some((name.into(), value));
        self.ratio = Some(ratio);
        self
    }

    /// What it is held to.
    pub fn budget(mut self, budget: Budget) -> Row {
        self.budget = Some(budget);
        self
    }

    /// Why it is missed, shown where it is.
    pub fn because(mut self, why: impl Into<String>) -> Row {
        self.why = Some(why.into());
        self
    }

    fn met(&self) -> Option<bool> {
        let ratio = self.ratio.map_or(f64::NAN, |r| r.mid);
        self.budget.map(|budget| match budget {
            Budget::RatioAtLeast(bound) => ratio >= bound,
            Budget::RatioAtMost(bound) => ratio <= bound,
            Budget::AtMost(bound) => self.value.mid <= bound,
        })
    }

    fn cells(&self) -> [String; 6] {
        let bound = |budget| match budget {
            Budget::RatioAtLeast(bound) => format!("ratio ≥ {bound}"),
            Budget::RatioAtMost(bound) => format!("ratio ≤ {bound}"),
            Budget::AtMost(bound) => format!("≤ {} {}", figure(bound), self.unit),
        };
        [
            self.what.clone(),
            format!("{} {}", ranged(self.value, figure), self.unit),
            self.beside.as_ref().map(|(name, value)| format!("{name} {}", figure(*value))).unwrap_or_default(),
            self.ratio.map(|ratio| ranged(ratio, |n| format!("{n:.2}"))).unwrap_or_default(),
            self.budget.map(bound).unwrap_or_default(),
            self.met().map(|met| if met { "met" } else { "MISSED" }).unwrap_or_default().to_string(),
        ]
    }
}

const HEADINGS: [&str; 6] = ["what", "gatelet", "beside it", "ratio", "budget", ""];

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(&'static str, Row)>,
    failures: Vec<(&'static str, String)>,
    plots: Vec<(&'static str, Chart)>,
}

impl Table {
    /// Adds a figure of a part.
    pub fn add(&mut self, part: &'static str, row: Row) {
        self.rows.push((part, row));
    }

    /// Notes that a part could not be measured to its end.
    pub fn failed(&mut self, part: &'static str, why: &str) {
        self.failures.push((part, why.to_string()));
    }

    /// Adds a plot to a part.
    pub fn plot(&mut self, part: &'static str, chart: Chart) {
        self.plots.push((part, chart));
    }

    /// The plots that can be drawn: the names of their files, and what is in them.
    pub fn images(&self) -> Vec<(String, String)> {
        self.plots.iter().filter_map(|(_, chart)| Some((image(chart), chart.svg()?))).collect()
    }

    /// Whether all parts were measured to their end.
    pub fn is_whole(&self) -> bool {
        self.failures.is_empty()
    }

    /// For each budget that was missed and has a reason: what, and why.
    fn reasons(&self, part: &str) -> Vec<String> {
        let missed = self.rows.iter().filter(|(of, row)| *of == part && row.met() == Some(false));
        missed.filter_map(|(_, row)| Some(format!("*{}* missed: {}", row.what, row.why.as_ref()?))).collect()
    }

    fn of(&self, part: &str) -> Vec<[String; 6]> {
        self.rows.iter().filter(|(of, _)| *of == part).map(|(_, row)| row.cells()).collect()
    }

    fn failure(&self, part: &str) -> Option<String> {
        self.failures.iter().find(|(of, _)| *of == part).map(|(_, why)| format!("Not measured to the end: {why}"))
    }

    /// For a terminal.
    pub fn text(&self, machine: &Machine) -> String {
        let mut out = format!("{}\n", machine.line());
        let parts: Vec<_> = scenario::ALL.iter().map(|s| (s, self.of(s.name))).collect();
        let all = parts.iter().flat_map(|(_, rows)| rows);
        let mut widths = HEADINGS.map(|h| h.chars().count());
        for row in all {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for (part, rows) in parts {
            let failure = self.failure(part.name);
            if rows.is_empty() && failure.is_none() {
                continue;
            }
            out.push_str(&format!("\n{}\n", part.title));
            for row in rows {
                let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
                out.push_str(&format!("  {}\n", line.join("  ").trim_end()));
            }
            if let Some(why) = failure {
                out.push_str(&format!("  {why}\n"));
            }
        }
        out
    }

    /// `docs/PERFORMANCE.md`; `command` is what reproduces it, of `binary`, `only` are the parts that were asked for, all where it is empty.
    pub fn markdown(&self, machine: &Machine, command: &str, binary: &str, only: &[String]) -> String {
        let introduction = INTRODUCTION.replace("COMMAND", command).replace("BINARY", binary);
        let mut out = format!("# Performance\n\n{introduction}\n\nMeasured on {}.\n", machine.line());
        if !only.is_empty() {
            out.push_str(&format!("\n**This is no whole run**: it was asked for these parts alone: {}.\n", only.join(", ")));
        }
        for part in scenario::ALL {
            let (rows, failure) = (self.of(part.name), self.failure(part.name));
            if rows.is_empty() && failure.is_none() {
                continue;
            }
            out.push_str(&format!("\n## {}\n\n{}\n\n", part.title, part.note));
            if !rows.is_empty() {
                out.push_str(&format!("| {} |\n|{}\n", HEADINGS.join(" | "), "---|".repeat(HEADINGS.len())));
            }
            for row in rows {
                out.push_str(&format!("| {} |\n", row.join(" | ")));
            }
            for why in self.reasons(part.name).into_iter().chain(failure) {
                out.push_str(&format!("\n{why}\n"));
            }
            for (_, chart) in self.plots.iter().filter(|(of, chart)| *of == part.name && chart.svg().is_some()) {
                out.push_str(&format!("\n![{}]({IMAGES}/{})\n", chart.title, image(chart)));
            }
        }
        out
    }

    /// For programs.
    pub fn json(&self, machine: &Machine) -> String {
        let spread = |s: Spread| json!({"mid": s.mid, "low": s.low, "high": s.high});
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(part, row)| {
                let budget = row.budget.map(|budget| match budget {
                    Budget::RatioAtLeast(bound) => json!({"ratioAtLeast": bound}),
                    Budget::RatioAtMost(bound) => json!({"ratioAtMost": bound}),
                    Budget::AtMost(bound) => json!({"atMost": bound}),
                });
                let beside = row.beside.as_ref().map(|(name, value)| json!({"name": name, "value": value}));
                json!({"part": part, "what": row.what, "unit": row.unit, "value": spread(row.value), "beside": beside,
                    "ratio": row.ratio.map(spread), "budget": budget, "met": row.met()})
            })
            .collect();
        let failures: Vec<Value> = self.failures.iter().map(|(part, why)| json!({"part": part, "why": why})).collect();
        json!({"machine": machine, "figures": rows, "failures": failures}).to_string()
    }
}

/// Where the plots are, as seen from the document.
pub const IMAGES: &str = "images";

/// The name of a plot's file.
fn image(chart: &Chart) -> String {
    format!("performance-{}.svg", chart.file)
}

const INTRODUCTION: &str = "\
All of this page, plots included, is written by one command in one run, of the commit that is named below; don't edit it by hand:

    COMMAND

The gateway is BINARY in a process of its own, asked over its public contract. What is compared takes turns within one
run, round by round; a ratio is the median of the rounds' ratios, and what stands in brackets is the lowest and the highest round.
**Read the ratios, not the absolute figures**: those belong to the machine named below, and to how busy it was. *Beside it* is what
was measured in the same run on the same machine, *budget* what the project holds itself to; a budget that is missed says so. The
settings of all runs: a token, the rate limit switched off, the log's default level with its output thrown away; where a part needs
more, its paragraph says it.";

/// A number with about three significant digits.
fn figure(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".to_string(),
        a if a >= 1000.0 => {
            let digits = format!("{value:.0}");
            let (mut out, first) = (String::new(), digits.len() % 3);
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && at % 3 == first {
                    out.push(' ');
                }
                out.push(digit);
            }
            out
        }
        a if a >= 100.0 => format!("{value:.0}"),
        a if a >= 10.0 => format!("{value:.1}"),
        a if a > 0.0 => format!("{value:.2}"),
        _ => "0".to_string(),
    }
}

/// The middle, and the lowest and highest in brackets where there were several rounds.
fn ranged(spread: Spread, show: impl Fn(f64) -> String) -> String {
    if spread.low == spread.high || spread.mid.is_nan() {
        return show(spread.mid);
    }
    format!("{} ({} to {})", show(spread.mid), show(spread.low), show(spread.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (1_234_567.0, "1 234 567"),
            (1000.0, "1 000"),
            (431.6, "432"),
            (43.16, "43.2"),
            (0.5, "0.50"),
            (0.0, "0"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(figure(value), expected);
        }
    }

    #[test]
    fn budgets_look_at_the_ratio_or_the_figure() {
        let ratio = Spread { mid: 0.9, low: 0.8, high: 1.0 };
        let row = Row::one("x", "ms", 2.0).beside("y", 1.0, ratio);
        for (budget, met) in [
            (Budget::RatioAtLeast(0.8), true),
            (Budget::RatioAtLeast(1.0), false),
            (Budget::AtMost(2.0), true),
            (Budget::AtMost(1.9), false),
        ] {
            assert_eq!(row.clone().budget(budget).met(), Some(met));
        }
        assert_eq!(Row::one("x", "ms", 2.0).budget(Budget::RatioAtLeast(0.0)).met(), Some(false), "nothing beside it");
    }
}
