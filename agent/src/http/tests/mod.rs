//! Channels as the vendor sees them: real HTTP bytes in, the real way to a Jira of a few lines, out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auditing;
mod dry_run;
mod failing;
mod forms;
mod health;
mod http2;
mod http2_hostile;
mod limits;
mod own_statements;
mod passing;
mod refused;
mod refusing;
mod repeated;
mod source;
mod storing;
mod support;
mod trailers;
mod vendor_headers;
