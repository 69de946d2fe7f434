//! What is in a secret file: read and parsed off the runtime, at most once a second.

use super::{
    Concern, CredentialUnavailable,
    shared_read::{CacheContent, SharedRead},
};
use crate::secret::{FileStamp, Secret, SecretDigest, SecretFile};
use parking_lot::Mutex;
use std::{io, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A `T` made of what is in a secret file.
pub(super) struct CachedFile<T> {
    file: SecretFile,
    /// Makes it, or explains what is wrong with the secret without repeating it.
    parse: Arc<SecretParser<T>>,
    state: Mutex<CacheState<T>>,
    reads: SharedRead<FileReading<T>>,
}

/// A `T` as of a second ago at the latest.
pub(super) struct CachedValue<T> {
    pub(super) value: Arc<T>,
    /// Rises whenever the secret is another one, and never falls.
    pub(super) generation: u64,
}

type SecretParser<T> = dyn Fn(&Secret) -> Result<T, String> + Send + Sync;

/// `None`: the file is the one known. The outer error is of the read and is forgotten with the next one; the inner one
/// is of the content, which is not read again before the file changes.
type FileReading<T> = Result<Option<(FileStamp, ParsedSecret<T>)>, String>;
type ParsedSecret<T> = Result<(SecretDigest, Arc<T>), String>;

struct CacheState<T> {
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
    /// `parse` may compute for a while.
    pub(super) fn new(
        file: SecretFile,
        parse: impl Fn(&Secret) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            file,
            parse: Arc::new(parse),
            state: Mutex::new(CacheState {
                stamp: None,
                digest: None,
                generation: 0,
                value: None,
                hangs_since: None,
            }),
            reads: SharedRead::default(),
        }
    }

    pub(super) fn file(&self) -> &SecretFile {
        &self.file
    }

    /// The number of the last known value; rises with each other one.
    pub(super) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// As [`current`](Self::current), however recent the last read is.
    pub(super) async fn reload(&self) -> Result<CachedValue<T>, CredentialUnavailable> {
        self.reads.invalidate();
        self.current().await
    }

    /// Why the last known value is used although the file may hold another one.
    pub(super) fn concern(&self) -> Option<Concern> {
        let since = self.state.lock().hangs_since?;
        (since.elapsed() > READ_TIMEOUT).then(|| Concern {
            why: CredentialUnavailable {
                cause: format!(
                    "{} could not be read within {READ_TIMEOUT:?}; its last known content is used",
                    self.file.path().display()
                ),
                remedy: "check the disk of that file; a changed secret is not seen before the disk answers".to_owned(),
            },
            since,
        })
    }

    /// The value, or why there is none.
    pub(super) async fn current(&self) -> Result<CachedValue<T>, CredentialUnavailable> {
        let content = || match self.state.lock().value {
            None => CacheContent::Nothing,
            Some(Err(_)) => CacheContent::Error,
            Some(Ok(_)) => CacheContent::Value,
        };
        let prepare = || {
            let (file, parse) = (self.file.clone(), Arc::clone(&self.parse));
            let known = self.state.lock().stamp;
            move || read_changed(&file, known, &*parse)
        };
        self.reads
            .run_if_due(READ_TIMEOUT, content, prepare, |reading| {
                self.apply(reading)
            })
            .await;
        let state = self.state.lock();
        match &state.value {
            Some(Ok(value)) => Ok(CachedValue {
                value: Arc::clone(value),
                generation: state.generation,
            }),
            Some(Err(why)) => Err(why.clone()),
            None => Err(self.unavailable(format!("{} was not read", self.file.path().display()))),
        }
    }

    /// Takes over the result of a read; `None` is a disk that hangs.
    fn apply(&self, reading: Option<io::Result<FileReading<T>>>) {
        let mut state = self.state.lock();
        let path = self.file.path().display();
        if reading.is_some() {
            state.hangs_since = None;
        }
        let reading = match reading {
            None => {
                state.hangs_since.get_or_insert_with(Instant::now);
                if matches!(state.value, Some(Ok(_))) {
                    // What was good a moment ago is better than nothing.
                    return;
                }
                Err(format!("{path} could not be read within {READ_TIMEOUT:?}"))
            }
            // It panicked, or the runtime ends.
            Some(Err(_)) => Err(format!("{path} could not be read")),
            Some(Ok(reading)) => reading,
        };
        let (stamp, parsed) = match reading {
            Ok(None) => return,
            Ok(Some((stamp, parsed))) => (Some(stamp), parsed),
            Err(why) => (None, Err(why)),
        };
        state.stamp = stamp;
        state.value = Some(match parsed {
            Ok((digest, value)) => {
                if state.digest.as_ref() != Some(&digest) {
                    state.digest = Some(digest);
                    state.generation += 1;
                }
                Ok(value)
            }
            Err(why) => Err(self.unavailable(why)),
        });
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
}

/// Reads and parses the file if it is another one than `known`. Blocks. The error texts name file and remedy.
fn read_changed<T>(
    file: &SecretFile,
    known: Option<FileStamp>,
    parse: &SecretParser<T>,
) -> FileReading<T> {
    let mut stamp = file.stamp().map_err(|error| match file.check() {
        Err(why) => why.to_string(),
        Ok(()) => error.to_string(),
    })?;
    if known == Some(stamp) {
        return Ok(None);
    }
    for _ in 0..READ_ATTEMPTS {
        let secret = file.read().map_err(|error| error.to_string());
        match file.stamp() {
            // A file that changes while it is read may have been read half written.
            Ok(after) if after != stamp => stamp = after,
            _ => {
                let parsed = secret.and_then(|secret| {
                    let value = parse(&secret)
                        .map_err(|problem| format!("{} {problem}", file.path().display()))?;
                    Ok((secret.digest(), Arc::new(value)))
                });
                return Ok(Some((stamp, parsed)));
            }
        }
    }
    Err(format!("{} keeps changing", file.path().display()))
}

/// A file on a network disk that hangs must not hold requests up for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads of a file that changes while it is read.
const READ_ATTEMPTS: usize = 3;
