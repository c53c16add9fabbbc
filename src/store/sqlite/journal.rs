//! A turn's journal: what it did so far, as it is stored beside the message's state.
//!
//! Invariant: what a turn goes on from is never dropped; of the rest (started, retried, interrupted, stopped) the latest
//! [`NOTES_KEPT`] lines stay. Data that a turn goes on from is never shown. Fails with `Conflict` where a turn records more than
//! [`STEPS_MAX`] steps.

use crate::base::error::shorten;
use crate::domain::{Step, StepKind, TimelineEntry};
use crate::store::sqlite::sql::{Ran, Sql, conflict};

/// Most lines that tell only what happened to the turn; the oldest go.
const NOTES_KEPT: usize = 64;
/// Most lines that a turn goes on from.
const STEPS_MAX: usize = 1_000;
/// Longest detail.
const DETAIL_BYTES: usize = 200;
/// Longest data that stands in the line itself: for a call's id a row of its own would cost a page more.
const INLINE_BYTES: usize = 64;

/// One line a step: `<kind's letter><ms> <data> <detail>`, where data is `-` (none), the number of its row in `steps`, or
/// `=<bytes>`, and then stands before the detail. One text in a row that changes anyway costs no further page.
#[derive(Debug, Default)]
pub(super) struct Journal(String);

const LETTERS: [(char, StepKind); 8] = [
    ('s', StepKind::Started),
    ('r', StepKind::Retried),
    ('i', StepKind::Interrupted),
    ('x', StepKind::Stopped),
    ('t', StepKind::Asked),
    ('c', StepKind::Called),
    ('o', StepKind::Result),
    ('p', StepKind::Parked),
];

enum Data<'a> {
    None,
    Row(i64),
    Here(&'a str),
}

struct Line<'a> {
    kind: StepKind,
    at_ms: i64,
    data: Data<'a>,
    detail: &'a str,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut letters = line.chars();
        let letter = letters.next()?;
        let (_, kind) = LETTERS.iter().find(|(l, _)| *l == letter)?;
        let mut fields = letters.as_str().splitn(3, ' ');
        let at_ms = fields.next()?.parse().ok()?;
        let (data, rest) = (fields.next()?, fields.next().unwrap_or_default());
        let (data, detail) = match data.strip_prefix('=') {
            Some(bytes) => {
                let (here, detail) = rest.split_at_checked(bytes.parse().ok()?)?;
                (Data::Here(here), detail)
            }
            None => (data.parse().map_or(Data::None, Data::Row), rest),
        };
        Some(Line { kind: *kind, at_ms, data, detail })
    }

    /// Whether a turn goes on without it.
    fn is_note(&self) -> bool {
        is_note(self.kind) && matches!(self.data, Data::None)
    }
}

fn is_note(kind: StepKind) -> bool {
    matches!(kind, StepKind::Started | StepKind::Retried | StepKind::Interrupted | StepKind::Stopped)
}

impl Journal {
    /// The journal of that text.
    pub(super) fn new(text: String) -> Self {
        Journal(text)
    }

    /// As it is stored.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// As it is stored of a turn that will not go on: without data.
    pub(super) fn into_ended(self) -> String {
        if !self.0.contains(" =") {
            return self.0;
        }
        let mut bare = Journal::default();
        self.lines().for_each(|line| bare.push(line.kind, line.at_ms, "-", line.detail));
        bare.0
    }

    /// Whether the turn ever waited for a decision.
    pub(super) fn was_parked(&self) -> bool {
        self.lines().any(|line| line.kind == StepKind::Parked)
    }

    /// Why the turn was to be stopped, where that was asked for since it was last started.
    pub(super) fn stop(&self) -> Option<&str> {
        self.lines().fold(None, |stop, line| match line.kind {
            StepKind::Started => None,
            StepKind::Stopped => Some(line.detail),
            _ => stop,
        })
    }

    /// Whether the turn took a step that it goes on from.
    pub(super) fn has_steps(&self) -> bool {
        self.lines().any(|line| !line.is_note())
    }

    /// Notes what happened to the turn.
    pub(super) fn note(&mut self, kind: StepKind, at_ms: i64, detail: &str) {
        while self.lines().filter(Line::is_note).count() >= NOTES_KEPT {
            self.drop_oldest_note();
        }
        self.push(kind, at_ms, "-", &fitting(detail));
    }

    fn drop_oldest_note(&mut self) {
        let mut dropped = false;
        let kept = self.0.split_inclusive('\n').filter(|line| {
            let drops = !dropped && Line::read(line.trim_end_matches('\n')).is_some_and(|line| line.is_note());
            dropped |= drops;
            !drops
        });
        self.0 = kept.collect();
    }

    /// Adds a step of the turn of message `seq`.
    pub(super) fn record(&mut self, sql: &Sql<'_>, seq: i64, step: &Step) -> Ran<()> {
        if is_note(step.kind) && step.data.is_empty() {
            self.note(step.kind, step.at_ms, &step.detail);
            return Ok(());
        }
        if self.lines().filter(|line| !line.is_note()).count() >= STEPS_MAX {
            return conflict(format!("the turn has taken {STEPS_MAX} steps"));
        }
        let (data, detail) = (step.data.as_str(), fitting(&step.detail));
        if data.is_empty() {
            self.push(step.kind, step.at_ms, "-", &detail);
        } else if data.len() <= INLINE_BYTES && !data.contains(['\n', '\r']) {
            self.push(step.kind, step.at_ms, &format!("={}", data.len()), &format!("{data}{detail}"));
        } else {
            let n = sql.insert("INSERT INTO steps (seq, detail) VALUES (?1, ?2)", (seq, data))?;
            self.push(step.kind, step.at_ms, &n.to_string(), &detail);
        }
        Ok(())
    }

    fn push(&mut self, kind: StepKind, at_ms: i64, data: &str, rest: &str) {
        let letter = LETTERS.iter().find(|(_, k)| *k == kind).map_or('s', |(letter, _)| *letter);
        self.0.push_str(&format!("{letter}{at_ms} {data} {rest}\n"));
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.0.split_terminator('\n').filter_map(Line::read)
    }

    /// As people read it.
    pub(super) fn timeline(&self) -> impl Iterator<Item = TimelineEntry> {
        self.lines().map(|line| TimelineEntry { at_ms: line.at_ms, event: line.kind.as_str().into(), detail: line.detail.into() })
    }

    /// As a turn goes on from it.
    pub(super) fn steps(&self, sql: &Sql<'_>) -> Ran<Vec<Step>> {
        let read = |line: Line<'_>| {
            let data = match line.data {
                Data::None => String::new(),
                Data::Here(data) => data.to_string(),
                Data::Row(n) => sql.one("SELECT detail FROM steps WHERE n = ?1", [n], |row| row.get(0))?.unwrap_or_default(),
            };
            Ok(Step { kind: line.kind, detail: line.detail.to_string(), data, at_ms: line.at_ms })
        };
        self.lines().map(read).collect()
    }
}

fn fitting(detail: &str) -> String {
    shorten(detail, DETAIL_BYTES).replace(['\n', '\r'], " ")
}
