//! Invitations: who may register a key, once, until when. An agent proves the secret of its token by a signature, so
//! that what is kept here is a public key, which lets nobody in.
//!
//! | file | what |
//! |---|---|
//! | `book` | the files: made, found, used once, withdrawn |
//! | `counter` | the SSH side: one command that takes a public key |
//!
//! Knows keys and files, knows no session.

mod book;
mod counter;

pub use book::{Book, BookError, Invitation, State};
pub(super) use counter::Counter;
