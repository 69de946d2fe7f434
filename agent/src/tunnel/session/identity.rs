//! The key, and the certificate beside it, by which we log in.

/// A private key with its optional OpenSSH user certificate.
pub struct Identity {}
