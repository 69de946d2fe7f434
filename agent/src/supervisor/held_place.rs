//! A place that a session holds, for whoever proves that requests through it arrive.

use super::machine::{PlaceLoss, SessionId};
use crate::tunnel::{ListeningPlace, PlaceProof, PlaceTaker, session::Session};
use std::sync::Arc;

/// A forward that the gateway has granted to a session.
#[derive(Clone)]
pub struct HeldPlace {
    /// Name of the forward.
    pub name: Arc<str>,
    /// The session that holds it.
    pub session: Session,
    /// Number of the session's connection, from 0.
    pub connection: usize,
    /// Where the gateway listens.
    pub place: Arc<ListeningPlace>,
    pub(super) id: SessionId,
    /// The forward's number.
    pub(super) forward: usize,
}

/// A forward of one session, whatever place it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeldPlaceKey(SessionId, usize);

impl HeldPlace {
    /// The same as long as the session lasts, also if it asks for the forward again.
    pub fn key(&self) -> HeldPlaceKey {
        HeldPlaceKey(self.id, self.forward)
    }

    /// The loss that its proof shows, if the place is to be given up.
    pub(super) fn loss(&self) -> Option<PlaceLoss> {
        match self.place.proof() {
            PlaceProof::Granted(_)
            | PlaceProof::Proven
            | PlaceProof::Taken(PlaceTaker::OwnConnection(_)) => None,
            PlaceProof::Taken(PlaceTaker::OtherAgent) => Some(PlaceLoss::OtherAgent),
            PlaceProof::Taken(PlaceTaker::OtherProgram(..)) | PlaceProof::Lost(_) => {
                Some(PlaceLoss::Gone)
            }
        }
    }
}
