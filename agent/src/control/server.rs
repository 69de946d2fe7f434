//! The server side, inside the running agent.

use super::{CHECK_DEADLINE, ControlHandler, SOCKET_NAME, UpgradeError};
use crate::descriptors::{self, DescriptorBudget};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

/// The runtime socket, bound. Removed from the file system when dropped, unless another process has put its own in its
/// place.
pub struct ControlListener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Why the runtime socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum ControlListenError {
    /// Another agent answers on it.
    #[error(
        "{path}: another agent is running here; stop it, or give this one its own RUNTIME_DIRECTORY"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket or its folder cannot be created.
    #[error("{path}: {source}; the folder must exist and be writable by the agent's user")]
    Io {
        /// The socket or its folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl ControlListener {
    /// Binds `agent.sock` in `runtime_dir` with mode 0660. A socket that a dead agent left behind is replaced;
    /// one that answers is not.
    pub async fn bind(runtime_dir: &Path) -> Result<Self, ControlListenError> {
        let path = runtime_dir.join(SOCKET_NAME);
        let failed = |source| ControlListenError::Io {
            path: path.clone(),
            source,
        };
        if UnixStream::connect(&path).await.is_ok() {
            return Err(ControlListenError::InUse { path });
        }
        Self::bind_at(runtime_dir, path.clone()).map_err(failed)
    }

    /// Binds `agent.sock` in place of the agent that answers there now, which gets no further connection.
    pub fn take_over(runtime_dir: &Path) -> Result<Self, ControlListenError> {
        let path = runtime_dir.join(SOCKET_NAME);
        let bind = || {
            let mut listener = Self::bind_at(runtime_dir, runtime_dir.join(NEXT_SOCKET_NAME))?;
            fs::rename(&listener.path, &path)?;
            listener.path.clone_from(&path);
            Ok(listener)
        };
        bind().map_err(|source| ControlListenError::Io {
            path: path.clone(),
            source,
        })
    }

    fn bind_at(runtime_dir: &Path, path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(runtime_dir)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(SOCKET_MODE))?;
        let identity = identity(&path)?;
        Ok(Self {
            socket,
            path,
            identity,
        })
    }

    /// Handles requests until `stop` is cancelled.
    pub async fn serve(self, commands: Arc<dyn ControlHandler>, stop: CancellationToken) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut is_short = false;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => {
                    is_short = false;
                    stream
                }
                Err(error) => {
                    note_failed_accept(&error, &mut is_short);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                continue;
            };
            let commands = Arc::clone(&commands);
            let by = stream.peer_cred().ok().map(|peer| peer.uid());
            tokio::spawn(async move {
                let _permit = permit;
                let service = service_fn(|request| answer(request, commands.as_ref(), by));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .max_buf_size(MAX_HEAD)
                    .header_read_timeout(HEAD_DEADLINE)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service);
                let _ = tokio::time::timeout(CHECK_DEADLINE, connection).await;
            });
        }
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

async fn answer(
    request: Request<Incoming>,
    commands: &dyn ControlHandler,
    by: Option<u32>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let response = match (head.method, head.uri.path()) {
        (Method::GET, "/status") => json(&commands.status()),
        (Method::GET, "/metrics") => match commands.metrics() {
            Ok(page) => respond(StatusCode::OK, prometheus::TEXT_FORMAT, page.into_bytes()),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
        },
        (Method::PUT, "/log-level") => match read_text(body).await {
            Ok(level) => acknowledge(commands.set_log_level(&level)),
            Err(response) => response,
        },
        (Method::POST, "/check") => match read_text(body).await {
            Ok(forward) => json_or_problem(commands.check(&forward).await),
            Err(response) => response,
        },
        (Method::POST, "/check/tunnel") => match read_text(body).await {
            Ok(forward) => json_or_problem(commands.check_tunnel(&forward).await),
            Err(response) => response,
        },
        (Method::POST, "/events") => match read_json(body).await {
            Ok(query) => json_or_problem(commands.events(query)),
            Err(problem) => text(StatusCode::BAD_REQUEST, problem),
        },
        (Method::PUT, "/events/retry") => match read_json(body).await {
            Ok(order) => json_or_problem(commands.retry_events(order, by).await),
            Err(problem) => text(StatusCode::BAD_REQUEST, problem),
        },
        (Method::PUT, "/events/drop") => match read_json(body).await {
            Ok(order) => json_or_problem(commands.drop_events(order, by).await),
            Err(problem) => text(StatusCode::BAD_REQUEST, problem),
        },
        (Method::PUT, "/pause") => match read_json(body).await {
            Ok(request) => acknowledge(commands.pause(request, by).await),
            Err(problem) => text(StatusCode::BAD_REQUEST, problem),
        },
        (Method::PUT, "/resume") => match read_json(body).await {
            Ok(request) => acknowledge(commands.resume(request, by).await),
            Err(problem) => text(StatusCode::BAD_REQUEST, problem),
        },
        (Method::POST, "/logins/retry") => match read_text(body).await {
            Ok(name) => {
                let name = Some(name.as_str()).filter(|name| !name.is_empty());
                acknowledge(commands.retry_login(name))
            }
            Err(response) => response,
        },
        (Method::POST, "/upgrade") => match read_text(body).await {
            Ok(how) => match commands.upgrade(how == "retry", by).await {
                Ok(done) => text(StatusCode::OK, done),
                Err(UpgradeError::Failed(problem)) => text(StatusCode::BAD_REQUEST, problem),
                Err(UpgradeError::Unsupported(problem)) => {
                    text(StatusCode::NOT_IMPLEMENTED, problem)
                }
            },
            Err(response) => response,
        },
        (Method::POST, "/reload") => json_or_problem(commands.reload().await),
        _ => text(StatusCode::NOT_FOUND, "no such command".to_owned()),
    };
    Ok(response)
}

/// A body of one short line: a level, or the name of a forward.
async fn read_text(body: Incoming) -> Result<String, Response<Full<Bytes>>> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()),
        Err(_) => {
            let problem = format!("the body must not be longer than {MAX_BODY} bytes");
            Err(text(StatusCode::PAYLOAD_TOO_LARGE, problem))
        }
    }
}

async fn read_json<T: serde::de::DeserializeOwned>(body: Incoming) -> Result<T, String> {
    let body = Limited::new(body, MAX_REQUEST).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

fn json_or_problem(result: Result<impl serde::Serialize, String>) -> Response<Full<Bytes>> {
    match result {
        Ok(document) => json(&document),
        Err(problem) => text(StatusCode::BAD_REQUEST, problem),
    }
}

fn json(document: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(document) {
        Ok(json) => respond(StatusCode::OK, "application/json", json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn acknowledge(result: Result<(), String>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => text(StatusCode::NO_CONTENT, String::new()),
        Err(problem) => text(StatusCode::BAD_REQUEST, problem),
    }
}

fn text(status: StatusCode, message: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", message.into_bytes())
}

fn respond(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Accept is tried again and again: a shortage that lasts is one.
fn note_failed_accept(error: &io::Error, is_short: &mut bool) {
    if !descriptors::is_shortage(error) {
        return;
    }
    let budget = DescriptorBudget::of_process();
    match std::mem::replace(is_short, true) {
        false => budget.note_shortage(error),
        true => budget.note_lasting_shortage(error),
    }
}

/// The agent's user and group; systemd's RuntimeDirectory keeps everybody else out of the folder.
const SOCKET_MODE: u32 = 0o660;
/// Until it is renamed.
const NEXT_SOCKET_NAME: &str = "agent.sock.next";
/// Enough for a person and two monitoring systems.
const MAX_CONNECTIONS: usize = 8;
/// The commands send their request at once.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
const MAX_HEAD: usize = 8 << 10;
const MAX_BODY: usize = 1 << 10;
/// Names and a reason of 200 characters, or the id of an event, as JSON.
const MAX_REQUEST: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_shortage_is_counted_once_while_accept_fails() {
        let refused = || DescriptorBudget::of_process().snapshot().refused;
        let before = refused();
        let mut is_short = false;
        for errno in [Errno::CONNABORTED, Errno::MFILE, Errno::NFILE, Errno::MFILE] {
            note_failed_accept(&errno.into(), &mut is_short);
        }
        assert!(is_short);
        assert_eq!(refused() - before, 1);
    }
}
