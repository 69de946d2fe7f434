//! What the end-to-end tests and the benchmarks share: real parts started, watched and ended by pid.
#![forbid(unsafe_code)]

pub mod agent;
pub mod caller;
pub mod cluster;
pub mod crash;
pub mod egress;
pub mod enrol;
pub mod gateway;
pub mod link;
pub mod load;
pub mod login;
pub mod nginx;
pub mod origin;
pub mod other_gateway;
pub mod process;
pub mod python;
pub mod setup;
pub mod site;
pub mod ssh_pair;
pub mod sshd;
pub mod steady;
pub mod tap;
pub mod tunnel;
pub mod wire;
pub mod witness;
