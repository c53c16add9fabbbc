//! What `tests/fuzz` calls, compiled for it alone (`cfg(fuzzing)`): the streams of model servers.
//!
//! Invariant: it panics where the same bytes in other pieces are another answer, or an answer is larger than its bound.

use super::anthropic::Messages;
use super::draft::Draft;
use super::openai::Chat;
use super::server::{Format, drafted};
use super::sse::Sse;

/// The events of a stream: the first byte says how large the pieces are in which they come.
pub fn events(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let read = |piece: usize| {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        let fed = data.chunks(piece.max(1)).try_for_each(|part| sse.feed(part, &mut events));
        let ended = fed.and_then(|()| sse.finish(&mut events));
        ended.map(|()| (events, sse.last_id().to_string(), sse.retry_ms()))
    };
    assert_eq!(read(data.len()), read(usize::from(*first)), "the same bytes in other pieces");
}

/// The stream of an OpenAI-compatible server.
pub fn openai(data: &[u8]) {
    stream::<Chat>(data);
}

/// The stream of an Anthropic-compatible server.
pub fn anthropic(data: &[u8]) {
    stream::<Messages>(data);
}

fn stream<F: Format>(data: &[u8]) {
    let mut shown = String::new();
    let mut sse = Sse::default();
    let mut events = Vec::new();
    if sse.feed(data, &mut events).and_then(|()| sse.finish(&mut events)).is_err() {
        return;
    }
    if let Ok(draft) = drafted::<F>(&mut events, &mut |text| shown.push_str(text)) {
        finish(draft, &shown);
    }
    let mut shown = String::new();
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(draft) = super::server::whole::<F>(text, &mut |text| shown.push_str(text))
    {
        finish(draft, &shown);
    }
}

fn finish(draft: Draft, shown: &str) {
    if let Ok(answer) = draft.answer("model", &[]) {
        assert!(answer.text.len() <= 2 * 1024 * 1024 && answer.calls.len() <= 1000, "an answer without bound");
        assert!(answer.text.contains(shown.trim()) || shown.contains(answer.text.trim()), "what was shown is what is kept");
    }
}
