//! From the vendor's token to a configuration that works: what is read, made, registered and put in place. Asks nobody
//! and prints nothing; `cli/enroll` does.
//!
//! | file | what |
//! |---|---|
//! | `token` | the line that the vendor sends |
//! | `key` | the agent's own key, and the line that authorises it |
//! | `answers` | what only the customer knows: Jira, the login there, what the vendor may do |
//! | `drop_in` | both together as a drop-in of the configuration |
//! | `directory` | the folder: what is there, what counts, one enrolment at a time |
//! | `staged` | what is being made, and the one step that puts it in place |
//! | `files` | files that a crash leaves whole or not there |
//! | `register` | the public key over SSH by the one-time secret, and the proof that it works |
//!
//! Nothing counts before the drop-in has its name, which is one `rename`. All that it names has been written into a
//! folder of its own before, so that whoever stops halfway leaves what was there before, and perhaps a folder that the
//! next enrolment removes or, where the vendor may know its key already, goes on with.

mod answers;
mod directory;
mod drop_in;
mod files;
mod key;
mod register;
mod staged;
mod token;

pub use answers::{AuthAnswers, EnrollmentAnswers, ProxyAnswers};
pub use directory::{ActiveEnrollment, EnrollmentDir};
pub use files::EnrollmentFileError;
pub use key::{authorized_line, registered_options};
pub use register::{COMMAND, RegistrationError, prove, register};
pub use staged::{AgentKey, StagedEnrollment};
pub use token::{
    EnrollmentToken, EnrollmentTokenError, MAX_LEN, OneTimeSecret, PREFIX, TokenForward,
};
