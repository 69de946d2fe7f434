//! What is in a secret file: read and made into something off the runtime, looked at again at most once a
//! second.

use super::{Concern, CredentialUnavailable};
use crate::{
    disk::SingleFlight,
    secret::{FileStamp, Secret, SecretDigest, SecretFile},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// A `T` made of what is in a secret file.
pub(super) struct CachedFile<T> {
    file: SecretFile,
    /// Makes it, or says what is wrong with the secret without repeating it.
    make: Arc<SecretParser<T>>,
    state: Mutex<CacheState<T>>,
    /// Held by the one task that looks at the file; a look that hangs is waited for by the next one.
    single_flight: tokio::sync::Mutex<SingleFlight<FileReading<T>>>,
}

/// A `T` as of a second ago at the latest.
pub(super) struct CachedValue<T> {
    pub(super) value: Arc<T>,
    /// Rises whenever the secret is another one, and never falls.
    pub(super) generation: u64,
}

type SecretParser<T> = dyn Fn(&Secret) -> Result<T, String> + Send + Sync;

struct CacheState<T> {
    checked_at: Option<Instant>,
    stamp: Option<FileStamp>,
    /// Of the secret that `generation` counts. The same content, written or made readable once more, is no other
    /// secret: Jira may have refused it, and a second try of it may lock the account.
    digest: Option<SecretDigest>,
    generation: u64,
    value: Option<Result<Arc<T>, CredentialUnavailable>>,
    /// Since when the disk has not answered.
    hangs_since: Option<Instant>,
}

impl<T: Send + Sync + 'static> CachedFile<T> {
    /// `make` may compute for a while.
    pub(super) fn new(
        file: SecretFile,
        make: impl Fn(&Secret) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            file,
            make: Arc::new(make),
            state: Mutex::new(CacheState {
                checked_at: None,
                stamp: None,
                digest: None,
                generation: 0,
                value: None,
                hangs_since: None,
            }),
            single_flight: tokio::sync::Mutex::default(),
        }
    }

    /// The number of what is known now; rises with each other one.
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// As [`current`](Self::current), whenever the last look was.
    pub(super) async fn reload(&self) -> Result<CachedValue<T>, CredentialUnavailable> {
        self.lock().checked_at = None;
        self.current().await
    }

    /// The last known value serves, while nobody can see whether there is another one.
    pub(super) fn concern(&self) -> Option<Concern> {
        let since = self.lock().hangs_since?;
        let limit = READ_TIMEOUT;
        (since.elapsed() > limit).then(|| Concern {
            why: CredentialUnavailable {
                cause: format!(
                    "{} could not be read within {limit:?}; its last known content is used",
                    self.file.path().display()
                ),
                remedy:
                    "look at the disk of that file; a changed secret is not seen before it answers"
                        .to_owned(),
            },
            since,
        })
    }

    pub(super) fn file(&self) -> &SecretFile {
        &self.file
    }

    pub(super) async fn current(&self) -> Result<CachedValue<T>, CredentialUnavailable> {
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        let mut looking = match self.single_flight.try_lock() {
            Ok(looking) => looking,
            // Somebody looks already, which takes no time; and what it finds may be what was refused
            // until now. On a disk that hangs, a value that was good a second ago is good enough.
            Err(_) => match timeout(SHARED_READ_WAIT, self.single_flight.lock()).await {
                Ok(looking) => looking,
                Err(_) => {
                    if let Some(known) = self.lock().current() {
                        return known;
                    }
                    self.single_flight.lock().await
                }
            },
        };
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        let (known, limit) = {
            let kept = self.lock();
            match kept.value {
                Some(Ok(_)) => (kept.stamp, SHARED_READ_WAIT),
                _ => (kept.stamp, READ_TIMEOUT),
            }
        };
        let found = self.read_changed(&mut looking, known, limit).await;
        let mut kept = self.lock();
        let now = Instant::now();
        kept.checked_at = Some(now);
        kept.hangs_since = match found {
            None => kept.hangs_since.or(Some(now)),
            Some(_) => None,
        };
        match found {
            // It hangs: what was good a moment ago is better than nothing, and is not forgotten.
            None if matches!(kept.value, Some(Ok(_))) => {}
            None => {
                let hangs = format!(
                    "{} could not be read within {READ_TIMEOUT:?}",
                    self.file.path().display()
                );
                kept.stamp = None;
                kept.value = Some(Err(self.unavailable(hangs)));
            }
            Some(Ok(None)) => {}
            Some(Ok(Some((stamp, made)))) => {
                kept.stamp = Some(stamp);
                kept.value = Some(made.map(|(digest, value)| {
                    if kept.digest.as_ref() != Some(&digest) {
                        kept.digest = Some(digest);
                        kept.generation += 1;
                    }
                    value
                }));
            }
            // Whatever comes back under this name is read anew.
            Some(Err(why)) => {
                kept.stamp = None;
                kept.value = Some(Err(why));
            }
        }
        drop(looking);
        let unread = || self.unavailable(format!("{} was not read", self.file.path().display()));
        kept.current().unwrap_or_else(|| Err(unread()))
    }

    fn fresh(&self) -> Option<Result<CachedValue<T>, CredentialUnavailable>> {
        let kept = self.lock();
        let looked_at = kept.checked_at?;
        (looked_at.elapsed() < CHECK_INTERVAL)
            .then(|| kept.current())
            .flatten()
    }

    /// `None`: the disk does not answer in time. `Ok(None)`: the file is the one that is known already.
    async fn read_changed(
        &self,
        looking: &mut SingleFlight<FileReading<T>>,
        known: Option<FileStamp>,
        limit: Duration,
    ) -> Option<Result<Option<StampedValue<T>>, CredentialUnavailable>> {
        let (file, make) = (self.file.clone(), Arc::clone(&self.make));
        let question = move || {
            let found = look(&file, known)?;
            Ok::<_, String>(found.map(|(stamp, secret)| {
                let made = secret.and_then(|secret| {
                    let value = make(&secret)
                        .map_err(|problem| format!("{} {problem}", file.path().display()))?;
                    Ok((secret.digest(), value))
                });
                (stamp, made)
            }))
        };
        Some(match looking.run(limit, question).await? {
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some((stamp, made)))) => Ok(Some((
                stamp,
                made.map(|(digest, value)| (digest, Arc::new(value)))
                    .map_err(|text| self.unavailable(text)),
            ))),
            Ok(Err(text)) => Err(self.unavailable(text)),
            // It panicked, or the runtime ends.
            Err(_) => {
                Err(self.unavailable(format!("{} could not be read", self.file.path().display())))
            }
        })
    }

    fn unavailable(&self, cause: String) -> CredentialUnavailable {
        CredentialUnavailable {
            cause,
            remedy: format!(
                "put the credential into {}; a changed file is picked up within seconds",
                self.file.path().display()
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, CacheState<T>> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the disk answers: the file's stamp and what was made of it, if it is another one than known.
type FileReading<T> = Result<Option<(FileStamp, Result<(SecretDigest, T), String>)>, String>;
type StampedValue<T> = (
    FileStamp,
    Result<(SecretDigest, Arc<T>), CredentialUnavailable>,
);

impl<T> CacheState<T> {
    /// `None` where nobody has looked yet.
    fn current(&self) -> Option<Result<CachedValue<T>, CredentialUnavailable>> {
        let value = self.value.as_ref()?.clone();
        Some(value.map(|value| CachedValue {
            value,
            generation: self.generation,
        }))
    }
}

/// Reads the file if it is another one than `known`. Blocks. The error texts name file and remedy.
#[expect(
    clippy::type_complexity,
    reason = "two kinds of failure: of the look, and of the file"
)]
fn look(
    file: &SecretFile,
    known: Option<FileStamp>,
) -> Result<Option<(FileStamp, Result<Secret, String>)>, String> {
    let mut stamp = file.stamp().map_err(|error| match file.check() {
        Err(told) => told.to_string(),
        Ok(()) => error.to_string(),
    })?;
    if known == Some(stamp) {
        return Ok(None);
    }
    for _ in 0..READ_AGAIN {
        let secret = file.read().map_err(|error| error.to_string());
        // A file that changes while it is read may have been read half written.
        match file.stamp() {
            Ok(after) if after != stamp => stamp = after,
            _ => return Ok(Some((stamp, secret))),
        }
    }
    Err(format!("{} keeps changing", file.path().display()))
}

/// A changed file is noticed after this at the latest.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a request waits for the look of another.
const SHARED_READ_WAIT: Duration = Duration::from_millis(200);
/// A file on a hanging network disk must not hold requests up for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads of a file that changes under our eyes.
const READ_AGAIN: usize = 3;
