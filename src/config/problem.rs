//! What is wrong with a configuration: a path and a sentence with what was found, what was expected and what to do.
//!
//! Invariant: a sentence never holds a secret's value; a list of problems is bounded, and says how many it left out.

use std::fmt;

use serde::Serialize;

use crate::base::error::shorten;

/// Problems that are listed one by one; the rest is counted.
const PROBLEMS_MAX: usize = 100;
/// Bytes of a name as it stands in a path.
const NAME_BYTES_SHOWN: usize = 64;

/// One thing that is wrong. It reads `$.a.b: message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: `$.gateway.listen`, `$.bindings[0].agent`, `$.channels["a b"]`; `$` is the whole document.
    pub path: String,
    /// What was found, what was expected, and what to do, in one sentence without a final stop.
    pub message: String,
}

impl Problem {
    /// A problem at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    left_out: usize,
}

impl Problems {
    /// Adds one.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(Problem::new(path, message));
        } else {
            self.left_out += 1;
        }
    }

    /// Whether one of them stands at `path`, above it or below it.
    pub fn touch(&self, path: &str) -> bool {
        self.list.iter().any(|p| p.path != "$" && (within(path, &p.path) || within(&p.path, path)))
    }

    /// Whether there is one.
    pub fn any(&self) -> bool {
        !self.list.is_empty()
    }

    /// The list.
    pub fn into_vec(self) -> Vec<Problem> {
        let mut list = self.list;
        if self.left_out > 0 {
            list.push(Problem::new("$", format!("and {} problems more", self.left_out)));
        }
        list
    }
}

/// Whether `path` is `above` or lies in it.
pub(super) fn within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The path of `name` in `path`; a name that is no plain word is quoted.
pub fn join(path: &str, name: &str) -> String {
    if !name.is_empty()
        && name.len() <= NAME_BYTES_SHOWN
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$'))
    {
        format!("{path}.{name}")
    } else {
        format!("{path}[{}]", quoted(name))
    }
}

/// `name` in quotes, shortened, control characters escaped.
pub(super) fn quoted(name: &str) -> String {
    format!("{:?}", shorten(name, NAME_BYTES_SHOWN))
}

/// `"a", "b" or "c"`.
pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.into_iter().map(quoted).collect();
    match names.pop() {
        None => String::new(),
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} or {last}", names.join(", ")),
    }
}

/// The one of `known` that is nearest to `name` by edit distance, with that distance; letter case counts for nothing.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    let name = shorten(name, NAME_BYTES_SHOWN).to_lowercase();
    known.into_iter().map(|k| (k, distance(&name, &k.to_lowercase()))).min_by_key(|(_, d)| *d)
}

/// Levenshtein's distance, with two neighbours that changed places counted once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in [("", "", 0), ("a", "", 1), ("listen", "lisetn", 1), ("kitten", "sitting", 3), ("ab", "ba", 1)] {
            assert_eq!((distance(a, b), distance(b, a)), (d, d), "{a} {b}");
        }
        assert_eq!(nearest("maxbodybyte", ["maxHeaderBytes", "maxBodyBytes"]), Some(("maxBodyBytes", 1)));
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn paths() {
        assert_eq!(join("$.channels", "door"), "$.channels.door");
        assert_eq!(join("$.channels", "a.b\n"), "$.channels[\"a.b\\n\"]");
        assert_eq!(join("$", &"x".repeat(99)).len(), 1 + 2 + 64 + 3 + 2);
        for (path, above, inside) in [
            ("$.a.b", "$.a", true),
            ("$.a", "$.a", true),
            ("$.ab", "$.a", false),
            ("$.a[0]", "$.a", true),
            ("$.a", "$.a.b", false),
        ] {
            assert_eq!(within(path, above), inside, "{path} {above}");
        }
    }

    #[test]
    fn a_flood_is_counted() {
        let mut problems = Problems::default();
        (0..1000).for_each(|i| problems.add(format!("$.a[{i}]"), "bad"));
        let list = problems.into_vec();
        assert_eq!((list.len(), list[100].to_string().as_str()), (101, "$: and 900 problems more"));
    }
}
