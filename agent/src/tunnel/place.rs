//! Where the gateway listens for one forward of one session, and what requests through it have shown.

use super::{BindAddress, PlaceProof};
use parking_lot::Mutex;
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A place that a session has asked for. Its channels and the session share it.
#[derive(Debug)]
pub struct ListeningPlace {
    bind: Mutex<BindAddress>,
    /// The gateway has not answered in time: it should prefer another place.
    suspect: AtomicBool,
    health_requests: AtomicU64,
    checked_at: Mutex<Option<Instant>>,
    proof: Mutex<PlaceProof>,
}

impl ListeningPlace {
    /// A place that nothing has come through yet.
    pub fn new(bind: BindAddress) -> Self {
        Self {
            bind: Mutex::new(bind),
            suspect: AtomicBool::new(false),
            health_requests: AtomicU64::new(0),
            checked_at: Mutex::new(None),
            proof: Mutex::new(PlaceProof::Granted(None)),
        }
    }

    /// The address that was asked for, with the port that the gateway chose.
    pub fn bind(&self) -> BindAddress {
        self.bind.lock().clone()
    }

    pub(super) fn set_port(&self, given: u16) {
        if let BindAddress::Tcp { port, .. } = &mut *self.bind.lock() {
            *port = given;
        }
    }

    /// Whether health requests through it are answered 503.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Relaxed)
    }

    /// Sets whether health requests are answered 503.
    pub fn set_suspect(&self, suspect: bool) {
        self.suspect.store(suspect, Relaxed);
    }

    /// A health request has come through it: the gateway listens here, for this session. `own`: this agent has sent it.
    pub fn note_health_request(&self, own: bool) {
        self.health_requests.fetch_add(1, Relaxed);
        if !own {
            *self.checked_at.lock() = Some(Instant::now());
        }
    }

    /// Health requests that have come through it.
    pub fn health_requests(&self) -> u64 {
        self.health_requests.load(Relaxed)
    }

    /// Whether the gateway checks it, so that it prefers another place soon after this one refuses.
    pub fn is_checked(&self) -> bool {
        self.checked_at()
            .is_some_and(|at| at.elapsed() < CHECK_PAUSE)
    }

    /// What requests through it have shown last.
    pub fn proof(&self) -> PlaceProof {
        self.proof.lock().clone()
    }

    /// Sets what requests through it have shown. Returns the value before.
    pub fn set_proof(&self, proof: PlaceProof) -> PlaceProof {
        std::mem::replace(&mut *self.proof.lock(), proof)
    }

    /// When the last health request of the gateway came through it.
    pub fn checked_at(&self) -> Option<Instant> {
        *self.checked_at.lock()
    }
}

/// A gateway that checks does so each second or each few.
const CHECK_PAUSE: Duration = Duration::from_secs(6);

/// A random name of this process, in its answers to health requests: a request through a place shows by it whether this
/// agent or another one listens there.
pub fn instance() -> &'static str {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    INSTANCE.get_or_init(|| uuid::Uuid::new_v4().simple().to_string())
}
