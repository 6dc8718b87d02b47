//! The catalog as files: read, checked, compared and explained.
//!
//! [`load`] turns texts into a [`Catalog`](halligan_core::catalog::Catalog) and systems, with the place of every key.
//! [`check`] refuses what rule 11 forbids and warns where somebody should look; [`way_in`] says who can still open what
//! while something is down; [`diff`] and [`widening`] say what a change does, and whether it needs a second person;
//! [`explain_ask`] and [`explain_who`] ask the core itself, so that they never say anything else than the server does.
//!
//! It must never wait, open a connection or know a store, and only `folder.rs` opens files. A million systems pass
//! through one at a time. Start reading at `file.rs` (what a file holds), then `load.rs`, then `check/`.

mod check;
mod diagnostic;
mod diff;
mod explain;
mod file;
mod folder;
mod load;
mod places;
mod read;
mod since;
mod suggest;
mod systems;
mod way_in;
mod widening;

pub use check::{Checker, check, check_all};
pub use diagnostic::{Diagnostic, FINDINGS, Finding, Place, Report, Severity, Waived, finding};
pub use diff::{Change, Field, Kind, Plan, diff, diff_catalog, diff_system};
pub use explain::{
    Ask, AskError, BypassWay, Explanation, Outcome, StepWay, Way, WhoExplanation, WhoRow, explain_ask,
    explain_who,
};
pub use file::{CatalogFile, Unprintable, schema};
pub use folder::{load_folder, sources};
pub use load::{Content, Loaded, Places, Source, load};
pub use read::{MOST_FILE_BYTES, MOST_LINE_BYTES};
pub use since::{keep_left, stamp_since};
pub use systems::{LoadedSystems, Open, Systems, Unreadable};
pub use way_in::{Cell, Down, Nodes, Opening, WayInRow, WayInTable, way_in};
pub use widening::{Widening, system_widening, widening};
