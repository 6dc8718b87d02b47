//! The catalog: what one can get into, who people are, and which rules hold. Files become these types; nothing here reads files.

pub mod model;
pub mod postgres;
mod resolve;
pub mod system;

pub use model::*;
pub use postgres::*;
pub use resolve::WhoContext;
pub use system::*;
