//! Every story of the whole, one file each. Run one with `cargo test -p halligan-tests imports`.

mod cancels;
mod imports;
mod source;
mod spine;
mod witness;
