//! Verifies one incident's bundle, from the outside in: the file, the signatures, the leaves' places, the chain, the
//! documents, and then what the documents say: that nothing is missing and every door is shut.

mod closing;
mod documents;
mod file;
mod grants;
mod ledgers;
mod people;
mod recordings;
mod sessions;

use std::path::Path;

use halligan_ledger::TrustPolicy;
use halligan_recording::Identity;

use crate::findings::Report;

/// What an auditor brings along.
#[derive(Debug, Default)]
pub struct Options {
    /// The keys and witnesses that they trust. Without it the bundle's own are used, and the report says so.
    pub policy: Option<TrustPolicy>,
    /// A private key that recordings were wrapped to: then they are read in full.
    pub identity: Option<Identity>,
}

/// Clocks of control, gateways and connectors may differ by this much (see "Clocks" in the design).
const CLOCKS: halligan_core::time::Span = halligan_core::time::Span::seconds(5);

/// Verifies the bundle in this file. Reads it twice, recordings in pieces. Blocks.
#[must_use]
pub fn verify_bundle(path: &Path, options: &Options) -> Report {
    let mut report = Report::new(format!("the bundle {}", path.display()));
    let Some(opened) = file::open(path, &mut report) else { return report };
    report.subject =
        format!("the bundle of INC-{}, incident {}", opened.manifest.number, opened.manifest.incident);
    let Some(policy) = ledgers::policy(&opened, options, &mut report) else { return report };
    let Some(read) = ledgers::read(&opened, &policy, &mut report) else { return report };
    let Some(story) = documents::check(&opened, read, &mut report) else { return report };
    documents::page(&opened, &story, &mut report);
    closing::check(&opened, &story, &mut report);
    people::check(&story, &mut report);
    grants::check(&story, &mut report);
    sessions::check(&story, &mut report);
    recordings::check(&opened, &story, options, &mut report);
    report
}
