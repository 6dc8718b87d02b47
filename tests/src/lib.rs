//! The stories that Halligan promises, each told against real programs.
//!
//! There is nothing in this library: the stories are in `tests/all`, one file each, in one program.
//! Rules of a single crate are tested in that crate; here stands what only the whole can show.
//! Start with `tests/all/main.rs`.
