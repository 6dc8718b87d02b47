//! A node's leaves reach control in order, also when control has lost some.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use halligan_link::report::{LeafSource, ReportError, report};
use halligan_link::{BoxFuture, Handler, PeerInfo, Request, Response, in_process};
use tokio::sync::watch;

use crate::node::{Node, control, gateway};

struct Leaves(watch::Sender<Vec<Vec<u8>>>);

impl LeafSource for Leaves {
    fn size(&self) -> u64 {
        self.0.borrow().len() as u64
    }
    fn read(&self, from: u64, _: usize) -> Result<Vec<Vec<u8>>, ReportError> {
        Ok(self.0.borrow().iter().skip(usize::try_from(from).unwrap()).take(2).cloned().collect())
    }
    fn checkpoint(&self) -> Result<String, ReportError> {
        Ok(format!("over {}", self.size()))
    }
    fn grown(&self, past: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut size = self.0.subscribe();
            size.wait_for(|leaves| leaves.len() as u64 > past).await.unwrap();
        })
    }
}

/// Control that forgets all it was sent, once.
#[derive(Default)]
struct Forgetful {
    held: Mutex<Vec<Vec<u8>>>,
    forgot: Mutex<bool>,
}

impl Handler for Forgetful {
    fn handle<'a>(&'a self, _: &'a PeerInfo, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let Request::LedgerEntries { from, entries, .. } = request else { return Response::error("no") };
            let mut held = self.held.lock().unwrap();
            assert_eq!(from, held.len() as u64, "in order, nothing twice, nothing left out");
            held.extend(entries.into_iter().map(|blob| blob.0));
            if held.len() == 4 && !std::mem::replace(&mut *self.forgot.lock().unwrap(), true) {
                held.truncate(1);
            }
            Response::LedgerAck { size: held.len() as u64 }
        })
    }
}

#[tokio::test]
async fn leaves_arrive_in_order_and_again_when_control_lost_them() {
    let leaf = |n: usize| format!("leaf {n}").into_bytes();
    let source = Arc::new(Leaves(watch::Sender::new((0..5).map(leaf).collect())));
    let at_control = Arc::new(Forgetful::default());
    let (to_gateway, to_control) = in_process(at_control.clone(), control(), Node::new(), gateway());
    let reporting = tokio::spawn({
        let source = source.clone();
        async move { report(source, &to_control, 0).await }
    });
    for size in 5..8 {
        let expected: Vec<_> = (0..size).map(leaf).collect();
        let arrived = async {
            while *at_control.held.lock().unwrap() != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), arrived).await.unwrap();
        source.0.send_modify(|leaves| leaves.push(leaf(size)));
    }
    assert!(*at_control.forgot.lock().unwrap());
    to_gateway.close("control restarts");
    tokio::time::timeout(Duration::from_secs(5), reporting).await.unwrap().unwrap().ok();
}
