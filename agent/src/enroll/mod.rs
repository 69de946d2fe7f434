//! From the vendor's token to a working configuration. Never prompts or prints; `cli/enroll` does.
//!
//! | file | what |
//! |---|---|
//! | `key` | the agent's key, and the authorized_keys line for it |
//! | `answers` | what only the customer knows: Jira, the credential, the policy |
//! | `drop_in` | token and answers as a drop-in of the configuration |
//! | `directory` | the folder: its enrollments, the active one, a lock |
//! | `staged` | a new enrollment, and the rename that commits it |
//! | `files` | crash-safe files |
//! | `register` | registers the public key over SSH with the one-time secret, and tests it |
//!
//! Nothing takes effect before one `rename` gives the drop-in its name. All files that it names were written to a new
//! folder before. So an interrupted run leaves the host as it was, with at most one more folder. The next enrollment
//! removes it, or reuses its key if the vendor may know it.

mod answers;
mod directory;
mod drop_in;
mod files;
mod key;
mod register;
mod staged;

pub use agent_enrollment::{
    EnrollmentToken, EnrollmentTokenError, OneTimeSecret, REGISTER_COMMAND, TOKEN_MAX_LEN,
    TOKEN_PREFIX, TokenForward, authorized_line, registered_options,
};
pub use answers::{AuthAnswers, EnrollmentAnswers, ProxyAnswers};
pub use directory::{ActiveEnrollment, EnrollmentDir, agent_user};
pub use files::EnrollmentFileError;
pub use register::{RegistrationError, prove, register};
pub use staged::{AgentKey, StagedEnrollment};
