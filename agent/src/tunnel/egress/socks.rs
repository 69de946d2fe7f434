//! SOCKS5 (RFC 1928) with user name and password (RFC 1929), by tokio-socks, which does not read ahead.

use super::{ProxyFault, proxy::LoadedProxyCredential};
use tokio::net::TcpStream;
use tokio_socks::{Error, tcp::Socks5Stream};

/// Requests a connection; the proxy resolves names. The caller sets a deadline.
pub(super) async fn connect(
    stream: TcpStream,
    host: &str,
    port: u16,
    login: Option<&LoadedProxyCredential>,
) -> Result<TcpStream, (ProxyFault, String)> {
    let target = (host, port);
    let asked = match login {
        None => Socks5Stream::connect_with_socket(stream, target).await,
        Some(login) => {
            let password = std::str::from_utf8(login.password.expose())
                .map_err(|_| (ProxyFault::Password, "it is not UTF-8".to_owned()))?;
            let (user, socket) = (login.username.as_str(), stream);
            Socks5Stream::connect_with_password_and_socket(socket, target, user, password).await
        }
    };
    asked
        .map(Socks5Stream::into_inner)
        .map_err(|error| refusal(&error, login))
}

fn refusal(error: &Error, login: Option<&LoadedProxyCredential>) -> (ProxyFault, String) {
    let user = |login: &LoadedProxyCredential| format!("user {:?}", login.username);
    let fault = match (error, login) {
        (Error::PasswordAuthFailure(_), Some(login)) => {
            return (ProxyFault::LoginRefused, user(login));
        }
        (Error::NoAcceptableAuthMethods, None) => ProxyFault::LoginMissing,
        (Error::NoAcceptableAuthMethods, Some(_)) => {
            let problem = "it takes no login by user name and password".to_owned();
            return (ProxyFault::LoginScheme, problem);
        }
        (Error::ConnectionNotAllowedByRuleset, _) => ProxyFault::Policy,
        (
            Error::GeneralSocksServerFailure
            | Error::NetworkUnreachable
            | Error::HostUnreachable
            | Error::ConnectionRefused
            | Error::TtlExpired,
            _,
        ) => ProxyFault::Gateway,
        (Error::AuthorizationRequired, _) => ProxyFault::LoginMissing,
        (Error::InvalidResponseVersion, _) => {
            return (ProxyFault::NotAProxy, "does not speak SOCKS5".to_owned());
        }
        (Error::Io(_), Some(login)) => {
            // Some close the connection instead of answering (RFC 1929).
            let problem = format!(
                "closed the connection without an answer ({error}); it may refuse the login of {}",
                user(login)
            );
            return (ProxyFault::Closed, problem);
        }
        (Error::Io(_), None) => {
            let problem = format!("closed the connection without an answer ({error})");
            return (ProxyFault::Closed, problem);
        }
        _ => {
            return (
                ProxyFault::Answer,
                format!("gave an answer that SOCKS5 does not have ({error})"),
            );
        }
    };
    (fault, format!("SOCKS5: {error}"))
}
