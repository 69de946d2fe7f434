//! What the end-to-end tests and the benchmarks share: real parts started, watched and ended by pid.
#![forbid(unsafe_code)]

pub mod agent;
pub mod background_load;
pub mod caller;
pub mod capture;
pub mod client_script;
pub mod cluster;
pub mod egress;
pub mod enrollment;
pub mod gateway;
pub mod handover;
pub mod imitated_tool;
pub mod impaired_link;
pub mod lab;
pub mod load;
pub mod login;
pub mod nginx;
pub mod origin;
pub mod other_gateway;
pub mod process;
pub mod raw_http;
pub mod recording_origin;
pub mod setup;
pub mod ssh_pair;
pub mod sshd;
pub mod strace;
pub mod stub;
pub mod tcp_server;
pub mod test_env;
pub mod tunnel;
pub mod wait;
