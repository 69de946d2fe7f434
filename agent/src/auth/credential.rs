//! A credential in a file: read off the runtime, looked at again at most once a second, rendered into
//! the `Authorization` value.

use super::{Credential, Unavailable};
use crate::secret::{Secret, SecretFile, Stamp};
use http::HeaderValue;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// The `Authorization` value made of what is in a secret file.
pub(super) struct FileCredential {
    file: SecretFile,
    /// Makes the whole header value, or says what is wrong with the secret without repeating it.
    render: Box<Render>,
    kept: Mutex<Kept>,
    /// Held by the one task that looks at the file.
    looking: tokio::sync::Mutex<()>,
}

type Render = dyn Fn(&Secret) -> Result<Secret, String> + Send + Sync;

#[derive(Clone, Default)]
struct Kept {
    looked_at: Option<Instant>,
    stamp: Option<Stamp>,
    generation: u64,
    value: Option<Result<Arc<Secret>, Unavailable>>,
}

impl FileCredential {
    pub(super) fn new(
        file: SecretFile,
        render: impl Fn(&Secret) -> Result<Secret, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            file,
            render: Box::new(render),
            kept: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn file(&self) -> &SecretFile {
        &self.file
    }

    /// The value as of a second ago at the latest.
    pub(super) async fn current(&self) -> Result<Credential, Unavailable> {
        if let Some(fresh) = self.fresh() {
            return fresh.credential();
        }
        let looking = match self.looking.try_lock() {
            Ok(looking) => looking,
            // Somebody looks already, which takes no time; and what it finds may be what was refused
            // until now. On a disk that hangs, a value that was good a second ago is good enough.
            Err(_) => match timeout(OTHERS_LOOK, self.looking.lock()).await {
                Ok(looking) => looking,
                Err(_) => {
                    let kept = self.lock().clone();
                    if kept.value.is_some() {
                        return kept.credential();
                    }
                    self.looking.lock().await
                }
            },
        };
        if let Some(fresh) = self.fresh() {
            return fresh.credential();
        }
        let known = self.lock().stamp;
        let found = self.look(known).await;
        let mut kept = self.lock();
        kept.looked_at = Some(Instant::now());
        match found {
            Ok(None) => {}
            Ok(Some((stamp, secret))) => {
                kept.stamp = Some(stamp);
                kept.generation += 1;
                let rendered = secret.and_then(|secret| {
                    (self.render)(&secret).map_err(|problem| {
                        self.unavailable(format!("{} {problem}", self.file.path().display()))
                    })
                });
                kept.value = Some(rendered.map(Arc::new));
            }
            // Whatever comes back under this name is read anew.
            Err(why) => {
                kept.stamp = None;
                kept.value = Some(Err(why));
            }
        }
        drop(looking);
        kept.credential()
    }

    fn fresh(&self) -> Option<Kept> {
        let kept = self.lock();
        let looked_at = kept.looked_at?;
        (looked_at.elapsed() < LOOK_EVERY).then(|| kept.clone())
    }

    /// `Ok(None)` when the file is the one that is known already.
    async fn look(&self, known: Option<Stamp>) -> Result<Option<Look>, Unavailable> {
        let file = self.file.clone();
        let looking = tokio::task::spawn_blocking(move || look(&file, known));
        match timeout(LOOK_TIMEOUT, looking).await {
            Ok(Ok(Ok(None))) => Ok(None),
            Ok(Ok(Ok(Some((stamp, secret))))) => {
                Ok(Some((stamp, secret.map_err(|text| self.unavailable(text)))))
            }
            Ok(Ok(Err(text))) => Err(self.unavailable(text)),
            Ok(Err(_)) | Err(_) => Err(self.unavailable(format!(
                "{} could not be read within {LOOK_TIMEOUT:?}",
                self.file.path().display()
            ))),
        }
    }

    fn unavailable(&self, cause: String) -> Unavailable {
        Unavailable {
            cause,
            remedy: format!(
                "put the credential into {}; a changed file is picked up within seconds",
                self.file.path().display()
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Look = (Stamp, Result<Secret, Unavailable>);

impl Kept {
    fn credential(&self) -> Result<Credential, Unavailable> {
        let secret = match &self.value {
            Some(Ok(secret)) => secret,
            Some(Err(why)) => return Err(why.clone()),
            None => return Err(unprintable()),
        };
        let mut authorization =
            HeaderValue::from_bytes(secret.expose()).map_err(|_| unprintable())?;
        authorization.set_sensitive(true);
        Ok(Credential {
            authorization,
            generation: self.generation,
        })
    }
}

fn unprintable() -> Unavailable {
    Unavailable {
        cause: "the credential cannot stand in an HTTP header".to_owned(),
        remedy: "check the secret's file for stray control characters".to_owned(),
    }
}

/// Reads the file if it is another one than `known`. Blocks. The error texts name file and remedy.
#[expect(
    clippy::type_complexity,
    reason = "two kinds of failure: of the look, and of the file"
)]
fn look(
    file: &SecretFile,
    known: Option<Stamp>,
) -> Result<Option<(Stamp, Result<Secret, String>)>, String> {
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
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a request waits for the look of another.
const OTHERS_LOOK: Duration = Duration::from_millis(200);
/// A file on a hanging network disk must not hold requests up for ever.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads of a file that changes under our eyes.
const READ_AGAIN: usize = 3;
