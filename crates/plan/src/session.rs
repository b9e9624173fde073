//! The engine's session, with nothing in it but the listed functions.
//!
//! No table functions, file formats, table factories, object stores or variables: a name that
//! the catalogue does not hold resolves to nothing.

use crate::functions;
use crate::projections::optimizer_rules;
use crate::yielding::YieldingJoins;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider,
};
use datafusion::common::Result;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SessionState, SessionStateDefaults};
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::prelude::SessionConfig;
use guildhall_model::ProductRef;
use std::sync::Arc;

/// The name of the catalogue and schema that an unqualified name falls into. Neither exists.
const NOWHERE: &str = "guildhall";

/// The settings that every session of Guildhall starts from.
#[must_use]
pub fn base_config() -> SessionConfig {
    on_base(SessionConfig::new())
}

/// The same settings on `config`, which others have begun.
#[must_use]
pub fn on_base(config: SessionConfig) -> SessionConfig {
    let mut config = config
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(NOWHERE, NOWHERE)
        .with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    // Times are the department's own, without a zone.
    options.execution.time_zone = None;
    config
}

/// A session state over an empty catalogue, for gateway and node alike; see [`bare_builder`].
#[must_use]
pub fn bare_state(config: SessionConfig) -> SessionState {
    bare_builder(config).build()
}

/// A builder of the same, for those who add a catalogue, rules or a runtime of their own.
#[must_use]
pub fn bare_builder(config: SessionConfig) -> SessionStateBuilder {
    let scalar = functions::scalar();
    SessionStateBuilder::new()
        .with_config(config)
        .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
        .with_expr_planners(expr_planners(&scalar))
        .with_scalar_functions(scalar)
        .with_aggregate_functions(functions::aggregate())
        .with_window_functions(functions::window())
        .with_optimizer_rules(optimizer_rules())
        .with_physical_optimizer_rule(Arc::new(YieldingJoins))
}

/// A session state that knows one product by name, without rows, and nothing else.
pub fn state_over(product: &ProductRef, schema: &SchemaRef) -> Result<SessionState> {
    let state = bare_state(base_config());
    let department = MemorySchemaProvider::new();
    let table = EmptyTable::new(Arc::clone(schema));
    department.register_table(product.product.to_string(), Arc::new(table))?;
    let council = MemoryCatalogProvider::new();
    council.register_schema(product.department.as_str(), Arc::new(department))?;
    let list = state.catalog_list();
    list.register_catalog(product.council.to_string(), Arc::new(council));
    Ok(state)
}

/// Our planner of `||` and `OVERLAY`, then the engine's planners of expressions. Those that reach for functions
/// off the list are caught by [`crate::profile::check`].
fn expr_planners(scalar: &[Arc<ScalarUDF>]) -> Vec<Arc<dyn ExprPlanner>> {
    let mut all: Vec<Arc<dyn ExprPlanner>> = Vec::new();
    if let Some(texts) = functions::TextPlanner::among(scalar) {
        all.push(Arc::new(texts));
    }
    all.extend(SessionStateDefaults::default_expr_planners());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_state_holds_nothing_but_listed_functions() {
        let state = bare_state(base_config());
        assert!(state.catalog_list().catalog_names().is_empty());
        assert!(state.table_functions().is_empty());
        assert_eq!(
            state
                .scalar_functions()
                .values()
                .filter(|f| f.name() == "repeat")
                .count(),
            0
        );
        assert!(state.get_file_format_factory("csv").is_none());
    }
}
