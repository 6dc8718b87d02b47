//! A session for tests, of which disk and ledger take the time that they are told to.

use std::sync::{Arc, Mutex};

use halligan_core::catalog::{OnPartition, SystemKind};
use halligan_core::ids::{GrantId, Name, SessionId};
use halligan_core::time::{Span, Time};
use halligan_ledger::{FileLedger, LedgerSigner};
use halligan_recording::{Record, RecordKind};
use halligan_session::control_plane::{BoxFuture, Refusal};
use halligan_session::{
    Answer, DatabaseCredential, EndReason, Ended, Lease, NodeEvent, Question, Session, SessionParts,
    SshCredential, Written,
};
use tokio::sync::watch;

/// What the test holds of it.
#[derive(Debug)]
pub(crate) struct Double {
    /// What comes of a sync, once it is there.
    pub(crate) disk: watch::Sender<Option<Result<(), Ended>>>,
    /// Milestones that have found their place.
    pub(crate) ledger: Mutex<Vec<NodeEvent>>,
    /// Whether milestones find theirs.
    pub(crate) takes: watch::Sender<bool>,
    /// Why it is over, once it is.
    pub(crate) over: Mutex<Option<Ended>>,
    lease: Lease,
}

impl Double {
    pub(crate) fn session() -> (Arc<Self>, Session) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = FileLedger::open(folder.path(), LedgerSigner::generate("gw.test").unwrap()).unwrap();
        let (disk, takes) = (watch::Sender::new(None), watch::Sender::new(true));
        let double =
            Arc::new(Self { disk, ledger: Mutex::default(), takes, over: Mutex::default(), lease: lease() });
        let receipt = ledger.append(vec![1]).unwrap();
        (Arc::clone(&double), Session::open(receipt, Box::new(Parts(double))))
    }
}

fn lease() -> Lease {
    let name = |text: &str| Name::new(text).unwrap();
    let target = halligan_session::lease::Target {
        system: name("orders-db"),
        kind: SystemKind::Postgres,
        address: "127.0.0.1:1".to_owned(),
        site: Name::main(),
        account: "orders_write".to_owned(),
        host_keys: vec![],
        postgres: None,
    };
    Lease {
        version: 1,
        grant: GrantId::from_bits(7),
        fencing: 1,
        person: name("ana"),
        person_name: "Ana".to_owned(),
        entitlement: "orders-db/work".parse().unwrap(),
        incident: None,
        emergency: true,
        reason: "the pager".to_owned(),
        target,
        ssh: Default::default(),
        postgres: Default::default(),
        recording: Default::default(),
        recipients: vec![],
        proof: Default::default(),
        on_partition: OnPartition::Keep,
        idle_limit: None,
        issued_at: Time::from_micros(0),
        deadline: Time::from_micros(0),
        remaining: Span::hours(1),
        most_sessions: 3,
        policy_digest: String::new(),
        approvals: vec![],
    }
}

struct Parts(Arc<Double>);

impl SessionParts for Parts {
    fn on_disk(&self) -> BoxFuture<'_, Result<(), Ended>> {
        let mut disk = self.0.disk.subscribe();
        Box::pin(async move { disk.wait_for(Option::is_some).await.unwrap().clone().unwrap() })
    }

    fn milestone(&self, event: NodeEvent) -> BoxFuture<'_, Result<(), Ended>> {
        let mut takes = self.0.takes.subscribe();
        Box::pin(async move {
            takes.wait_for(|takes| *takes).await.unwrap();
            self.0.ledger.lock().unwrap().push(event);
            Ok(())
        })
    }

    fn id(&self) -> SessionId {
        SessionId::from_bits(7)
    }

    /// A statement that may change something is to be synced.
    fn write(&self, records: &[Record]) -> Result<Written, Ended> {
        let syncs = |record: &Record| matches!(&record.kind, RecordKind::StatementBegin { class, .. } if class != "read");
        Ok(Written::new(records.iter().any(syncs)))
    }

    fn record(&self, _: &[Record]) -> Result<(), Ended> {
        Ok(())
    }

    fn check(&self) -> Result<(), Ended> {
        self.0.over.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn record_last(&self, _: &[Record]) {}

    fn since_start(&self) -> u64 {
        0
    }

    fn let_go(&self) {}

    fn lease(&self) -> &Lease {
        &self.0.lease
    }

    fn ssh_credential(&self) -> BoxFuture<'_, Result<SshCredential, Refusal>> {
        unreachable!("no test asks for it")
    }

    fn database_credential(&self, _: bool) -> BoxFuture<'_, Result<DatabaseCredential, Refusal>> {
        unreachable!("no test asks for it")
    }

    fn ask(&self, _: Question) -> BoxFuture<'_, Result<Answer, Ended>> {
        unreachable!("no test asks for it")
    }

    fn next_channel(&self) -> u32 {
        unreachable!("no test asks for it")
    }

    fn closed(&self) -> BoxFuture<'_, EndReason> {
        unreachable!("no test asks for it")
    }

    fn warning(&self) -> watch::Receiver<Option<String>> {
        unreachable!("no test asks for it")
    }

    fn end(&self, _: EndReason) -> BoxFuture<'_, ()> {
        unreachable!("no test asks for it")
    }
}
