//! The gateway: one Flight SQL door over the products of several councils.
//!
//! Promises: every call is checked for its credential before anything else; what a client is
//! handed (tickets, prepared handles) is sealed, its own, and short-lived; a statement is capped
//! and closed before it is planned; nothing runs without a grant of the council concerned; the
//! schema that was declared is the schema that is streamed; and a query ends, here and at the
//! nodes, when its client goes.
//!
//! Whoever asks sees, beside the products: what a question may tell and costs, by `EXPLAIN PRIVACY`; with
//! `SET guildhall.cell_status = on`, what was done to each released value; and in `guildhall.budget` and
//! `guildhall.refusals` its own budgets, as the authorities have them, and late refusals, which are kept in memory, bounded,
//! without a word of the statements.
//!
//! Cells with parts at several owners are put together and released by the one clean room that is configured, and are
//! refused where none is. Such cells are never answered in part: without one owner's they would be other cells, and look
//! the same. So if an owner's node or authority is away they fail, also under `SET guildhall.partial = on`; grouped by
//! council, each cell is one owner's, and the others are answered.
//!
//! Does not promise: anything about what may leave a node. The gateway holds no key and no
//! policy, and the nodes do not trust it; whoever runs one sees the statements and the released
//! results that pass through it, and no more.

mod backend;
mod clean_room;
mod config;
mod credential;
mod door;
mod encode;
mod engine;
mod error;
mod exchange;
mod granted;
mod memory;
mod metadata;
mod net;
mod outlet;
mod own;
mod parameters;
mod refusals;
mod running;
mod seal;
mod serve;
mod session;
#[cfg(test)]
mod tests;
mod ticket;
mod view;

pub use config::{CleanRoomConfig, ConfigError, CouncilConfig, GatewayConfig, Limits};
pub use seal::NoRandomness;
pub use serve::{Running, StartError, start};
