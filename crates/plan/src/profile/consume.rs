//! Reading a fragment that nobody vouches for.

use super::{FragmentLimits, ProfileError, Stage, message, not_in, plan};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, DataFusionError, Result, TableReference, substrait_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion_substrait::extensions::Extensions;
use datafusion_substrait::logical_plan::consumer::{
    SubstraitConsumer, from_field_reference, from_project_rel, from_substrait_plan_with_consumer,
};
use datafusion_substrait::substrait::proto;
use futures::FutureExt;
use guildhall_model::ProductRef;
use proto::expression::FieldReference;
use proto::expression::field_reference::ReferenceType;
use proto::expression::reference_segment::ReferenceType as Segment;
use proto::rel_common::EmitKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Stack for the consumer, whose frames are large and whose depth is bounded by the message's.
const STACK: usize = 32 << 20;

const WAITS: &str = "the catalogue does not answer from memory";
pub(super) const BROKE: &str = "it broke the engine's reader";

/// Reads a fragment over the catalogue of `state`, which holds the products it may name and
/// nothing else.
///
/// The catalogue must answer from memory. A panic in the engine's consumer is caught and
/// refused like any other fault of the message.
pub fn decode(
    bytes: &[u8],
    state: &SessionState,
    limits: &FragmentLimits,
) -> Result<LogicalPlan, ProfileError> {
    let read = message::parse(bytes, limits)?;
    for product in message::check(&read, limits)? {
        if !holds(state, &product) {
            return Err(ProfileError::NoSuchProduct { product });
        }
    }
    let decoded = stacker::grow(STACK, || {
        let decoded =
            not_in::read_back(consume(&read, state)?).map_err(|e| plan::engine("read", &e))?;
        plan::check(&decoded, Stage::Fragment)?;
        Ok::<_, ProfileError>(decoded)
    })?;
    Ok(decoded)
}

fn holds(state: &SessionState, product: &ProductRef) -> bool {
    state
        .catalog_list()
        .catalog(product.council.as_str())
        .and_then(|c| c.schema(product.department.as_str()))
        .is_some_and(|s| s.table_exist(product.product.as_str()))
}

fn consume(read: &proto::Plan, state: &SessionState) -> Result<LogicalPlan, ProfileError> {
    let extensions =
        Extensions::try_from(&read.extensions).map_err(|e| plan::engine("read", &e))?;
    let consumer = Closed {
        extensions: &extensions,
        state,
    };
    let run = || from_substrait_plan_with_consumer(&consumer, read).now_or_never();
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Some(Ok(plan))) => Ok(plan),
        Ok(Some(Err(e))) => Err(plan::engine("read", &e)),
        Ok(None) => Err(ProfileError::Engine {
            doing: "read",
            kind: WAITS,
        }),
        Err(_) => Err(ProfileError::Engine {
            doing: "read",
            kind: BROKE,
        }),
    }
}

/// The engine's consumer, with every index that it would follow checked first.
struct Closed<'a> {
    extensions: &'a Extensions,
    state: &'a SessionState,
}

fn out_of_range<T>() -> Result<T> {
    substrait_err!("a reference to a column that its input does not have")
}

#[async_trait]
impl SubstraitConsumer for Closed<'_> {
    async fn resolve_table_ref(
        &self,
        table: &TableReference,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let schema = self.state.schema_for_ref(table.clone())?;
        schema.table(table.table()).await
    }

    fn get_extensions(&self) -> &Extensions {
        self.extensions
    }

    fn get_function_registry(&self) -> &impl FunctionRegistry {
        self.state
    }

    async fn consume_field_reference(
        &self,
        field: &FieldReference,
        input: &DFSchema,
    ) -> Result<Expr> {
        let index = match &field.reference_type {
            Some(ReferenceType::DirectReference(s)) => match &s.reference_type {
                Some(Segment::StructField(f)) => usize::try_from(f.field).ok(),
                _ => None,
            },
            _ => None,
        };
        match index {
            Some(i) if i < input.fields().len() => from_field_reference(self, field, input).await,
            _ => out_of_range(),
        }
    }

    async fn consume_project(
        &self,
        rel: &proto::ProjectRel,
    ) -> Result<LogicalPlan, DataFusionError> {
        let plan = from_project_rel(self, rel).await?;
        let width = plan.schema().fields().len();
        if let Some(EmitKind::Emit(emit)) = rel.common.as_ref().and_then(|c| c.emit_kind.as_ref())
            && !emit
                .output_mapping
                .iter()
                .all(|i| usize::try_from(*i).is_ok_and(|i| i < width))
        {
            return out_of_range();
        }
        Ok(plan)
    }
}
