#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use std::{sync::Barrier, time::Duration};

fn key() -> PublicKey {
    OneTimeSecret::generate().key().public_key().clone()
}

struct TestStore {
    _folder: tempfile::TempDir,
    store: InvitationStore,
    secret: OneTimeSecret,
    invitation: Invitation,
}

fn env(lifetime: Duration) -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let store = InvitationStore::new(folder.path());
    let secret = OneTimeSecret::generate();
    let invitation = store
        .invite(
            &"acme".parse().unwrap(),
            &secret,
            &"127.0.0.1:8080".parse().unwrap(),
            None,
            SystemTime::now() + lifetime,
        )
        .unwrap();
    TestStore {
        _folder: folder,
        store,
        secret,
        invitation,
    }
}

const HOUR: Duration = Duration::from_secs(3600);

impl TestStore {
    fn redeem(&self, key: &PublicKey) -> Result<(), InvitationError> {
        self.store.redeem(&self.invitation, key, SystemTime::now())
    }

    fn authorized(&self) -> String {
        let path = self
            .store
            .gateway_folder
            .join("agents/acme/authorized_keys");
        fs::read_to_string(path).unwrap_or_default()
    }
}

#[test]
fn an_invitation_registers_one_key_and_confines_it() {
    let env = env(HOUR);
    let key = key();
    env.redeem(&key).unwrap();
    let line = env.authorized();
    assert!(
        line.starts_with("restrict,port-forwarding,command=\"/bin/false\",permitlisten=\"127.0.0.1:8080\" ssh-ed25519 "),
        "{line}"
    );
    let again = env.redeem(&self::key()).unwrap_err();
    assert!(matches!(again, InvitationError::Used { .. }), "{again}");
    // The same key again, because the reply may have been lost.
    env.redeem(&key).unwrap();
    assert_eq!(env.authorized(), line);
}

#[test]
fn of_many_that_race_one_wins() {
    let env = env(HOUR);
    let begin = Barrier::new(16);
    let won = std::thread::scope(|scope| {
        let race = || {
            begin.wait();
            env.redeem(&key()).is_ok()
        };
        let racing: Vec<_> = (0..16).map(|_| scope.spawn(race)).collect();
        racing
            .into_iter()
            .filter(|_| true)
            .map(|one| one.join().unwrap())
            .filter(|won| *won)
            .count()
    });
    assert_eq!(won, 1);
    assert_eq!(env.authorized().lines().count(), 1);
}

#[test]
fn an_expired_or_withdrawn_invitation_registers_nothing() {
    let late = env(Duration::ZERO);
    assert!(matches!(
        late.redeem(&key()),
        Err(InvitationError::Expired(_))
    ));
    let withdrawn = env(HOUR);
    withdrawn.store.revoke(&withdrawn.invitation).unwrap();
    assert!(matches!(
        withdrawn.redeem(&key()),
        Err(InvitationError::Unknown(_))
    ));
    assert_eq!(withdrawn.authorized() + &late.authorized(), "");
}

#[test]
fn nothing_that_is_kept_lets_anybody_in() {
    let env = env(HOUR);
    let agent = "acme".parse().unwrap();
    let one_time = env.secret.key();
    let found = env.store.find(&agent, one_time.public_key()).unwrap();
    assert_eq!(found.unwrap().state, InvitationState::Open);
    assert!(env.store.find(&agent, &key()).unwrap().is_none());
    let other = "globex".parse().unwrap();
    assert!(
        env.store
            .find(&other, one_time.public_key())
            .unwrap()
            .is_none()
    );
    let text = fs::read_to_string(
        env.store
            .gateway_folder
            .join(format!("enrolments/acme/{}.json", env.invitation.id)),
    )
    .unwrap();
    assert!(
        text.contains("ssh-ed25519 AAAA") && !text.contains("PRIVATE"),
        "{text}"
    );
}

#[test]
fn a_file_without_a_newline_at_its_end_loses_no_key() {
    let env = env(HOUR);
    let path = env.store.gateway_folder.join("agents/acme/authorized_keys");
    let old = key().to_openssh().unwrap();
    fs::write(&path, &old).unwrap();
    env.redeem(&key()).unwrap();
    assert_eq!(env.authorized().lines().next(), Some(old.as_str()));
    assert_eq!(env.authorized().lines().count(), 2);
}

#[test]
fn a_key_that_was_taken_away_does_not_come_back_by_its_token() {
    let env = env(HOUR);
    let key = key();
    env.redeem(&key).unwrap();
    let file = env.store.gateway_folder.join("agents/acme/authorized_keys");
    fs::write(&file, "").unwrap();
    // No error, because the reply may have been lost.
    env.redeem(&key).unwrap();
    assert_eq!(env.authorized(), "");
    let later = SystemTime::now() + 2 * HOUR;
    let refused = env.store.redeem(&env.invitation, &key, later);
    assert!(
        matches!(refused, Err(InvitationError::Expired(_))),
        "{refused:?}"
    );
}

#[test]
fn a_key_that_could_not_be_written_is_written_at_the_next_try() {
    let env = env(HOUR);
    let key = key();
    let obstacle = env.store.gateway_folder.join("agents/acme/authorized_keys");
    fs::create_dir_all(&obstacle).unwrap();
    env.redeem(&key).unwrap_err();
    fs::remove_dir(&obstacle).unwrap();
    env.redeem(&key).unwrap();
    assert_ne!(env.authorized(), "");
}
