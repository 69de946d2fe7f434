//! A place that a session holds, for whoever proves that requests through it arrive.

use super::machine::{PlaceLoss, SessionId};
use crate::tunnel::{BindAddress, ListeningPlace, PlaceProof, PlaceTaker, session::Session};
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
        loss(&self.place.proof(), &self.place.bind())
    }
}

/// The loss that a proof of the place at `bind` shows, if it is to be given up.
fn loss(proof: &PlaceProof, bind: &BindAddress) -> Option<PlaceLoss> {
    match proof {
        PlaceProof::Granted(_)
        | PlaceProof::Proven
        | PlaceProof::Taken(PlaceTaker::OwnConnection(_)) => None,
        PlaceProof::Taken(PlaceTaker::OtherAgent) => Some(PlaceLoss::OtherAgent),
        // The session gets the requests at another address of the same name.
        PlaceProof::Taken(PlaceTaker::OtherProgram(at, _)) if at != bind => {
            Some(PlaceLoss::HalfTaken)
        }
        PlaceProof::Taken(PlaceTaker::OtherProgram(..)) | PlaceProof::Lost(_) => {
            Some(PlaceLoss::Gone)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_half_of_a_port_that_serves_is_no_loss() {
        let bind: BindAddress = "localhost:8080".parse().unwrap();
        let taken = |at: &str| {
            let at = at.parse().unwrap();
            PlaceProof::Taken(PlaceTaker::OtherProgram(at, "answers 200".into()))
        };
        assert_eq!(
            loss(&taken("[::1]:8080"), &bind),
            Some(PlaceLoss::HalfTaken)
        );
        assert_eq!(loss(&taken("localhost:8080"), &bind), Some(PlaceLoss::Gone));
    }
}
