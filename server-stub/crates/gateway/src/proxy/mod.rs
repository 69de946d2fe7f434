//! The HTTP listener in front of the agents: routes by `Host`, sends over pooled channels, streams both
//! ways. Removes only the headers of the connection itself (RFC 9110 §7.6.1).

mod body;
mod pool;
mod problem;
mod route;
mod send;
mod vendor_socket;

pub(super) use body::ResponseBody;
pub(super) use pool::ConnectionPool;

use super::GatewayState;
use agent_base::descriptors::DescriptorBudget;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};

/// Serves HTTP until the gateway stops.
pub(super) async fn serve(shared: Arc<GatewayState>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(shared.settings.limits.max_http_connections));
    loop {
        // Beyond the limit new connections wait in the kernel's queue.
        let permit = tokio::select! {
            () = shared.stop.cancelled() => return,
            permit = Arc::clone(&slots).acquire_owned() => permit,
        };
        let descriptors = DescriptorBudget::of_process();
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = descriptors.accept(|cx| listener.poll_accept(cx)) => accepted,
        };
        match accepted {
            Ok(((socket, _), descriptor)) => {
                let one = connection(Arc::clone(&shared), socket);
                shared.tasks.spawn(async move {
                    one.await;
                    drop((descriptor, permit));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(shared: Arc<GatewayState>, socket: TcpStream) {
    let _ = socket.set_nodelay(true);
    let (stream, vendor) = vendor_socket::watched(socket);
    let limits = &shared.settings.limits;
    let service = service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.max_head)
        .max_headers(MAX_HEADERS)
        .preserve_header_case(true)
        // The agent's response has Jira's date.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = &mut serving => {
            if let Err(error) = ended {
                tracing::debug!(%error, "HTTP connection ended");
            }
        }
        // Its requests end with it, also where it has sent more that is not read.
        () = vendor.left() => tracing::debug!("HTTP connection ended by the vendor"),
        () = shared.stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(DRAIN, serving).await;
        }
    }
}

async fn answer(shared: &Arc<GatewayState>, request: Request<Incoming>) -> Response<ResponseBody> {
    let id = problem::request_id(request.headers());
    let answered = match route::target(&shared.settings.domain, &request) {
        Ok(route::RouteTarget::Page) => Ok(super::status::page(shared, &request)),
        Ok(route::RouteTarget::Agent { agent, label }) => {
            send::send(shared, agent, label.as_deref(), request).await
        }
        Err(problem) => Err(problem),
    };
    answered.unwrap_or_else(|problem| problem.response(&id))
}

/// For request and response heads; hyper's default of 100 is tight behind several proxies.
const MAX_HEADERS: usize = 200;
/// Pause after a failed accept, so that exhausted descriptors do not make the loop spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long open requests may take when the gateway stops.
const DRAIN: Duration = Duration::from_secs(2);
