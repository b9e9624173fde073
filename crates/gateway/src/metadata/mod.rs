//! What browsing tools ask: catalogues, schemas, tables, types, keys, and what the server can do.
//!
//! Every answer here is one batch whose schema is also the one declared beforehand, since
//! clients compare the two. Names come from the caller's own catalogue, so what a principal may
//! not see is not there.

mod keys;
mod listing;
mod sql_info;
mod xdbc;

pub(crate) use keys::{foreign_keys, primary_keys};
pub(crate) use listing::{Listed, catalogs, schemas, table_types, tables};
pub(crate) use sql_info::{ServerLimits, sql_info};
pub(crate) use xdbc::xdbc_type_info;
