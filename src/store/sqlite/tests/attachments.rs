//! Attachments: rows that name files, files that rows name, and never one without the other for longer than a start.

use super::*;
use crate::domain::{Attachment, AttachmentState};
use crate::store::StoreError;
use crate::store::sqlite::attachments;
use crate::store::sqlite::sql::Sql;

fn with_files(user: &str, names: &[&str]) -> NewInbound {
    let one = |name: &&str| Attachment::new("ref", name, "image/png", None).unwrap();
    NewInbound { attachments: names.iter().map(one).collect(), ..hello(user, "look") }
}

fn files(home: &Home) -> usize {
    let folder = home.path().parent().unwrap().join("gatelet.db-attachments");
    std::fs::read_dir(folder).map_or(0, |all| all.count())
}

fn states(home: &Home, id: &str) -> Vec<AttachmentState> {
    home.message(id).unwrap().attachments.iter().map(|a| a.state).collect()
}

#[test]
fn kept_files_outlive_a_kill_and_what_nothing_names_does_not() {
    use AttachmentState::{Failed, Stored, Waiting};
    let mut home = Home::new();
    let id = accept(&home, with_files("ana", &["../x", ".bashrc", "c"])).unwrap().id;
    let twin = accept(&home, hello("bob", "nothing")).unwrap().id;
    assert_eq!(states(&home, &id), [Waiting; 3]);
    home.keep_attachment(&id, 0, b"one").unwrap();
    home.keep_attachment(&id, 1, b"two").unwrap();
    home.keep_attachment(&id, 1, b"two again").unwrap();
    home.miss_attachment(&id, 2).unwrap();
    home.miss_attachment(&id, 0).unwrap(); // it is there
    assert_eq!((states(&home, &id), files(&home)), (vec![Stored, Stored, Failed], 2));
    for (id, n) in [(id.as_str(), 3), (&twin, 0), ("msg_none", 0)] {
        assert_eq!(home.keep_attachment(id, n, b"x"), Err(StoreError::NotFound));
        assert_eq!(home.attachment(id, n), Err(StoreError::NotFound));
    }
    let folder = home.path().parent().unwrap().join("gatelet.db-attachments");
    std::fs::write(folder.join("att_half.part"), "x").unwrap();
    std::fs::write(folder.join(format!("att_{}", "0".repeat(26))), "x").unwrap();
    home.crash();
    assert_eq!((home.attachment(&id, 1).unwrap(), files(&home)), (b"two again".to_vec(), 2));
    // A backup without its files: they are fetched again.
    std::fs::remove_dir_all(folder).unwrap();
    home.crash();
    assert_eq!((home.attachment(&id, 1), states(&home, &id)), (Err(StoreError::NotFound), vec![Waiting, Waiting, Failed]));
    home.keep_attachment(&id, 0, b"one").unwrap();
    let claimed = claim(&home).unwrap();
    let names: Vec<_> = claimed.attachments.iter().map(|a| a.file.name.as_str()).collect();
    assert_eq!((names, claimed.attachments[0].file.bytes), (vec!["../x", ".bashrc", "c"], Some(3)));
}

#[test]
fn erasing_a_user_takes_their_files_and_names() {
    let home = Home::new();
    let id = accept(&home, with_files("ana", &["CANARY.png"])).unwrap().id;
    let other = accept(&home, with_files("bob", &["b.png"])).unwrap().id;
    home.keep_attachment(&id, 0, b"one").unwrap();
    home.keep_attachment(&other, 0, b"two").unwrap();
    assert_eq!(home.erase_user("ana"), Ok(1));
    assert_eq!((files(&home), states(&home, &id)), (1, vec![]));
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM attachments"), 1);
    assert_eq!(home.attachment(&other, 0).unwrap(), b"two");
    // A turn that was fetching meanwhile keeps nothing.
    assert_eq!(home.keep_attachment(&id, 0, b"late"), Err(StoreError::NotFound));
    assert_eq!(files(&home), 1);
}

#[test]
fn the_oldest_make_room_but_none_that_is_to_be_answered() {
    let home = Home::new();
    let ids: Vec<_> = (0..4).map(|n| accept(&home, with_files(&format!("u{n}"), &["a", "b"])).unwrap().id).collect();
    for id in &ids {
        home.keep_attachment(id, 0, &[0; 10]).unwrap();
        home.keep_attachment(id, 1, &[0; 10]).unwrap();
    }
    for _ in 0..3 {
        let claimed = claim(&home).unwrap().message_id;
        home.finish_turn(answer(&claimed, "r", vec![])).unwrap();
    }
    let open: Vec<_> = ids.iter().filter(|id| home.message(id).unwrap().state == crate::domain::MessageState::Queued).collect();
    assert_eq!(open, [&ids[3]]);
    let room = |bytes, kept| {
        let (clock, mut gone) = (home.clock.clone(), Vec::new());
        let conn = Connection::open(home.path()).unwrap();
        attachments::make_room(&Sql::new(&conn, &clock), bytes, kept, &mut gone).map(|()| gone.len()).ok()
    };
    assert_eq!([room(80, 8), room(65, 8), room(65, 5), room(20, 8)], [Some(0), Some(2), Some(1), Some(3)]);
    assert_eq!(states(&home, &ids[0]), [AttachmentState::Removed; 2]);
    assert_eq!(states(&home, &ids[3]), [AttachmentState::Stored; 2]);
    assert_eq!((room(19, 8), home.attachment(&ids[3], 1).unwrap().len()), (None, 10));
    assert_eq!(home.attachment(&ids[0], 0), Err(StoreError::NotFound));
}
