//! What is kept of Discord between two runs: the session to resume, and the last message seen in each place.
//!
//! Invariant: bounded, whatever happens: the places that were silent longest are forgotten. A text that it can't read is no cursor.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::channel::discord::gateway::Session;

/// Places remembered.
pub const PLACES_MAX: usize = 64;

/// The cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The session to resume.
    pub session: Option<Session>,
    /// Channel id → the last message seen there, and whether it is direct.
    pub places: BTreeMap<String, (u64, bool)>,
}

impl Cursor {
    /// Reads one.
    pub fn parse(text: &str) -> Self {
        let Ok(json) = serde_json::from_str::<Value>(text) else { return Cursor::default() };
        let session = json["session"].as_str().zip(json["url"].as_str()).zip(json["seq"].as_u64());
        let place = |(id, at): (&String, &Value)| Some((id.clone(), (at[0].as_u64()?, at[1].as_bool()?)));
        Cursor {
            session: session.map(|((id, url), seq)| Session { id: id.into(), url: url.into(), seq }),
            places: json["places"].as_object().into_iter().flatten().filter_map(place).take(PLACES_MAX).collect(),
        }
    }

    /// The text that is committed.
    pub fn text(&self) -> String {
        let mut json = json!({"places": self.places.iter().map(|(id, at)| (id.clone(), json!([at.0, at.1]))).collect::<serde_json::Map<_, _>>()});
        if let Some(session) = &self.session {
            json["session"] = session.id.as_str().into();
            json["url"] = session.url.as_str().into();
            json["seq"] = session.seq.into();
        }
        json.to_string()
    }

    /// A message was seen there.
    pub fn saw(&mut self, channel: &str, message: u64, is_direct: bool) {
        let last = self.places.get(channel).map_or(0, |p| p.0);
        self.places.insert(channel.to_string(), (last.max(message), is_direct));
        if self.places.len() > PLACES_MAX {
            let oldest = self.places.iter().min_by_key(|(_, at)| at.0).map(|(id, _)| id.clone());
            oldest.map(|id| self.places.remove(&id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_stays_bounded() {
        let mut cursor = Cursor::default();
        assert_eq!(Cursor::parse(&cursor.text()), cursor);
        cursor.session = Some(Session { id: "s".into(), url: "wss://x/".into(), seq: 7 });
        for n in 0..PLACES_MAX as u64 + 5 {
            cursor.saw(&format!("c{n}"), 100 + n, n % 2 == 0);
        }
        cursor.saw("c30", 1, true);
        assert_eq!(Cursor::parse(&cursor.text()), cursor);
        assert_eq!((cursor.places.len(), cursor.places.get("c0"), cursor.places["c30"].0), (PLACES_MAX, None, 130));
        for text in ["", "x", "[]", r#"{"session":"s"}"#, r#"{"places":{"a":3}}"#] {
            assert_eq!(Cursor::parse(text), Cursor::default(), "{text}");
        }
    }
}
