//! A cancel request that comes to another gateway than its session's is brought there, through control.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use halligan_control::clock::SystemClock;
use halligan_control::{Control, ControlOptions};
use halligan_core::ids::Name;
use halligan_gateway::{Gateway, Options};
use halligan_link::{PeerInfo, Role, in_process};
use halligan_session::cancel::gateway_number;
use halligan_session::{CancelDesk, CancelRequest, ControlPlane as _, Secret};
use halligan_store::{SqliteOptions, Store};

use crate::spine::world::{eventually, name};

/// Where requests end at a gateway.
#[derive(Default)]
struct Desk(Mutex<Vec<CancelRequest>>);

impl CancelDesk for Desk {
    fn cancel(&self, request: &CancelRequest) {
        self.0.lock().unwrap().push(request.clone());
    }
}

impl Desk {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn gateway(control: &Control, folder: &Path, called: &str) -> Result<(Gateway, Arc<Desk>)> {
    let lease_key = control.keys().lease.verifying_key();
    let mut options = Options::new(folder.join(called), name(called), lease_key);
    options.disk_reserve_bytes = halligan_gateway::LEAST_DISK_RESERVE;
    std::fs::create_dir_all(folder.join(called))?;
    let gateway = Gateway::start(options, Arc::new(halligan_gateway::SystemClock))?;
    let desk = Arc::new(Desk::default());
    let at: Arc<dyn CancelDesk> = Arc::clone(&desk) as _;
    gateway.takes_cancels(Arc::downgrade(&at));
    Ok((gateway, desk))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_finds_the_gateway_of_its_key_and_no_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = Store::open_sqlite(SqliteOptions::new(folder.path().join("store.sqlite"))).await?;
    let options = ControlOptions {
        name: name("control"),
        site: Name::main(),
        folder: folder.path().join("control"),
        origin: "test.example/halligan".into(),
        auditors: Vec::new(),
        link_addresses: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    let control = Control::open(options, store).await?;
    control.start();
    let (mut gateways, mut desks) = (Vec::new(), Vec::new());
    for (place, called) in ["gw-1", "gw-2", "gw-3"].into_iter().enumerate() {
        let (gateway, desk) = gateway(&control, folder.path(), called)?;
        let info = PeerInfo { name: name(called), role: Role::Gateway, site: Name::main() };
        control.admit_local(&info, &format!("{place}{place}").repeat(32), None).await?;
        let (to_gateway, from_gateway) =
            in_process(control.handler(), control.info(), gateway.handler(), info);
        gateway.control_joined(from_gateway);
        control.connected(to_gateway);
        gateways.push(gateway);
        desks.push(desk);
    }
    control.push_roster().await?;
    let client: SocketAddr = "192.0.2.7:50022".parse()?;
    let request = |called: &str, key: Vec<u8>| CancelRequest {
        process: (gateway_number(&name(called)) << 21) | 77,
        key: Secret::new(key),
        client,
        through: None,
    };
    let (first, second) = (&gateways[0], &desks[1]);
    first.pass_cancel(request("gw-2", vec![7; 32]));
    eventually("the request at its gateway", Duration::from_secs(10), async || {
        Ok((second.count() == 1).then_some(()))
    })
    .await?;
    {
        let came = second.0.lock().unwrap();
        ensure!(came[0].key.expose() == &vec![7; 32] && came[0].client == client, "it is what was asked");
        ensure!(came[0].through == Some(name("gw-1")), "and says by what way it came");
    }
    // For nobody, and too long to be a key: to nobody. A flood: bounded.
    first.pass_cancel(request("nobody", vec![7; 32]));
    first.pass_cancel(request("gw-2", vec![7; 257]));
    for _ in 0..1000 {
        first.pass_cancel(request("gw-2", vec![7; 4]));
    }
    eventually("the rest", Duration::from_secs(10), async || Ok((second.count() >= 200).then_some(())))
        .await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(second.count() <= 201, "{} of a flood were passed on", second.count());
    ensure!(desks[0].count() == 0 && desks[2].count() == 0, "nobody else heard of it");
    control.stop().await;
    Ok(())
}
