//! The login of a forward as the way of a request sees it: prepare, send, observe.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod canary;
mod circuit;
mod cookies;
mod identity;
mod login;
mod strip;

use super::{login::AuthMode, *};
use crate::{
    secret::SecretFile,
    status::{ProofState, StatusLayer},
};
use http::{HeaderValue, Request, Response, response};
use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A secret in a file of its own, gone with the test.
struct Secrets {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Secrets {
    fn new(secret: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let secrets = Self {
            path,
            _folder: folder,
        };
        secrets.write(secret);
        secrets
    }

    /// Replaces the file, as an editor does.
    fn write(&self, secret: &str) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, secret).unwrap();
        std::fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&new, &self.path).unwrap();
    }

    fn file(&self) -> SecretFile {
        SecretFile::new(self.path())
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn basic(&self) -> (Arc<UpstreamAuth>, Arc<StatusLayer>) {
        login(Settings::Basic {
            username: "acme-bot".to_owned(),
            password_file: self.file(),
        })
    }

    fn pat(&self) -> (Arc<UpstreamAuth>, Arc<StatusLayer>) {
        login(Settings::Pat {
            token_file: self.file(),
            expires: None,
        })
    }
}

fn login(settings: Settings) -> (Arc<UpstreamAuth>, Arc<StatusLayer>) {
    let layer = Arc::new(StatusLayer::default());
    (Arc::new(UpstreamAuth::new(settings, layer.clone())), layer)
}

fn get(target: &str) -> request::Parts {
    request(target, &[])
}

fn request(target: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::get(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn answer(status: u16, headers: &[(&str, &str)]) -> response::Parts {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap().into_parts().0
}

const MYSELF: &str = "/jira/rest/api/2/myself";
const KNOWN: &[(&str, &str)] = &[
    ("x-ausername", "acme-bot"),
    ("x-seraph-loginreason", "OK"),
    ("set-cookie", "JSESSIONID=F00; Path=/jira; HttpOnly"),
    ("set-cookie", "atlassian.xsrf.token=B00"),
];
const REFUSED: &[(&str, &str)] = &[("x-seraph-loginreason", "AUTHENTICATED_FAILED")];
