//! What a conversation looks like: frames of the gateway as a person sees them.
//!
//! Invariant: texts from the gateway are shown with their control characters escaped; on a pipe whole replies alone are written, a line each or
//! more, and no style. It cannot fail; a closed pipe ends the program (`output`).

use std::collections::HashMap;

use serde_json::Value;

use crate::cli::chat::markdown::Markdown;
use crate::cli::output::{colour, field, harmless, styled, write};

/// Replies that are shown while they come, at a time.
const STREAMS_MAX: usize = 64;

/// The screen, or the pipe.
pub struct Screen {
    is_terminal: bool,
    /// What was shown of each reply so far.
    streams: HashMap<String, Stream>,
    /// The reply whose text stands at the cursor.
    last: Option<String>,
}

struct Stream {
    text: String,
    markdown: Markdown,
    /// Whether another text was written in between.
    is_broken: bool,
}

impl Screen {
    /// A screen for a person, or a pipe.
    pub fn new(is_terminal: bool) -> Screen {
        Screen { is_terminal, streams: HashMap::new(), last: None }
    }

    /// The prompt for the next line.
    pub fn prompt(&self) {
        if self.is_terminal && self.last.is_none() {
            write(&styled("1", "you> "));
        }
    }

    /// Something beside the conversation, on a line of its own.
    pub fn note(&mut self, text: &str) {
        if self.is_terminal {
            self.break_off();
            write(&format!("\r{}\n", styled("2", &harmless(text))));
        }
    }

    /// A piece of a reply.
    pub fn delta(&mut self, id: &str, text: &str) {
        // A pipe gets whole replies alone: two at a time would mingle.
        if !self.is_terminal || (self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(id)) {
            return;
        }
        if self.last.as_deref() != Some(id) {
            self.break_off();
            write(&format!("\r{}", styled("32", "agent> ")));
            self.last = Some(id.into());
        }
        let fresh = || Stream { text: String::new(), markdown: Markdown::new(colour()), is_broken: false };
        let stream = self.streams.entry(id.to_string()).or_insert_with(fresh);
        stream.text.push_str(text);
        write(&stream.markdown.push(text));
    }

    /// A whole reply.
    pub fn reply(&mut self, id: &str, text: &str) {
        let stream = self.streams.remove(id);
        if !self.is_terminal {
            return write(&format!("{}\n", harmless(text)));
        }
        match stream {
            Some(mut shown) if shown.text == text && !shown.is_broken && self.last.as_deref() == Some(id) => {
                write(&format!("{}\n", shown.markdown.end()));
                self.last = None;
            }
            // Another text than what was shown, or torn apart by something else: once more, whole.
            _ => {
                self.break_off();
                let mut markdown = Markdown::new(colour());
                let body = markdown.push(text) + &markdown.end();
                write(&format!("\r{}{body}\n", styled("32", "agent> ")));
            }
        }
        self.prompt();
    }

    /// Something that went wrong.
    pub fn error(&mut self, frame: &Value) {
        self.streams.remove(frame["messageId"].as_str().unwrap_or_default());
        if self.is_terminal {
            self.break_off();
            write(&format!("\r{} {}\n", styled("31", "error:"), field(frame, "message")));
            self.prompt();
        } else {
            crate::cli::output::error(&field(frame, "message"));
        }
    }

    /// A question that this person may decide.
    pub fn question(&mut self, approval: &Value) {
        self.break_off();
        write(&format!("\r{} {}\n", styled("33", "may it run?"), styled("2", &field(approval, "id"))));
        field(approval, "question").lines().for_each(|line| write(&format!("  {line}\n")));
        write(&styled("1", "y, n or always> "));
    }

    /// Ends the line of a reply that is still coming.
    fn break_off(&mut self) {
        if let Some(id) = self.last.take() {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.is_broken = true;
                write(&stream.markdown.end());
            }
            write("\n");
        }
    }
}
