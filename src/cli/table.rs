//! Lists for people: columns that stand under each other, times as ages, nothing that wraps.
//!
//! Invariant: on a terminal no line is wider than it; the last column is cut, or stands on a line of its own where there is little room for it. On a
//! pipe nothing is cut and every row is one line. Texts have to be harmless before they come here. It cannot fail.

use std::io::{IsTerminal, stdout};

use crate::cli::output::{styled, text};

/// Room below which the last column gets a line of its own.
const ROOM_MIN: usize = 24;
/// A terminal's width where it doesn't say.
const WIDTH: usize = 80;
/// The widest of the other columns.
const COLUMN_MAX: usize = 36;

/// A list in columns.
pub struct Table {
    heads: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one with these headings; the last column is the free text.
    pub fn new(heads: &'static [&'static str]) -> Table {
        Table { heads, rows: Vec::new() }
    }

    /// Adds a row. Line ends and tabs in it become blanks.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|c| c.replace(['\n', '\t'], " ")).collect());
    }

    /// Writes it, or `none` where it has no row.
    pub fn show(&self, none: &str) {
        if self.rows.is_empty() {
            return text(none);
        }
        let width = stdout().is_terminal().then(terminal_width);
        for (i, line) in lines(self.heads, &self.rows, width).into_iter().enumerate() {
            text(&if i == 0 { styled("2", &line) } else { line });
        }
    }
}

fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(stdout()).ok();
    size.map(|s| usize::from(s.ws_col)).filter(|w| *w >= 20).unwrap_or(WIDTH)
}

fn lines(heads: &[&str], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let last = heads.len().saturating_sub(1);
    let heads: Vec<String> = heads.iter().map(|h| h.to_string()).collect();
    let cell = |row: &Vec<String>, i: usize| row.get(i).cloned().unwrap_or_default();
    let all = || rows.iter().chain([&heads]);
    let most = if width.is_some() { COLUMN_MAX } else { usize::MAX };
    let widths: Vec<usize> = (0..last).map(|i| all().map(|r| columns(&cell(r, i))).max().unwrap_or(0).min(most)).collect();
    let before: usize = widths.iter().map(|w| w + 2).sum();
    let room = width.map(|w| w.saturating_sub(before));
    let widest = all().map(|r| columns(&cell(r, last))).max().unwrap_or(0);
    let apart = room.is_some_and(|room| room < ROOM_MIN && widest > room);
    let mut out = Vec::new();
    for (n, row) in [&heads].into_iter().chain(rows).enumerate() {
        let mut line = String::new();
        for (i, width) in widths.iter().enumerate() {
            let text = cut(&cell(row, i), *width);
            let pad = width.saturating_sub(columns(&text)) + 2;
            line.push_str(&text);
            line.push_str(&" ".repeat(pad));
        }
        let text = cell(row, last);
        match (apart, width) {
            (true, Some(width)) => {
                out.push(cut(line.trim_end(), width));
                if n > 0 && !text.is_empty() {
                    out.push(format!("    {}", cut(&text, width.saturating_sub(4))));
                }
            }
            (false, Some(_)) => out.push(format!("{line}{}", cut(&text, room.unwrap_or(0))).trim_end().to_string()),
            (_, None) => out.push(format!("{line}{text}").trim_end().to_string()),
        }
    }
    out
}

/// How many columns a text takes on a terminal: those of East Asia's scripts and pictures take two.
fn columns(text: &str) -> usize {
    text.chars().map(wide).sum()
}

fn wide(c: char) -> usize {
    let is_wide = matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f
        | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd);
    if is_wide { 2 } else { 1 }
}

/// At most that many columns of a text, with `…` where something is left out.
fn cut(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_string();
    }
    let mut taken = 0;
    let kept = text.chars().take_while(|c| {
        taken += wide(*c);
        taken < most
    });
    kept.collect::<String>() + "…"
}

/// How long ago (or, with `in `, how far ahead) something is: `now`, `5s`, `12m`, `3h`, `9d`; `-` where it is unknown.
pub fn age(at_ms: Option<i64>, now_ms: i64) -> String {
    let Some(at_ms) = at_ms else { return "-".into() };
    let (ahead, seconds) = (at_ms > now_ms, (now_ms - at_ms).unsigned_abs() / 1000);
    let told = match seconds {
        0 => return "now".into(),
        1..=99 => format!("{seconds}s"),
        100..=5_999 => format!("{}m", seconds / 60),
        6_000..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    };
    if ahead { format!("in {told}") } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_nothing_wraps() {
        let rows = vec![
            vec!["a".to_string(), "你好".into(), "a text that is long".into()],
            vec!["bcd".into(), "x".into(), String::new()],
        ];
        let shown = |width| lines(&["ID", "WHO", "TEXT"], &rows, width).join("\n");
        assert_eq!(shown(None), "ID   WHO   TEXT\na    你好  a text that is long\nbcd  x");
        assert_eq!(shown(Some(40)), shown(None));
        assert_eq!(shown(Some(20)), "ID   WHO\na    你好\n    a text that is …\nbcd  x");
        for width in 12..60 {
            assert!(lines(&["ID", "WHO", "TEXT"], &rows, Some(width)).iter().all(|l| columns(l) <= width), "{width}");
        }
    }

    #[test]
    fn ages() {
        for (at, expected) in [
            (Some(1_000_000_000), "now"),
            (Some(1_000_000_000 - 5_000), "5s"),
            (Some(1_000_000_000 - 3_600_000), "60m"),
            (Some(1_000_000_000 - 86_400_000), "24h"),
            (Some(0), "11d"),
            (Some(1_000_000_000 + 90_000), "in 90s"),
            (None, "-"),
        ] {
            assert_eq!(age(at, 1_000_000_000), expected);
        }
    }
}
