//! From an aggregation over joined products of cells to a linked question.

use super::read::{Reading, written};
use super::{LinkedMember, LinkedQuery, RULE, Registered, United, agreed, form};
use crate::catalogue::CatalogueProduct;
use crate::cube::{self, Refusal};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DataFusionError};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, LogicalPlan, LogicalPlanBuilder, LogicalTableSource,
};
use guildhall_grant::product::Product;
use std::sync::Arc;

/// The products that a linked question is asked of, in the order of its members.
#[derive(Debug, Clone)]
pub struct Offered(pub Vec<Arc<CatalogueProduct>>);

impl Offered {
    /// As departments registered them.
    #[must_use]
    pub fn registered(&self) -> Vec<Registered<'_>> {
        let all = self.0.iter().map(|p| Registered {
            product: &p.product,
            schema: &p.schema,
        });
        all.collect()
    }
}

/// What a statement asks of rows that meet, in terms of the united product.
#[derive(Debug)]
pub(crate) struct Meeting {
    reading: Reading,
    offered: Offered,
    united: United,
    /// The keys.
    pub(crate) group: Vec<Expr>,
    aggregates: Vec<Expr>,
}

/// Reads the rows of `aggregate`, and its keys and aggregates over them.
pub(crate) fn meeting(aggregate: &Aggregate) -> Result<Meeting, Refusal> {
    let mut reading = Reading::default();
    let columns = reading.rows(&aggregate.input)?;
    let reading = reading.settled()?;
    let offered = reading.offered();
    let products: Vec<&Product> = offered.0.iter().map(|p| &p.product).collect();
    agreed(&products).map_err(|(one, other)| {
        Refusal::new(
            RULE,
            format!(
                "rows of `{}` and `{}` may not meet: their departments do not agree to it",
                one.product_ref(),
                other.product_ref()
            ),
            "aggregate each by itself first, and join the cells; or ask the departments for a linkage with its impact \
             assessment",
        )
    })?;
    let presences = reading.members.iter().map(|m| m.presence);
    let shown: Vec<_> = offered.registered().into_iter().zip(presences).collect();
    let united = United::of(&shown)?;
    let schema = aggregate.input.schema();
    let all = |exprs: &[Expr]| -> Result<Vec<Expr>, Refusal> {
        let exprs = exprs.iter().map(|e| written(e, schema, &columns));
        exprs.map(|e| one_unit(e?, &reading, &united)).collect()
    };
    let (group, aggregates) = (all(&aggregate.group_expr)?, all(&aggregate.aggr_expr)?);
    Ok(Meeting {
        group,
        aggregates,
        reading,
        offered,
        united,
    })
}

/// `e` with the unit of the united product for that of each member: where rows meet it is the same.
fn one_unit(e: Expr, reading: &Reading, united: &United) -> Result<Expr, Refusal> {
    let unit = united.product.unit.as_ref();
    let unit = unit.ok_or_else(|| form("products without a unit"))?;
    let replaced = e.transform_up(|e| {
        Ok(match &e {
            Expr::Column(_) if reading.unit(&e).is_some() => {
                Transformed::yes(Expr::Column(Column::new_unqualified(unit.as_str())))
            }
            _ => Transformed::no(e),
        })
    });
    replaced
        .map(|e| e.data)
        .map_err(|_| form("a unit that cannot be told"))
}

impl Meeting {
    /// What rows that have met are limited to, for whoever simplifies it.
    pub(crate) fn filters_mut(&mut self) -> &mut Vec<Expr> {
        &mut self.reading.filters
    }

    /// The rows that filters speak of, as a relation of one product.
    pub(crate) fn relation(&self) -> Result<LogicalPlan, DataFusionError> {
        relation(&self.united)
    }

    /// The question, and whom it is asked of; keys that are literals are no part of it.
    pub(crate) fn question(self) -> Result<(LinkedQuery, Offered, United), Refusal> {
        let plan = self.plan(&self.reading.filters, &self.group, &self.aggregates);
        let plan = plan.map_err(|_| form("columns or conditions that do not fit together"))?;
        let cells = cube::recognise(&plan, &self.united.product)?;
        let members = self.reading.members.iter().map(|draft| LinkedMember {
            product: draft.product.product.product_ref(),
            presence: draft.presence,
        });
        let members = members.collect();
        let query = LinkedQuery { members, cells };
        query.check()?;
        for (at, of) in self.offered.registered().into_iter().enumerate() {
            let part = query.part(at, of);
            let part = part.ok_or_else(|| form("a product without a unit"))?;
            cube::axes(&part, of.product)?;
        }
        Ok((query, self.offered, self.united))
    }

    fn plan(
        &self,
        filters: &[Expr],
        group: &[Expr],
        aggregates: &[Expr],
    ) -> Result<LogicalPlan, DataFusionError> {
        let mut rows = self.relation()?;
        if let Some(predicate) = conjunction(filters.iter().cloned()) {
            rows = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(rows))?);
        }
        let keys = group.iter().filter(|e| !matches!(e, Expr::Literal(..)));
        let keys: Vec<Expr> = keys.cloned().collect();
        Aggregate::try_new(Arc::new(rows), keys, aggregates.to_vec()).map(LogicalPlan::Aggregate)
    }
}

fn relation(united: &United) -> Result<LogicalPlan, DataFusionError> {
    let name = united.product.product_ref();
    let table = datafusion::common::TableReference::full(
        name.council.as_str(),
        name.department.as_str(),
        name.product.as_str(),
    );
    let source = LogicalTableSource::new(Arc::clone(&united.schema));
    LogicalPlanBuilder::scan(table, Arc::new(source), None)?.build()
}
