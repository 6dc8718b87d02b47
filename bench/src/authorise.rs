//! Whether a person may open a session on an entitlement, decided by a gateway that holds 100,000 leases; beside it the same
//! gateway with 100.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use halligan_gateway::{Gateway, Options as GatewayOptions, SystemClock};
use halligan_session::EndReason;
use halligan_session::control_plane::{ClientConnection, ControlPlane as _, Person};
use tempfile::TempDir;

use crate::figure::{Figure, Goal};
use crate::leases::{control_key, entitlement, fill, has_seats, person};
use crate::sample::Sample;
use crate::story::name;
use crate::{Figures, Options};

/// A gateway on a folder full of leases.
struct Held {
    gateway: Gateway,
    leases: u64,
    _folder: TempDir,
}

/// Measures.
pub async fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let many = start(options.size(100_000, 400))?;
    let few = start(100)?;
    let mut decided = [Sample::default(), Sample::default()];
    let mut unknown = [Sample::default(), Sample::default()];
    let mut opened = [Sample::default(), Sample::default()];
    for round in 0..options.size(5, 1) {
        for (place, held) in [&many, &few].into_iter().enumerate() {
            let (Some(decided), Some(unknown), Some(opened)) =
                (decided.get_mut(place), unknown.get_mut(place), opened.get_mut(place))
            else {
                continue;
            };
            for step in 0..options.size(4_000, 50) {
                let number = spread(round * 10_000 + step, held.leases);
                decided.push(held.refused(number | 1, number | 1, "sessions at one time").await?);
                // Somebody else's lease.
                unknown.push(held.refused(number, number + 1, "no access").await?);
            }
            for step in 0..options.size(100, 5) {
                opened.push(held.opened(spread(round * 10_000 + step, held.leases) & !1).await?);
            }
        }
    }
    let [decided, decided_few] = decided;
    let [unknown, unknown_few] = unknown;
    let [opened, opened_few] = opened;
    let beside = "with 100 leases";
    let among = format!("at a gateway with {} leases", crate::figure::number(many.leases as f64));
    let figure =
        Figure::new(format!("core/authorise {among}, lease held, p99"), decided.percentile(99.0), "ms");
    figures.add(figure.beside(beside, decided_few.percentile(99.0)).goal(Goal::AtMost(1.0)));
    let figure =
        Figure::new(format!("core/authorise {among}, no lease, p99"), unknown.percentile(99.0), "ms");
    figures.add(figure.beside(beside, unknown_few.percentile(99.0)).goal(Goal::AtMost(1.0)));
    let figure = Figure::new(
        "core/open a session: authorised, recording and ledger synced, p50",
        opened.median(),
        "ms",
    );
    figures.add(figure.range(opened.range()).beside(beside, opened_few.median()));
    Ok(())
}

fn start(leases: u64) -> Result<Held> {
    let folder = crate::disk::folder()?;
    fill(folder.path(), leases)?;
    let options = GatewayOptions::new(folder.path().to_owned(), name("gw-1"), control_key().verifying_key());
    let gateway = Gateway::start(options, Arc::new(SystemClock))?;
    Ok(Held { gateway, leases, _folder: folder })
}

/// Numbers all over the range, not in order.
const fn spread(step: u64, of: u64) -> u64 {
    step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (of & !1)
}

fn client() -> ClientConnection {
    ClientConnection { client: ([192, 0, 2, 7], 50_000).into(), gateway: name("gw-1") }
}

impl Held {
    fn signed_in(&self, number: u64) -> Result<Person> {
        let roster = self.gateway.roster().context("the gateway has no roster")?;
        roster.person_by_id(&person(number), "key".to_owned(), None).context("nobody of that id")
    }

    /// Milliseconds until the gateway said no, for the reason that was expected.
    async fn refused(&self, holder: u64, wanted: u64, why: &str) -> Result<f64> {
        let (person, entitlement, from) = (self.signed_in(holder)?, entitlement(wanted), client());
        let began = Instant::now();
        let answer = black_box(self.gateway.open(&person, &entitlement, &from).await);
        let spent = crate::sample::millis(began.elapsed());
        match answer {
            Err(refusal) if refusal.say.contains(why) => Ok(spent),
            Err(refusal) => anyhow::bail!("refused for another reason: {}", refusal.say),
            Ok(_) => anyhow::bail!("{} got into {entitlement}", person.id),
        }
    }

    /// Milliseconds until there was a session, which is ended at once.
    async fn opened(&self, number: u64) -> Result<f64> {
        ensure!(has_seats(number), "this lease has no seat");
        let (person, entitlement, from) = (self.signed_in(number)?, entitlement(number), client());
        let began = Instant::now();
        let session = self.gateway.open(&person, &entitlement, &from).await?;
        let spent = crate::sample::millis(began.elapsed());
        session.end(EndReason::ClientLeft).await;
        Ok(spent)
    }
}
