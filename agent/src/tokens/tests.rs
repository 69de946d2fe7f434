#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::secret::Secret;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

fn store() -> (tempfile::TempDir, TokenStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = TokenStore::new(folder.path(), "jira");
    (folder, store)
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text.as_bytes().to_vec()))
}

fn second(n: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(n)
}

fn record(access: &str) -> TokenRecord {
    let owner = TokenOwner {
        mode: "oauth2".into(),
        client: "client".into(),
        issuer: "https://jira.corp.example/jira".into(),
    };
    let tokens = TokenSet {
        access: secret(access),
        access_secret: secret("secret \"of\" it"),
        access_expires: Some(second(1_800_000_000)),
        refresh: secret("refresh"),
        refresh_expires: None,
        obtained: second(1_700_000_000),
        user: Some("acme-bot".into()),
        scope: Some("READ".into()),
    };
    TokenRecord::new(owner, tokens)
}

fn text(secret: &Option<Secret>) -> Option<&str> {
    let secret = secret.as_ref()?;
    Some(std::str::from_utf8(secret.expose()).unwrap())
}

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn what_is_saved_is_what_is_loaded_by_the_next_process() {
    let (folder, store) = store();
    assert!(store.load().await.unwrap().is_none());
    assert!(store.stamp().unwrap().is_none());
    let mut saved = record("first");
    saved.pending = Some(second(1_700_000_100));
    saved.ended = Some("because".into());
    saved.seed = Some("abc".into());
    let locked = store.lock(PATIENCE).await.unwrap();
    locked.save(&saved).await.unwrap();

    let loaded = TokenStore::new(folder.path(), "jira").load().await.unwrap();
    let loaded = loaded.unwrap();
    assert_eq!(loaded.owner, saved.owner);
    assert_eq!(loaded.pending, saved.pending);
    assert_eq!(loaded.ended, saved.ended);
    assert_eq!(loaded.seed, saved.seed);
    let tokens = loaded.tokens.unwrap();
    assert_eq!(text(&tokens.access), Some("first"));
    assert_eq!(text(&tokens.access_secret), Some("secret \"of\" it"));
    assert_eq!(text(&tokens.refresh), Some("refresh"));
    assert_eq!(tokens.access_expires, Some(second(1_800_000_000)));
    assert_eq!(tokens.refresh_expires, None);
    assert_eq!(tokens.obtained, second(1_700_000_000));
    assert_eq!(tokens.user.as_deref(), Some("acme-bot"));
    assert_eq!(tokens.scope.as_deref(), Some("READ"));

    let before = store.stamp().unwrap();
    locked.save(&record("second")).await.unwrap();
    assert_ne!(before, store.stamp().unwrap());
    locked.remove().await.unwrap();
    assert!(store.load().await.unwrap().is_none());
}

#[tokio::test]
async fn nobody_else_can_read_the_tokens() {
    let (_folder, store) = store();
    let locked = store.lock(PATIENCE).await.unwrap();
    locked.save(&record("first")).await.unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store.path()), 0o600);
    assert_eq!(mode(store.path().parent().unwrap()), 0o700);
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let Err(error) = store.load().await else {
        panic!("tokens that all can read were taken");
    };
    assert!(error.to_string().contains("chmod 0600"), "{error}");
}

#[tokio::test]
async fn one_process_at_a_time_may_change_the_tokens() {
    let (folder, store) = store();
    let held = store.lock(PATIENCE).await.unwrap();
    // Another open of the same file is to the kernel what another process is.
    let other = TokenStore::new(folder.path(), "jira");
    let refused = other.lock(Duration::ZERO).await;
    assert!(matches!(refused, Err(TokenStoreError::Busy(_))));
    assert!(
        TokenStore::new(folder.path(), "wiki")
            .lock(PATIENCE)
            .await
            .is_ok()
    );
    drop(held);
    assert!(other.lock(PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_half_written_file_of_a_killed_process_is_in_nobodys_way() {
    let (_folder, store) = store();
    let locked = store.lock(PATIENCE).await.unwrap();
    locked.save(&record("first")).await.unwrap();
    fs::write(store.path().with_extension("json.new"), "{\"vers").unwrap();
    let loaded = store.load().await.unwrap().unwrap();
    assert_eq!(text(&loaded.tokens.unwrap().access), Some("first"));
    locked.save(&record("second")).await.unwrap();
    let loaded = store.load().await.unwrap().unwrap();
    assert_eq!(text(&loaded.tokens.unwrap().access), Some("second"));
    assert!(!store.path().with_extension("json.new").exists());
}

#[tokio::test]
async fn a_file_of_another_version_is_refused_without_its_contents() {
    let (_folder, store) = store();
    let locked = store.lock(PATIENCE).await.unwrap();
    locked.save(&record("s3cret-token")).await.unwrap();
    for (from, to) in [("\"version\": 1", "\"version\": 2"), ("{", "[")] {
        let content = fs::read_to_string(store.path()).unwrap();
        fs::write(store.path(), content.replacen(from, to, 1)).unwrap();
        let Err(error) = store.load().await else {
            panic!("{to} was taken");
        };
        let error = error.to_string();
        assert!(error.contains("agent login jira"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

/// Root logs in for the service's user, who owns the state folder and could lead root elsewhere.
#[tokio::test]
async fn a_link_in_the_place_of_folder_or_lock_leads_nowhere() {
    use std::os::unix::fs::symlink;
    let elsewhere = tempfile::tempdir().unwrap();
    let (folder, store) = store();
    symlink(elsewhere.path(), folder.path().join("tokens")).unwrap();
    let refused = store.lock(PATIENCE).await;
    assert!(matches!(refused, Err(TokenStoreError::Io { .. })));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    // The same while the lock is held.
    fs::remove_file(folder.path().join("tokens")).unwrap();
    let locked = store.lock(PATIENCE).await.unwrap();
    fs::rename(folder.path().join("tokens"), folder.path().join("moved")).unwrap();
    symlink(elsewhere.path(), folder.path().join("tokens")).unwrap();
    assert!(locked.save(&record("first")).await.is_err());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    drop(locked);

    fs::remove_file(folder.path().join("tokens")).unwrap();
    fs::rename(folder.path().join("moved"), folder.path().join("tokens")).unwrap();
    let lock = folder.path().join("tokens/jira.lock");
    fs::remove_file(&lock).unwrap();
    fs::write(elsewhere.path().join("file"), "").unwrap();
    symlink(elsewhere.path().join("file"), &lock).unwrap();
    assert!(store.lock(PATIENCE).await.is_err());
}

#[tokio::test]
async fn a_folder_of_a_third_user_is_refused() {
    use std::os::unix::fs::chown;
    let (folder, store) = store();
    let tokens = folder.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    if chown(&tokens, Some(64_321), None).is_err() {
        // Only root can give a folder away, and only then is there anything to show.
        return;
    }
    let Err(error) = store.lock(PATIENCE).await else {
        panic!("a folder of another user was used");
    };
    assert!(error.to_string().contains("64321"), "{error}");
}

/// Root logs in for the service's user, who must be able to read and replace what root has written.
#[tokio::test]
async fn tokens_written_by_root_belong_to_the_owner_of_the_state_folder() {
    use std::os::unix::fs::{MetadataExt, chown};
    const SERVICE: u32 = 64_321;
    let (folder, store) = store();
    if chown(folder.path(), Some(SERVICE), Some(SERVICE)).is_err() {
        // Only root can give a folder away, and only then is there anything to show.
        return;
    }
    let locked = store.lock(PATIENCE).await.unwrap();
    locked.save(&record("first")).await.unwrap();
    let tokens = store.path().parent().unwrap().to_owned();
    for path in [store.path(), tokens.join("jira.lock"), tokens] {
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (SERVICE, SERVICE), "{path:?}");
    }
}
