#![allow(clippy::unwrap_used)]
use super::*;
use std::fs;

fn request(forward: &str, reason: Option<&str>) -> PauseRequest {
    PauseRequest {
        forward: (!forward.is_empty()).then(|| forward.to_owned()),
        reason: reason.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_pause_outlives_the_process_and_so_does_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let pauses = PauseRegistry::load(&state);
    assert_eq!(pauses.of("jira"), None);
    pauses
        .pause(request("jira", Some("CHG-7")), Some(1000))
        .await
        .unwrap();
    let next = PauseRegistry::load(&state);
    let pause = next.of("jira").unwrap();
    assert_eq!(pause.reason.as_deref(), Some("CHG-7"));
    assert_eq!(pause.by_uid, Some(1000));
    assert!(humantime::parse_rfc3339(&pause.since).is_ok());
    assert_eq!(next.of("other"), None);
    next.resume(&request("jira", None), None).await.unwrap();
    assert_eq!(next.of("jira"), None);
    assert_eq!(PauseRegistry::load(&state).of("jira"), None);
}

#[tokio::test]
async fn all_means_every_forward_and_only_all_ends_it() {
    let pauses = PauseRegistry::default();
    pauses.pause(request("one", None), None).await.unwrap();
    pauses.pause(request("", None), None).await.unwrap();
    assert!(pauses.of("one").is_some() && pauses.of("not configured yet").is_some());
    let one = pauses.resume(&request("one", None), None).await;
    assert!(matches!(one, Err(PauseError::AllPaused)));
    assert!(pauses.of("one").is_some());
    pauses.resume(&request("", None), None).await.unwrap();
    assert_eq!(pauses.of("one"), None);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_pauses_everything_until_somebody_resumes() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["", "{}", r#"{"version":2,"all":null,"forwards":{}}"#] {
        fs::write(dir.path().join("pause.json"), text).unwrap();
        let pauses = PauseRegistry::load(dir.path());
        let pause = pauses.of("jira").unwrap();
        assert!(pause.reason.unwrap().contains("pause.json"), "{text}");
        pauses.resume(&request("", None), None).await.unwrap();
        assert_eq!(PauseRegistry::load(dir.path()).of("jira"), None, "{text}");
    }
}

#[tokio::test]
async fn where_the_disk_refuses_it_stays_on_the_safe_side() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the state folder should be.
    let state = dir.path().join("state");
    let pauses = PauseRegistry::load(&state);
    fs::write(&state, "").unwrap();
    let saved = pauses.pause(request("", None), None).await;
    assert!(matches!(saved, Err(PauseError::NotSaved(_))));
    assert!(pauses.of("jira").is_some());
    let resumed = pauses.resume(&request("", None), None).await;
    assert!(matches!(resumed, Err(PauseError::NotResumed(_))));
    assert!(pauses.of("jira").is_some());
}

/// The process that takes over reads them from the disk.
#[tokio::test]
async fn a_freeze_saves_what_could_not_be_saved_or_fails() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let pauses = PauseRegistry::load(&state);
    fs::write(&state, "").unwrap();
    let saved = pauses.pause(request("jira", None), None).await;
    assert!(matches!(saved, Err(PauseError::NotSaved(_))));
    assert!(pauses.freeze().await.is_err());
    // Nothing has changed: the next command works again.
    fs::remove_file(&state).unwrap();
    let freeze = pauses.freeze().await.unwrap();
    assert!(PauseRegistry::load(&state).of("jira").is_some());
    let refused = pauses.pause(request("", None), None).await;
    assert!(matches!(refused, Err(PauseError::HandedOver)));
    drop(freeze);
    pauses.resume(&request("jira", None), None).await.unwrap();
}

#[test]
fn a_reason_is_one_short_line() {
    assert!(check_reason("maintenance, CHG-7 (ü)").is_ok());
    assert!(check_reason(&"x".repeat(200)).is_ok());
    for bad in ["", "two\nlines", "\x1b[31mred", &"x".repeat(201)] {
        assert!(check_reason(bad).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_reason_that_spoils_a_log_line_is_refused_whoever_sends_it() {
    let pauses = PauseRegistry::default();
    let request = PauseRequest {
        forward: None,
        reason: Some("two\nlines".into()),
    };
    let refused = pauses.pause(request, None).await;
    assert!(matches!(refused, Err(PauseError::Reason(_))), "{refused:?}");
    assert_eq!(pauses.of("jira"), None);
}
