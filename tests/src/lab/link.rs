//! A link between two hosts: a tun device on each, and threads that carry packets with delay, rate, loss and cuts. The
//! kernels that these tests run on have no netem. Without delay, rate and loss a link may be a wire instead.

use super::{LabHost, namespace::APPEAR};
use anyhow::{Result, ensure};
use parking_lot::Mutex;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// A running link; the first host has addresses ending in 1, the second in 2.
pub struct LabLink {
    /// A wire has none.
    state: Option<Arc<Mutex<LinkState>>>,
    number: u8,
}

/// What a link does to packets, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct LinkQuality {
    /// Time that a packet takes, one way.
    pub delay: Duration,
    /// Share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// Bits per second; without one as fast as this machine.
    pub rate: Option<u64>,
    /// Bytes that may wait in front of the link.
    pub queue: u64,
    /// Whether the devices carry segments of up to 64 KiB, as network cards do: faster. Loss then takes whole segments, so
    /// leave it out there.
    pub offload: bool,
}

/// Which packets of a cut link disappear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutDirection {
    /// All.
    Both,
    /// Those from the first host to the second.
    Forth,
    /// Those from the second host to the first.
    Back,
}

#[derive(Clone, Copy)]
struct LinkState {
    quality: LinkQuality,
    cut: Option<CutDirection>,
}

impl Default for LinkQuality {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(5),
            loss: 0.0,
            rate: None,
            queue: 64 << 20,
            offload: true,
        }
    }
}

impl LabLink {
    /// Joins two hosts; `number` tells the links of a host apart, and is part of the addresses.
    pub fn join(a: &LabHost, b: &LabHost, number: u8, quality: LinkQuality) -> Result<Self> {
        let state = Arc::new(Mutex::new(LinkState { quality, cut: None }));
        let link = Self {
            state: Some(Arc::clone(&state)),
            number,
        };
        let devices = [
            device(a, number, quality.offload)?,
            device(b, number, quality.offload)?,
        ];
        link.set_up(a, b)?;
        let [a, b] = devices.map(Arc::new);
        carry(
            Arc::clone(&a),
            Arc::clone(&b),
            CutDirection::Forth,
            Arc::clone(&state),
        );
        carry(b, a, CutDirection::Back, state);
        Ok(link)
    }

    /// Joins two hosts by a veth pair: as fast as the kernel, for measurements that the threads of a link would distort. It
    /// cannot be cut.
    pub fn wire(a: &LabHost, b: &LabHost, number: u8) -> Result<Self> {
        let link = Self {
            state: None,
            number,
        };
        let device = format!("link{number}");
        let far = ["peer", "name", &device, "netns", b.name()];
        a.ip(&[&["link", "add", &device, "type", "veth"][..], &far].concat())?;
        link.set_up(a, b)?;
        Ok(link)
    }

    /// Addresses of both ends.
    fn set_up(&self, a: &LabHost, b: &LabHost) -> Result<()> {
        let number = self.number;
        for (host, at, side) in [(a, self.first(), 1), (b, self.second(), 2)] {
            let device = format!("link{number}");
            let deadline = Instant::now() + APPEAR;
            while host.ip(&["link", "show", &device]).is_err() {
                ensure!(Instant::now() < deadline, "{device} does not appear");
            }
            let v6 = format!("fd77:{number}::{side}/64");
            host.ip(&["addr", "add", &format!("{at}/24"), "dev", &device])?;
            host.ip(&["-6", "addr", "add", &v6, "dev", &device, "nodad"])?;
            host.ip(&["link", "set", &device, "up", "txqueuelen", "10000"])?;
        }
        Ok(())
    }

    /// Address of the first host on this link.
    pub fn first(&self) -> String {
        format!("10.77.{}.1", self.number)
    }

    /// Address of the second host on this link.
    pub fn second(&self) -> String {
        format!("10.77.{}.2", self.number)
    }

    /// From now on drops these packets silently.
    pub fn cut(&self, direction: CutDirection) {
        self.set_cut(Some(direction));
    }

    /// Carries every packet again.
    pub fn heal(&self) {
        self.set_cut(None);
    }

    fn set_cut(&self, cut: Option<CutDirection>) {
        let state = self.state.as_ref().expect("a wire cannot be cut");
        state.lock().cut = cut;
    }
}

fn device(host: &LabHost, number: u8, offload: bool) -> Result<SyncDevice> {
    host.inside(move || {
        Ok(DeviceBuilder::new()
            .name(format!("link{number}"))
            .layer(Layer::L3)
            .offload(offload)
            .inherit_enable_state()
            .build_sync()?)
    })
}

/// Carries packets one way until a device disappears with its host.
fn carry(
    from: Arc<SyncDevice>,
    to: Arc<SyncDevice>,
    direction: CutDirection,
    state: Arc<Mutex<LinkState>>,
) {
    // The bytes in it are bounded by `LinkQuality::queue`.
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    let queued = Arc::new(AtomicU64::new(0));
    let sent = Arc::clone(&queued);
    std::thread::spawn(move || {
        for (due, packet) in receiver {
            wait_until(due);
            sent.fetch_sub(packet.len() as u64, Ordering::Relaxed);
            // The far host drops what it cannot take, as any network does.
            let _ = to.send(&packet);
        }
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 70_000];
        let (mut free, mut last) = (Instant::now(), Instant::now());
        let mut failures = 0;
        while failures < 100 {
            let Ok(length) = from.recv(&mut buffer) else {
                // Before its host is gone, an interface that is down fails as well.
                failures += 1;
                wait_until(Instant::now() + Duration::from_millis(10));
                continue;
            };
            failures = 0;
            let now = Instant::now();
            let LinkState { quality, cut } = *state.lock();
            let is_cut = cut.is_some_and(|cut| cut == CutDirection::Both || cut == direction);
            let is_full = queued.load(Ordering::Relaxed) + length as u64 > quality.queue;
            if is_cut || is_full || (quality.loss > 0.0 && rand::random::<f64>() < quality.loss) {
                continue;
            }
            free = free.max(now);
            if let Some(rate) = quality.rate {
                free += Duration::from_secs_f64(length as f64 * 8.0 / rate as f64);
            }
            last = last.max(free + quality.delay);
            queued.fetch_add(length as u64, Ordering::Relaxed);
            let packet = buffer.get(..length).unwrap_or_default().to_vec();
            if sender.send((last, packet)).is_err() {
                return;
            }
        }
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, outside of any runtime"
)]
fn wait_until(due: Instant) {
    let now = Instant::now();
    if due > now {
        std::thread::sleep(due - now);
    }
}

/// Whether this machine has tun devices.
pub fn is_available() -> bool {
    fs::exists("/dev/net/tun").unwrap_or(false)
}
