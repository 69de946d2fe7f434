//! The properties that `fuzz/` checks with many bytes: one function a parser of bytes from outside. Each lies beside its parser,
//! where the tests check it too.

pub use agent_enrollment::fuzz_properties::enrollment_token;
pub use agent_policy::fuzz_properties::{policy_decision, request_target};
pub use agent_ssh::fuzz_properties::{known_hosts_file, tunnel_address};

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident = $path:path;)*) => {
        $($(#[$doc])* pub fn $name(bytes: &[u8]) { $path(bytes); })*
    };
}

properties! {
    /// HTTP/1.1 requests on a channel.
    framed_requests = crate::http::fuzz_properties::framed_requests;
    /// The head of one request.
    request_head = crate::http::fuzz_properties::request_head;
    /// A chunked body.
    chunked_body = crate::http::fuzz_properties::chunked_body;
    /// Frames of HTTP/2.
    http2_frames = crate::http::fuzz_properties::http2_frames;
    /// The head of Jira's answer.
    answer_head = crate::upstream::fuzz_properties::answer_head;
    /// Who answered.
    answer_source = crate::upstream::fuzz_properties::answer_source;
    /// A PEM file.
    pem_file = crate::upstream::fuzz_properties::pem_file;
    /// The answer of an OAuth 2.0 token service.
    oauth2_answer = crate::auth::fuzz_properties::oauth2_answer;
    /// The answer of an OAuth 1.0a token service.
    oauth1_answer = crate::auth::fuzz_properties::oauth1_answer;
    /// Cookies that Jira sets.
    upstream_cookies = crate::auth::fuzz_properties::upstream_cookies;
    /// Parameters that choose an identity.
    identity_parameter = crate::auth::fuzz_properties::identity_parameter;
    /// What a gateway sends before SSH.
    gateway_banner = crate::tunnel::session::fuzz_properties::gateway_banner;
    /// SSH keys and certificates in files.
    private_key_file = crate::tunnel::session::fuzz_properties::private_key_file;
    /// Requests on the runtime socket.
    control_request = crate::control::fuzz_properties::control_request;
}
