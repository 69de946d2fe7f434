//! A link that is lost while agents log in is noticed as soon as under a busy session, and used again once it works.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    status::{ConnectionPhase, ConnectionView, LayerState},
    supervisor::SupervisorHandle,
};
use e2e::{
    impaired_link::{ImpairedLink, LinkDirection, run_in_namespace},
    sshd::Sshd,
    tcp_server::TcpServer,
    tunnel::{settings, supervise, until_connections},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

/// The step at which the first login of an agent waits: this many pieces have come from the gateway.
#[derive(Clone, Copy, Debug)]
struct LoginStep {
    pieces: usize,
    /// The next piece arrives when only the agent's packets are lost, so that its answer stays unacknowledged. Without
    /// it everything is acknowledged, and the agent waits for the gateway alone.
    answered: bool,
}

/// A gateway whose first connection stops at a step.
struct HeldGateway {
    step: LoginStep,
    sshd: String,
    is_first: AtomicBool,
    reached: mpsc::Sender<()>,
    released: watch::Receiver<bool>,
}

impl HeldGateway {
    async fn serve(self: Arc<Self>, agent: TcpStream) {
        let sshd = TcpStream::connect(&self.sshd).await.unwrap();
        let (mut from_agent, to_agent) = agent.into_split();
        let (from_sshd, mut to_sshd) = sshd.into_split();
        let holds = self.is_first.swap(false, Relaxed);
        let back = async {
            match holds {
                true => self.hold(from_sshd, to_agent).await,
                false => pass(from_sshd, to_agent).await,
            }
        };
        let _ = tokio::join!(copy(&mut from_agent, &mut to_sshd), back);
    }

    async fn hold(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 32 << 10];
        let mut released = self.released.clone();
        for pieces in 0.. {
            let length = from.read(&mut buffer).await.unwrap_or(0);
            if length == 0 {
                return;
            }
            if pieces == self.step.pieces {
                self.reached.send(()).await.unwrap();
                if !self.step.answered {
                    std::future::pending::<()>().await;
                }
                released.wait_for(|released| *released).await.unwrap();
            }
            let _ = to.write_all(&buffer[..length]).await;
        }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = copy(&mut from, &mut to).await;
}

async fn until_each(agents: &[SupervisorHandle], wanted: impl Fn(&ConnectionView) -> bool) {
    for agent in agents {
        until_connections(agent, |connections| wanted(&connections[0])).await;
    }
}

/// An agent whose first login stops at this step, and the gateway in front of it.
async fn start(
    sshd: &Sshd,
    step: LoginStep,
    released: watch::Receiver<bool>,
) -> (TcpServer, SupervisorHandle) {
    let (reached, mut held) = mpsc::channel(1);
    let gateway = Arc::new(HeldGateway {
        step,
        sshd: sshd.address(),
        is_first: AtomicBool::new(true),
        reached,
        released,
    });
    let serve = move |agent| Arc::clone(&gateway).serve(agent);
    let server = TcpServer::start(serve).await.unwrap();
    let mut settings = settings(sshd, &["127.0.0.1:0"]).unwrap();
    settings.gateways = vec![server.addr.to_string().parse().unwrap()];
    // The defaults.
    settings.probe_interval = Duration::from_millis(2500);
    settings.probe_timeout = Duration::from_millis(1600);
    settings.stall_timeout = Duration::from_secs(120);
    let agent = supervise(settings);
    held.recv().await.unwrap();
    (server, agent)
}

/// As with PAM that asks a server. Its host acknowledges meanwhile.
#[tokio::test]
async fn a_gateway_that_decides_slowly_is_waited_for() {
    let sshd = Sshd::start().unwrap();
    let (release, released) = watch::channel(false);
    let mut started = Vec::new();
    for pieces in 0..6 {
        let step = LoginStep {
            pieces,
            answered: true,
        };
        started.push(start(&sshd, step, released.clone()).await);
    }
    let waits = Instant::now();
    sleep(SLOW).await;
    for (_, agent) in &started {
        let connection = agent.connections().remove(0);
        assert_eq!(connection.failed_hop, None, "{connection:#?}");
        assert!(connection.generation <= 1, "{connection:#?}");
    }
    release.send(true).unwrap();
    let agents: Vec<_> = started.iter().map(|(_, agent)| agent.clone()).collect();
    until_each(&agents, |c| c.tunnel.state == LayerState::Proven).await;
    println!("{:?}", waits.elapsed());
    for agent in &agents {
        assert_eq!(agent.connections()[0].generation, 1);
    }
}

/// Banner, key exchange, authentication, request for a place.
#[tokio::test]
async fn a_link_that_is_lost_during_a_login_is_noticed_and_used_again() {
    let name = "a_link_that_is_lost_during_a_login_is_noticed_and_used_again";
    if !run_in_namespace(name).unwrap() {
        return;
    }
    let link = ImpairedLink::new().unwrap();
    let sshd = Sshd::start().unwrap();
    let (release, released) = watch::channel(false);
    let (mut gateways, mut agents) = (Vec::new(), Vec::new());
    for (pieces, answered) in STEPS {
        let step = LoginStep { pieces, answered };
        let (gateway, agent) = start(&sshd, step, released.clone()).await;
        gateways.push(gateway);
        agents.push(agent);
    }
    let ports: Vec<_> = gateways.iter().map(|g| g.addr.port()).collect();
    link.lose_all(LinkDirection::Out, &ports).unwrap();
    release.send(true).unwrap();
    sleep(Duration::from_millis(200)).await;
    link.lose_all(LinkDirection::Back, &ports).unwrap();
    let cut = Instant::now();
    until_each(&agents, |c| {
        c.phase == ConnectionPhase::Waiting || c.failed_hop.is_some()
    })
    .await;
    let took = cut.elapsed();
    for agent in &agents {
        let connection = agent.connections().remove(0);
        println!(
            "{took:?}: {:?} {:?}",
            connection.failed_hop, connection.tunnel.cause
        );
    }
    assert!(took < Duration::from_secs(5) + BUSY, "{took:?}");
    link.lose_nothing().unwrap();
    let healed = Instant::now();
    until_each(&agents, |c| c.tunnel.state == LayerState::Proven).await;
    let took = healed.elapsed();
    println!("proven {took:?} after the link works again");
    assert!(took < Duration::from_secs(5) + BUSY, "{took:?}");
}

/// Pieces that pass, and whether the next one arrives behind the loss of the agent's own packets.
const STEPS: [(usize, bool); 8] = [
    (0, false),
    (0, true),
    (1, true),
    (2, false),
    (3, true),
    (4, false),
    (5, false),
    (6, false),
];
/// Longer than a dead link takes to be noticed.
const SLOW: Duration = Duration::from_secs(6);
/// For a busy machine.
const BUSY: Duration = Duration::from_secs(2);
