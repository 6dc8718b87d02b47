//! A gateway as a whole: its real ledger, real recordings and real links in temporary folders; control and connector are
//! played by the test at the other end of a link.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

mod databases;
mod deadlines;
mod disk;
mod logins;
mod refusals;
mod restarts;
mod sessions;
mod support;
