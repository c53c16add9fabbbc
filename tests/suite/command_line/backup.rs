//! A backup while the gateway works, and what a restored one does and doesn't do.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::check;
use crate::support::files::{Giving, png};
use crate::support::gateway::{ADMIN, Gateway};
use crate::support::model::Model;
use crate::support::sink::Sink;
use crate::support::telegram::Telegram;
use crate::support::{figure, merged, pause};

const TOKEN: &str = "suite-backup-door-0123456789abcdef";

fn config(model: &Model, sink: &Sink) -> Value {
    merged(model.config(), json!({"channels": {"door": {"type": "webhook", "token": TOKEN, "replyUrl": sink.url}}}))
}

fn knock(gateway: &Gateway, user: &str, text: &str) {
    let body = json!({"userId": user, "message": text});
    gateway.call("POST", "/webhook/door").token(TOKEN).json(&body).send().expect(202);
}

fn at(gateway: &Gateway) -> [String; 4] {
    let path = |p: &Path| p.to_str().unwrap().to_string();
    ["--config".into(), path(&gateway.config_path), "--data-dir".into(), path(&gateway.data)]
}

fn run(gateway: &Gateway, words: &[&str], code: i32) -> super::Said {
    let at = at(gateway);
    check(&words.iter().copied().chain(at.iter().map(String::as_str)).collect::<Vec<_>>(), &[], "", code)
}

/// Everything that is in there has mode 0700 or 0600.
fn is_private(path: &Path) -> bool {
    let wanted = if path.is_dir() { 0o700 } else { 0o600 };
    let inside = || std::fs::read_dir(path).into_iter().flatten().flatten().all(|e| is_private(&e.path()));
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777 == wanted && inside()
}

/// R30: five copies under load; each restores to a gateway that is whole and sends nothing of what was sent.
#[test]
fn a_backup_under_load_is_whole_and_a_restored_gateway_sends_nothing_again() {
    let (model, sink) = (Model::slow(5), Sink::new());
    let mut gateway = Gateway::start(config(&model, &sink));
    let folder = tempfile::TempDir::new().unwrap();
    let (over, told) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut before = Vec::new();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (gateway, over, told) = (&gateway, &over, &told);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    knock(gateway, &format!("user{n}"), &format!("message {}", told.load(Ordering::SeqCst)));
                    told.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for copy in 0..5 {
            pause(150);
            before.push(told.load(Ordering::SeqCst));
            let began = Instant::now();
            let target = folder.path().join(format!("copy{copy}"));
            let made = run(&gateway, &["backup", target.to_str().unwrap(), "--json"], 0);
            let made: Value = serde_json::from_str(&made.out).unwrap();
            figure(&format!("backup {copy} under load: {} bytes in {:?}", made["bytes"], began.elapsed()));
            assert!(is_private(&target), "{}", target.display());
        }
        over.store(true, Ordering::SeqCst);
    });
    gateway.kill9();
    pause(300); // what was under way arrives
    let sent: HashSet<String> = sink.got().into_iter().map(|d| d.id).collect();
    assert!(before[4] > 20 && sent.len() > 10, "there was load: {before:?}, {}", sent.len());
    for (copy, before) in before.into_iter().enumerate() {
        let target = folder.path().join(format!("copy{copy}"));
        let mut other = Gateway::prepare(config(&model, &sink));
        let restored = run(&other, &["restore", target.to_str().unwrap(), "--keep-config", "--json"], 0);
        let restored: Value = serde_json::from_str(&restored.out).unwrap();
        let (got, asked) = (sink.got().len(), model.asked().len());
        other.restart();
        pause(400);
        assert_eq!(sink.got().len(), got, "nothing is sent by itself: {restored}");
        assert_eq!(model.asked().len(), asked, "nothing is answered by itself: {restored}");
        let messages = count(&other, "/api/messages?limit=500");
        assert!(messages >= before.min(500), "copy {copy} has what was accepted before it: {messages} of {before}");
        assert_eq!(count(&other, "/api/outbox?limit=500&state=pending"), 0);
        assert_eq!(
            count(&other, "/api/outbox?limit=500&state=unknown") as u64,
            restored["heldBack"]["deliveries"].as_u64().unwrap().min(500)
        );
        assert_eq!(
            count(&other, "/api/messages?limit=500&state=failed") as u64,
            restored["heldBack"]["messages"].as_u64().unwrap().min(500)
        );
        // It goes on, and what was held can be sent by a person.
        knock(&other, "user0", "afterwards");
        sink.until(got + 1, 10);
        if copy == 4 {
            run(&other, &["backup", target.to_str().unwrap()], 1);
            let refused = run(&other, &["restore", target.to_str().unwrap()], 1);
            assert!(refused.err.contains("a gateway (process"), "{}", refused.err);
        }
        other.kill9();
    }
}

fn count(gateway: &Gateway, path: &str) -> usize {
    let list = gateway.get(path).expect(200).json();
    list["messages"].as_array().or(list["outbox"].as_array()).map_or(0, Vec::len)
}

/// The attachments' files below a data directory or a backup.
fn attachments(folder: &Path) -> Vec<std::path::PathBuf> {
    let inside = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
    let folders = inside(folder).into_iter().filter(|p| p.to_string_lossy().ends_with("attachments"));
    let mut files: Vec<_> = folders.flat_map(|folder| inside(&folder)).collect();
    files.sort();
    files
}

/// R30: what came with a message comes back with it, under the name of whichever database is restored; a file that is gone, or is not the
/// one that was kept, fails neither.
#[test]
fn attachments_come_back_with_their_messages() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let gateway = Gateway::start(telegram.config(model.config(), json!({})));
    let sends = |n: usize, bytes: &[u8]| {
        let id = format!("F{n}");
        telegram.files.put(&id, Giving::Whole(bytes.to_vec()));
        let mut message = crate::support::telegram::message(7, 7, "private", "");
        message.as_object_mut().unwrap().remove("text");
        let photo = json!([{"file_id": id, "file_size": bytes.len(), "width": 1, "height": 1}]);
        telegram.push(json!({"message": merged(message, json!({"photo": photo, "caption": format!("photo {n}")}))}));
        telegram.until(n, 20);
        let files = attachments(&gateway.data);
        files.into_iter().find(|f| std::fs::read(f).unwrap() == bytes).expect("it was kept")
    };
    let other_picture = [png(), vec![0; 9]].concat(); // what stands behind the picture's end is of no consequence
    let (whole, gone, cut) = (sends(1, &png()), sends(2, &other_picture), sends(3, &[png(), vec![1; 5]].concat()));
    std::fs::remove_file(gone).unwrap();
    std::fs::write(cut, "half").unwrap();
    std::fs::write(whole.with_extension("part"), "of a file that is being fetched").unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let target = folder.path().join("copy");
    let made = run(&gateway, &["backup", target.to_str().unwrap(), "--json"], 0).out;
    assert_eq!(serde_json::from_str::<Value>(&made).unwrap()["attachments"], 1, "{made}");
    let name = whole.file_name().unwrap().to_str().unwrap();
    assert_eq!(attachments(&target), [target.join("attachments").join(name)]);
    assert!(is_private(&target) && attachments(&target.join("data")).is_empty());
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(target.join("manifest.json")).unwrap()).unwrap();
    let entry = manifest["files"].as_array().unwrap().iter().find(|f| f["path"] == format!("attachments/{name}")).unwrap();
    assert_eq!((entry["bytes"].as_u64().unwrap() as usize, entry["sha256"].as_str().unwrap().len()), (png().len(), 64));

    // Elsewhere, where a database of another name has a file of its own.
    let base = telegram.config(model.config(), json!({"enabled": false}));
    let mut other = Gateway::prepare(merged(base, json!({"store": {"path": "other.db"}})));
    let beside = other.data.join("other.db-attachments");
    let stray = format!("att_{}", "0".repeat(26));
    std::fs::create_dir_all(&beside).unwrap();
    std::fs::write(beside.join(&stray), "of before").unwrap();
    std::fs::write(beside.join(name), "not what it was").unwrap();
    for _ in 0..2 {
        // A second time it finds all of it there.
        let restored = run(&other, &["restore", target.to_str().unwrap(), "--keep-config", "--json"], 0).out;
        let restored: Value = serde_json::from_str(&restored).unwrap();
        assert_eq!(restored["attachments"], 1);
        assert_eq!(std::fs::read(beside.join(name)).unwrap(), png());
        let aside = Path::new(restored["aside"].as_str().unwrap()).join("other.db-attachments");
        assert_eq!(std::fs::read_to_string(aside.join(&stray)).unwrap(), "of before");
        assert!(is_private(&beside.join(name)));
    }
    let asked = model.asked().len();
    other.restart();
    assert_eq!(attachments(&other.data), [beside.join(name)], "the start removes what no row names");
    let messages = other.get("/api/messages").expect(200).json();
    let states: Vec<String> = (0..3)
        .map(|n| messages["messages"][n]["id"].as_str().unwrap())
        .map(|id| other.message(id)["attachments"][0]["state"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(states.iter().filter(|s| *s == "stored").count(), 1, "{states:?}");
    assert_eq!(model.asked().len(), asked);
    // A damaged one is refused.
    std::fs::write(target.join("attachments").join(name), vec![b'x'; png().len()]).unwrap();
    other.kill9();
    let refused = run(&other, &["restore", target.to_str().unwrap(), "--keep-config"], 1);
    assert!(refused.err.contains("damaged"), "{}", refused.err);
}

#[test]
fn a_backup_has_no_secrets_unless_it_is_asked_to() {
    const CANARY: &str = "canary-secret-0123456789abcdef";
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::prepare(merged(
        config(&model, &sink),
        json!({
        "channels": {"other": {"type": "webhook", "token": {"file": "secrets/other"}}, "plain": {"type": "webhook", "secret": CANARY}}}),
    ));
    std::fs::create_dir(gateway.data.join("secrets")).unwrap();
    std::fs::write(gateway.data.join("secrets/other"), format!("{CANARY}\n")).unwrap();
    std::fs::write(gateway.data.join("note"), "of the data").unwrap();
    let gateway = gateway.begin();
    gateway.ask("ana", "hello");
    let folder = tempfile::TempDir::new().unwrap();
    let (without, with) = (folder.path().join("without"), folder.path().join("with"));
    run(&gateway, &["backup", without.to_str().unwrap()], 0);
    run(&gateway, &["backup", with.to_str().unwrap(), "--with-secrets"], 0);
    assert_eq!((holds(&without, CANARY), holds(&without, ADMIN)), (0, 0));
    assert!(holds(&with, CANARY) >= 2 && holds(&with, ADMIN) >= 1);
    assert_eq!(std::fs::read_to_string(without.join("data/note")).unwrap(), "of the data");
    // Where the secrets are still here, they come back; elsewhere the missing ones are named.
    let mut gateway = gateway;
    gateway.kill9();
    let before = gateway.read_config();
    gateway.write_config(&merged(before.clone(), json!({"log": {"level": "debug"}})).to_string());
    let restored = run(&gateway, &["restore", without.to_str().unwrap()], 0);
    assert!(!restored.out.contains("has to be given again"), "{}", restored.out);
    assert_eq!(gateway.read_config(), before);
    gateway.restart();
    assert_eq!(count(&gateway, "/api/messages"), 1);
    let new = Gateway::prepare(json!({}));
    std::fs::remove_file(&new.config_path).unwrap();
    let data = new.data.to_str().unwrap().to_string();
    let restored = check(&["restore", without.to_str().unwrap(), "--data-dir", &data], &[], "", 0).out;
    for path in ["$.channels.plain.secret", "$.channels.door.token"] {
        assert!(restored.contains(path), "{path} in {restored}");
    }
    // A damaged one changes nothing.
    std::fs::write(with.join("gatelet.json"), "{}").unwrap();
    let refused = check(&["restore", with.to_str().unwrap(), "--data-dir", &data], &[], "", 1);
    assert!(refused.err.contains("damaged"), "{}", refused.err);
    check(&["restore", folder.path().to_str().unwrap(), "--data-dir", &data], &[], "", 1);
}

/// How many files below a folder hold that text.
fn holds(folder: &Path, text: &str) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let found = |bytes: Vec<u8>| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    entries.map(|p| if p.is_dir() { holds(&p, text) } else { usize::from(found(std::fs::read(&p).unwrap())) }).sum()
}
