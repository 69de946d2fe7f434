#![allow(clippy::unwrap_used)]
use super::*;

fn head() -> EventHead {
    EventHead {
        id: EventId::random(),
        received_at: json::whole_millis(SystemTime::now()),
        retried_at: None,
        method: "POST".into(),
        target: "/hook?token=canary".into(),
        headers: vec![
            ("x-a".into(), b"b\xffc\n\"".to_vec()),
            ("x-a".into(), vec![]),
        ],
        source: "10.0.0.1".into(),
        lane: "issue:1".into(),
        event_type: None,
        issue_key: Some("SEC-1".into()),
        body_bytes: 3,
    }
}

#[test]
fn an_id_is_read_back_and_nothing_else_is() {
    let id = EventId::random();
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(id.as_str().len(), ID_LEN);
    assert_ne!(id, EventId::random());
    for wrong in [
        "",
        "msg_",
        "msg_0123456789abcdef0123456789abcde",
        "msg_0123456789abcdef0123456789abcdef0",
        "msg_0123456789ABCDEF0123456789abcdef",
        "msg_0123456789abcdef0123456789abcdeg",
        "MSG_0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef",
    ] {
        assert_eq!(wrong.parse::<EventId>(), Err(EventIdError), "{wrong}");
    }
}

#[test]
fn the_same_event_has_the_same_id_and_each_part_counts() {
    let id = EventId::of_identified("a", "b", "c", b"d");
    assert_eq!(id, EventId::of_identified("a", "b", "c", b"d"));
    for other in [
        EventId::of_identified("x", "b", "c", b"d"),
        EventId::of_identified("a", "x", "c", b"d"),
        EventId::of_identified("a", "b", "x", b"d"),
        EventId::of_identified("a", "b", "c", b"x"),
        EventId::of_identified("ab", "", "c", b"d"),
    ] {
        assert_ne!(id, other);
    }
}

#[test]
fn a_head_is_read_back_with_every_byte_of_its_headers() {
    for retried_at in [None, Some(json::whole_millis(SystemTime::now()))] {
        let head = EventHead {
            retried_at,
            ..head()
        };
        let text = serde_json::to_string(&head).unwrap();
        assert_eq!(serde_json::from_str::<EventHead>(&text).unwrap(), head);
    }
    let text = serde_json::to_string(&head()).unwrap();
    assert!(text.contains(r#"["x-a","bÿc\n\""]"#), "{text}");
}

#[test]
fn neither_target_nor_headers_are_printed() {
    let text = format!("{:?}", head());
    assert!(!text.contains("canary") && !text.contains("x-a"), "{text}");
}
