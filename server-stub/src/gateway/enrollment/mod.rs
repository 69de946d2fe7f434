//! Invitations: who may register a key, once, until when. An agent proves the secret of its token by a signature, so
//! that what is kept here is a public key, which lets nobody in.
//!
//! | file | what |
//! |---|---|
//! | `invitation_store` | the files: made, found, used once, withdrawn |
//! | `registration` | the SSH side: one command that takes a public key |
//!
//! Knows keys and files, knows no session.

mod invitation_store;
mod registration;

pub use invitation_store::{Invitation, InvitationError, InvitationState, InvitationStore};
pub(super) use registration::RegistrationSession;
