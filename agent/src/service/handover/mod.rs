//! Hands the running agent over to a new process: a new version, or the same one, without losing or refusing a request.
//!
//! The old process starts the program on the disk beside itself. The new one opens sessions of its own, proves what the
//! old one has proven, requests its forwards, and takes over; then the old one drains. A socket pair joins them until one
//! ends.
//!
//! | file | what |
//! |---|---|
//! | `phases` | both sides as pure state machines |
//! | `messages` | what they say to each other, one JSON object a line |
//! | `proof` | what each has proven, and what the new one lacks |
//! | `predecessor` | the old process: answers requests, hands over |
//! | `attempt` | one new process, as the old one sees it: start, judge, end |
//! | `handed_over` | the old process after that |
//! | `successor` | the new process: prove, take over |
//! | `process` | starting, killing and recognizing programs |

mod attempt;
mod handed_over;
mod messages;
mod phases;
mod predecessor;
mod process;
mod proof;
mod successor;

pub(super) use handed_over::HandedOver;
pub(super) use predecessor::{Coordinator, UpgradeCondition, UpgradeRequest};
pub(super) use process::ReplaceableProgram;
pub use process::detach;
pub use successor::PredecessorLink;
pub(super) use successor::Successor;
