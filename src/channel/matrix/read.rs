//! A room's event as something that was said, where it is that.
//!
//! Invariant: only new messages of others count: edits, reactions, redactions, notices (what bots say) and our own are nothing. What
//! is quoted carries no authority: it is cut off. Pure; garbage is nothing, never an error.

use serde_json::Value;

use crate::channel::matrix::files;
use crate::channel::matrix::wire::text;
use crate::domain::Attachment;

/// No id of the specification is longer.
const ID_BYTES_MAX: usize = 255;

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub event_id: String,
    pub sender: String,
    pub text: String,
    /// When, by the sender's homeserver.
    pub written_ms: i64,
    /// The event that the thread hangs on, where it was said in one.
    pub thread: Option<String>,
    /// The event that it answers.
    pub answers: Option<String>,
    /// Whether it names us.
    pub names_us: bool,
    /// The file that it is.
    pub file: Option<Attachment>,
}

/// What a room's event says, if it says something to `me`, who is called `name` (empty: nothing).
pub(super) fn read(event: &Value, me: &str, name: &str) -> Option<Heard> {
    let (event_id, sender) = (text(event, &["event_id"]), text(event, &["sender"]));
    let is_id = |id: &str, sigil: char| id.starts_with(sigil) && id.len() <= ID_BYTES_MAX;
    if text(event, &["type"]) != "m.room.message" || event.get("state_key").is_some() || sender == me {
        return None;
    }
    if !is_id(event_id, '$') || !is_id(sender, '@') {
        return None;
    }
    let content = event.get("content")?;
    let relation = content.get("m.relates_to").unwrap_or(&Value::Null);
    let kind = text(relation, &["rel_type"]);
    if kind == "m.replace" {
        return None;
    }
    let thread = (kind == "m.thread").then(|| text(relation, &["event_id"])).filter(|id| is_id(id, '$'));
    // In a thread, `m.in_reply_to` stands there for clients that know no threads, unless it says otherwise.
    let falls_back = thread.is_some() && relation["is_falling_back"] == true;
    let answers = Some(text(relation, &["m.in_reply_to", "event_id"])).filter(|id| is_id(id, '$'));
    let mut said = described(content, sender)?;
    if answers.is_some() {
        said = without_quote(&said);
    }
    Some(Heard {
        event_id: event_id.to_string(),
        sender: sender.to_string(),
        written_ms: event["origin_server_ts"].as_i64().unwrap_or(0).max(0),
        thread: thread.map(str::to_string),
        names_us: names(content, &said, me, name),
        file: files::of(content),
        answers: answers.filter(|_| !falls_back).map(str::to_string),
        text: said,
    })
}

fn described(content: &Value, sender: &str) -> Option<String> {
    let body = text(content, &["body"]);
    let said = match text(content, &["msgtype"]) {
        "m.text" => body.to_string(),
        "m.emote" => format!("* {sender} {body}"),
        "m.image" => attachment("image", content),
        "m.video" => attachment("video", content),
        "m.audio" => attachment("audio", content),
        "m.file" => attachment("file", content),
        "m.location" => format!("[location {}: {body}]", text(content, &["geo_uri"])),
        _ => return None, // notices, and what we don't know
    };
    (!said.trim().is_empty()).then_some(said)
}

/// `[image cat.jpg, image/jpeg, 1280×960, 34567 bytes, caption: …]`.
fn attachment(kind: &str, content: &Value) -> String {
    let (body, file) = (text(content, &["body"]), text(content, &["filename"]));
    // With a file name of its own, the body is a caption.
    let (file, caption) = if file.is_empty() || file == body { (body, "") } else { (file, body) };
    let mut out = format!("[{kind} {file}");
    let info = &content["info"];
    let mut add = |what: String| {
        out.push_str(", ");
        out.push_str(&what);
    };
    if !text(info, &["mimetype"]).is_empty() {
        add(text(info, &["mimetype"]).to_string());
    }
    if let (Some(width), Some(height)) = (info["w"].as_u64(), info["h"].as_u64()) {
        add(format!("{width}×{height}"));
    }
    if let Some(ms) = info["duration"].as_u64() {
        add(format!("{} s", ms.div_ceil(1000)));
    }
    if let Some(size) = info["size"].as_u64() {
        add(format!("{size} bytes"));
    }
    if !caption.is_empty() {
        add(format!("caption: {caption}"));
    }
    out.push(']');
    out
}

/// A reply without the quote that older clients put before it: lines that begin with `>`, and the empty one behind.
fn without_quote(said: &str) -> String {
    if !said.starts_with("> <@") && !said.starts_with("> * <@") {
        return said.to_string();
    }
    let rest: Vec<&str> = said.lines().skip_while(|line| line.starts_with('>')).collect();
    let rest = rest.join("\n");
    rest.strip_prefix('\n').unwrap_or(&rest).to_string()
}

fn names(content: &Value, said: &str, me: &str, name: &str) -> bool {
    let mentioned = content["m.mentions"]["user_ids"].as_array();
    if mentioned.is_some_and(|ids| ids.iter().any(|id| id.as_str() == Some(me))) {
        return true;
    }
    // A pill is a link to us; the quote of a reply is none of the sender's words.
    let formatted = text(content, &["formatted_body"]);
    let formatted = formatted.rsplit("</mx-reply>").next().unwrap_or_default();
    let link = "https://matrix.to/#/";
    let pills = formatted.split(link).skip(1).map(|rest| rest.split(['"', '\'', '?']).next().unwrap_or_default());
    if pills.into_iter().any(|id| id == me || crate::net::http::percent_decode(id).as_deref() == Some(me)) {
        return true;
    }
    has_word(said, me) || (name.chars().count() > 1 && has_word(said, name))
}

/// Whether `word` stands in `text` by itself, in any case.
fn has_word(text: &str, word: &str) -> bool {
    let (text, word) = (text.to_lowercase(), word.to_lowercase());
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(&word)
        .any(|(at, _)| !inside(text[..at].chars().next_back()) && !inside(text[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ME: &str = "@bot:x";

    fn heard(content: Value) -> Option<Heard> {
        let event =
            json!({"type": "m.room.message", "event_id": "$1", "sender": "@ana:x", "origin_server_ts": 7, "content": content});
        read(&event, ME, "Gate Let")
    }

    #[test]
    fn what_is_said() {
        let image = json!({"mimetype": "image/png", "w": 4, "h": 3, "size": 99});
        for (content, said) in [
            (json!({"msgtype": "m.text", "body": "hi"}), Some("hi")),
            (json!({"msgtype": "m.emote", "body": "waves"}), Some("* @ana:x waves")),
            (json!({"msgtype": "m.image", "body": "a.png", "info": image}), Some("[image a.png, image/png, 4×3, 99 bytes]")),
            (json!({"msgtype": "m.image", "body": "look", "filename": "a.png"}), Some("[image a.png, caption: look]")),
            (json!({"msgtype": "m.audio", "body": "v.ogg", "info": {"duration": 1500}}), Some("[audio v.ogg, 2 s]")),
            (json!({"msgtype": "m.file", "body": "../../etc/passwd"}), Some("[file ../../etc/passwd]")),
            (json!({"msgtype": "m.location", "body": "home", "geo_uri": "geo:1,2"}), Some("[location geo:1,2: home]")),
            (json!({"msgtype": "m.notice", "body": "I am a bot"}), None),
            (json!({"msgtype": "m.text", "body": "  "}), None),
            (json!({"msgtype": "m.text"}), None),
            (json!({"msgtype": "m.key.verification.request", "body": "x"}), None),
            (json!({"msgtype": 5, "body": ["x"]}), None),
            (json!({"msgtype": "m.text", "body": "* new", "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"}}), None),
            (json!({}), None),
            (json!("text"), None),
            (Value::Null, None),
        ] {
            assert_eq!(heard(content.clone()).map(|h| h.text).as_deref(), said, "{content}");
        }
    }

    #[test]
    fn what_is_nothing() {
        let fine = json!({"type": "m.room.message", "event_id": "$1", "sender": "@ana:x", "content": {"msgtype": "m.text", "body": "hi"}});
        assert_eq!(read(&fine, ME, "").unwrap().written_ms, 0);
        for (key, value) in [
            ("type", json!("m.reaction")),
            ("type", json!("m.room.redaction")),
            ("type", json!("m.room.encrypted")),
            ("sender", json!(ME)),
            ("sender", json!("ana")),
            ("sender", json!(format!("@{}", "a".repeat(300)))),
            ("event_id", json!(1)),
            ("event_id", json!("1")),
            ("state_key", json!("")),
            ("content", json!({})), // redacted
        ] {
            let mut event = fine.clone();
            event[key] = value.clone();
            assert_eq!(read(&event, ME, ""), None, "{key}: {value}");
        }
        assert_eq!(read(&json!([1]), ME, ""), None);
    }

    #[test]
    fn what_is_quoted_is_cut_off() {
        let reply = json!({"m.in_reply_to": {"event_id": "$0"}});
        for (body, relation, said) in [
            ("> <@eve:x> /stop\n> now\n\nyes", &reply, "yes"),
            ("> * <@eve:x> waves\n\nyes\n> mine", &reply, "yes\n> mine"),
            ("> mine", &reply, "> mine"),
            ("> <@eve:x> hi\n\nyes", &Value::Null, "> <@eve:x> hi\n\nyes"),
        ] {
            let heard = heard(json!({"msgtype": "m.text", "body": body, "m.relates_to": relation})).unwrap();
            assert_eq!(heard.text, said, "{body}");
        }
    }

    #[test]
    fn who_is_named() {
        let with = |extra: Value| {
            let mut content = json!({"msgtype": "m.text", "body": "hello there"});
            content.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            heard(content).unwrap().names_us
        };
        let pill = |id: &str| json!({"formatted_body": format!("<a href=\"https://matrix.to/#/{id}\">x</a>")});
        for (extra, named) in [
            (json!({}), false),
            (json!({"m.mentions": {"user_ids": ["@ana:x", ME]}}), true),
            (json!({"m.mentions": {"user_ids": ["@ana:x"]}}), false),
            (json!({"m.mentions": {"user_ids": ME}}), false),
            (json!({"m.mentions": {"room": true}}), false),
            (json!({"body": "@bot:x, hello"}), true),
            (json!({"body": "@bot:xy hello"}), false),
            (json!({"body": "hey GATE let!"}), true),
            (json!({"body": "investigate letters"}), false),
            (pill("@bot:x"), true),
            (pill("%40bot%3Ax"), true),
            (pill("@bot:xy"), false),
            (json!({"formatted_body": "<mx-reply><a href=\"https://matrix.to/#/@bot:x\">x</a></mx-reply>fine"}), false),
        ] {
            assert_eq!(with(extra.clone()), named, "{extra}");
        }
    }

    #[test]
    fn threads_and_answers() {
        let relation = |r: Value| {
            let heard = heard(json!({"msgtype": "m.text", "body": "x", "m.relates_to": r})).unwrap();
            (heard.thread, heard.answers)
        };
        let (root, reply) = (Some("$root".to_string()), Some("$r".to_string()));
        let thread = |falls_back: bool| {
            json!({"rel_type": "m.thread", "event_id": "$root", "is_falling_back": falls_back,
                "m.in_reply_to": {"event_id": "$r"}})
        };
        assert_eq!(relation(thread(true)), (root.clone(), None));
        assert_eq!(relation(thread(false)), (root, reply.clone()));
        assert_eq!(relation(json!({"m.in_reply_to": {"event_id": "$r"}})), (None, reply));
        assert_eq!(relation(json!({"rel_type": "m.thread", "event_id": "no id"})), (None, None));
        assert_eq!(relation(json!([])), (None, None));
    }
}
