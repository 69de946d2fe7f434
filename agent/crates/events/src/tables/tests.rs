#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::{EventId, change::RemovalReason};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::SystemTime,
};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events/hooks.redb");
    (folder, path)
}

fn open(path: &Path) -> Result<(QueueTables, FileContent), OpenError> {
    QueueTables::open(QueueFile::new(path.to_owned()), "hooks")
}

fn refused(path: &Path) -> OpenError {
    open(path).err().expect("refused")
}

fn store(sequence: Sequence, body: &[u8]) -> QueueChange {
    let head = EventHead {
        id: EventId::random(),
        received_at: SystemTime::UNIX_EPOCH,
        retried_at: None,
        method: "POST".into(),
        target: "/".into(),
        headers: vec![],
        source: "::1".into(),
        lane: String::new(),
        event_type: None,
        issue_key: None,
        body_bytes: body.len() as u64,
    };
    QueueChange::Store {
        sequence,
        text: text(&head).unwrap(),
        head: Box::new(head),
        body: Bytes::copy_from_slice(body),
        size: 0,
    }
}

fn details() -> DeathDetails {
    DeathDetails {
        died_at: SystemTime::UNIX_EPOCH,
        attempts: 3,
        why: "410".into(),
    }
}

#[test]
fn an_event_goes_through_all_tables_with_its_body_and_each_change_is_counted() {
    let (_folder, path) = folder();
    let (mut tables, _) = open(&path).unwrap();
    let zero = QueueTotals::default();
    tables
        .commit(&[store(1, b"one"), store(2, b"two")], zero)
        .unwrap();
    let bury = QueueChange::MoveToDead {
        sequence: 1,
        dead: 3,
        details: details(),
    };
    tables.commit(&[bury], tables.saved).unwrap();
    assert!(tables.read(1).is_err());
    tables.close().unwrap();

    let (mut tables, content) = open(&path).unwrap();
    assert_eq!((content.queued.len(), content.queued[0].0), (1, 2));
    assert_eq!((content.dead.len(), content.dead[0].0), (1, 3));
    assert_eq!(content.dead[0].3, details());
    assert_eq!((content.totals.stored, content.totals.died), (2, 1));
    let requeue = QueueChange::Requeue {
        dead: 3,
        sequence: 4,
        retried_at: SystemTime::UNIX_EPOCH,
    };
    let remove = QueueChange::Remove {
        sequence: 2,
        why: RemovalReason::Delivered,
    };
    tables.commit(&[requeue, remove], content.totals).unwrap();
    let (head, body) = tables.read(4).unwrap();
    assert_eq!(
        (&body[..], head.retried_at),
        (&b"one"[..], Some(SystemTime::UNIX_EPOCH))
    );
    // A change of what is not there changes nothing.
    let gone = QueueChange::Remove {
        sequence: 2,
        why: RemovalReason::Delivered,
    };
    tables.commit(&[gone], tables.saved).unwrap();
    tables.close().unwrap();
    let (_, content) = open(&path).unwrap();
    assert_eq!((content.queued.len(), content.dead.len()), (1, 0));
    assert_eq!(content.totals.delivered, 2);
}

#[test]
fn only_the_agents_user_can_read_the_file_also_one_that_was_opened_to_others() {
    let (_folder, path) = folder();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    drop(open(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_link_a_folder_and_a_file_in_use_are_refused() {
    let (folder, path) = folder();
    let (tables, _) = open(&path).unwrap();
    assert!(matches!(refused(&path), OpenError::InUse(_)));
    drop(tables);
    let link = folder.path().join("link.redb");
    symlink(&path, &link).unwrap();
    assert!(matches!(refused(&link), OpenError::Io { .. }));
    assert!(matches!(refused(folder.path()), OpenError::Io { .. }));
}

#[test]
fn a_damaged_file_is_named_with_what_to_do_and_left_as_it_is() {
    let (_folder, path) = folder();
    let (mut tables, _) = open(&path).unwrap();
    let events: Vec<_> = (0..50).map(|at| store(at, &[b'x'; 5000])).collect();
    tables.commit(&events, QueueTotals::default()).unwrap();
    tables.close().unwrap();
    let good = fs::read(&path).unwrap();
    let body = good
        .windows(100)
        .position(|part| part == [b'x'; 100])
        .unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (name, bytes) in [
        (
            "text",
            b"not a database, but long enough to hold a header".repeat(100),
        ),
        ("one byte of a body", flipped(body + 50)),
        ("the magic number", flipped(1)),
        ("half of it", good[..good.len() / 2].to_vec()),
        ("a header alone", good[..300].to_vec()),
        ("zeros inside", {
            let mut bytes = good.clone();
            bytes[body & !0xfff..][..8192].fill(0);
            bytes
        }),
    ] {
        fs::write(&path, &bytes).unwrap();
        let error = refused(&path);
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "{name}: {error}"
        );
        let text = error.to_string();
        assert!(text.contains(&format!("mv {}", path.display())), "{text}");
    }
    let aside = crate::set_damaged_aside(&path).unwrap();
    assert!(aside.exists() && !path.exists());
    let (_, content) = open(&path).unwrap();
    assert!(content.queued.is_empty());
}

#[test]
fn a_file_of_a_later_version_is_not_touched() {
    let (_folder, path) = folder();
    let (tables, _) = open(&path).unwrap();
    let transaction = tables.database.begin_write().unwrap();
    transaction
        .open_table(ABOUT)
        .unwrap()
        .insert("format", "2")
        .unwrap();
    transaction.commit().unwrap();
    tables.close().unwrap();
    assert!(matches!(refused(&path), OpenError::Newer(_)));
}

#[test]
fn a_head_with_members_of_a_later_version_is_read() {
    let text = br#"{"id":"msg_0123456789abcdef0123456789abcdef","received_at_ms":1,"method":"POST","target":"/",
        "headers":[],"source":"","lane":"","event_type":null,"issue_key":null,"body_bytes":0,"new":{}}"#;
    assert!(records::parse::<EventHead>(text).is_ok());
    let error = records::parse::<EventHead>(br#"{"target":"/?token=canary"}"#);
    assert!(!error.unwrap_err().text.contains("canary"));
}

#[test]
fn a_file_that_was_long_is_made_short() {
    let (_folder, path) = folder();
    let (mut tables, _) = open(&path).unwrap();
    let events: Vec<_> = (0..40).map(|at| store(at, &[b'x'; 100_000])).collect();
    tables.commit(&events, QueueTotals::default()).unwrap();
    let long = tables.file_bytes();
    let remove = |sequence| QueueChange::Remove {
        sequence,
        why: RemovalReason::Delivered,
    };
    let removals: Vec<_> = (0..39).map(remove).collect();
    tables.commit(&removals, tables.saved).unwrap();
    tables.compact().unwrap();
    assert!(tables.file_bytes() * 4 < long);
    assert_eq!(tables.read(39).unwrap().1.len(), 100_000);
}
