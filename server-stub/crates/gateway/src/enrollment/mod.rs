//! Invitations: who may register a key, once, until when. An agent proves the secret of its token by a signature, so that
//! the gateway stores only a public key, which grants no access.
//!
//! | file | what |
//! |---|---|
//! | `invitation_store` | the files: creates, finds, uses and revokes invitations |
//! | `registration` | the SSH side: one command that takes a public key |
//!
//! It knows keys and files, no sessions.

mod invitation_store;
mod registration;

pub use invitation_store::{Invitation, InvitationError, InvitationState, InvitationStore};
pub(super) use registration::RegistrationSession;
