//! The way down from an aggregation to the rows that meet: joins, filters and columns, in terms of the united product.

use super::{Offered, Presence, form, united_name};
use crate::catalogue::CatalogueProduct;
use crate::cube::Refusal;
use crate::cut::product_of;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator, TableScan,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A member as far as it has been read.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) product: Arc<CatalogueProduct>,
    pub(super) presence: Presence,
}

/// What has been read of a statement.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) members: Vec<Draft>,
    /// What rows that meet are limited to.
    pub(super) filters: Vec<Expr>,
    /// Members whose units are said to be the same of every row that is left.
    links: Vec<(usize, usize)>,
}

impl Reading {
    /// Reads `plan`: the columns of its rows, in order.
    pub(super) fn rows(&mut self, plan: &LogicalPlan) -> Result<Vec<Expr>, Refusal> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.rows(&alias.input),
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.rows(&sort.input),
            LogicalPlan::Projection(p) => {
                let columns = self.rows(&p.input)?;
                let exprs = p.expr.iter();
                exprs
                    .map(|e| written(e, p.input.schema(), &columns))
                    .collect()
            }
            LogicalPlan::Filter(f) => {
                let columns = self.rows(&f.input)?;
                for part in split_conjunction(&f.predicate) {
                    self.limit(part, f.input.schema(), &columns)?;
                }
                Ok(columns)
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Err(form(
                "an aggregation of theirs in between, before they meet",
            )),
            LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => Err(form("a limit before they meet")),
            _ => Err(form("something else than joins, filters and columns")),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Vec<Expr>, Refusal> {
        let product = product_of(scan).filter(|_| scan.fetch.is_none());
        let product = product.ok_or_else(|| form("a table that is no product"))?;
        let own = &product.product;
        if self
            .members
            .iter()
            .any(|m| m.product.product.product_ref() == own.product_ref())
        {
            return Err(form("a product that is joined with itself"));
        }
        let named = |name: &str| {
            let name = name.parse().map_err(|_| form("a column without a name"))?;
            let name = united_name(own, &name)?;
            Ok(Expr::Column(Column::new_unqualified(name.as_str())))
        };
        let all = scan.source.schema();
        let all = all.fields().iter().map(|f| named(f.name()));
        let all = all.collect::<Result<Vec<Expr>, Refusal>>()?;
        let table =
            DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())
                .map_err(|_| form("columns that cannot be told apart"))?;
        let fields = scan.projected_schema.fields();
        let columns = fields.iter().map(|f| named(f.name())).collect();
        self.members.push(Draft {
            product: Arc::clone(&product),
            presence: Presence::Required,
        });
        for filter in scan.filters.iter().flat_map(split_conjunction) {
            self.limit(filter, &table, &all)?;
        }
        columns
    }

    /// A condition of rows that have met.
    fn limit(&mut self, part: &Expr, schema: &DFSchema, columns: &[Expr]) -> Result<(), Refusal> {
        if let Expr::InSubquery(within) = part {
            return self.within(within, schema, columns);
        }
        let part = written(part, schema, columns)?;
        match self.same_unit(&part) {
            Some(link) => self.links.push(link),
            None => self.filters.push(part),
        }
        Ok(())
    }

    /// `unit IN (SELECT unit FROM member)`.
    fn within(
        &mut self,
        within: &InSubquery,
        schema: &DFSchema,
        columns: &[Expr],
    ) -> Result<(), Refusal> {
        if within.negated {
            return Err(form("NOT IN, or an anti join"));
        }
        let of = written(&within.expr, schema, columns)?;
        let before = self.mark();
        let units = self.rows(&within.subquery.subquery)?;
        match units.as_slice() {
            [unit] => self.aside(before, &[of.eq(unit.clone())]),
            _ => Err(form("IN over a sub-query of several columns")),
        }
    }

    fn join(&mut self, join: &Join) -> Result<Vec<Expr>, Refusal> {
        let (first, second) = match join.join_type {
            JoinType::Inner => return self.inner(join),
            JoinType::LeftSemi => (&join.left, &join.right),
            JoinType::RightSemi => (&join.right, &join.left),
            JoinType::LeftAnti | JoinType::RightAnti => {
                return Err(form("NOT IN, or an anti join"));
            }
            _ => return Err(form("an outer join")),
        };
        let columns = self.rows(first)?;
        let before = self.mark();
        let added = self.rows(second)?;
        let flipped = Arc::ptr_eq(first, &join.right);
        let all: Vec<Expr> = match flipped {
            true => added.into_iter().chain(columns.clone()).collect(),
            false => columns.iter().cloned().chain(added).collect(),
        };
        let parts = self.conditions(join, &all)?;
        self.aside(before, &parts)?;
        Ok(columns)
    }

    fn inner(&mut self, join: &Join) -> Result<Vec<Expr>, Refusal> {
        let mut columns = self.rows(&join.left)?;
        columns.extend(self.rows(&join.right)?);
        for part in self.conditions(join, &columns)? {
            match self.same_unit(&part) {
                Some(link) => self.links.push(link),
                None => self.filters.push(part),
            }
        }
        Ok(columns)
    }

    /// What `join` is on, where its left rows have the first of `columns` and its right rows the rest.
    fn conditions(&self, join: &Join, columns: &[Expr]) -> Result<Vec<Expr>, Refusal> {
        let schema = join.left.schema().join(join.right.schema());
        let schema = schema.map_err(|_| form("columns that cannot be told apart"))?;
        let on = join.on.iter().map(|(a, b)| a.clone().eq(b.clone()));
        let more = join.filter.iter().flat_map(split_conjunction).cloned();
        on.chain(more)
            .map(|e| written(&e, &schema, columns))
            .collect()
    }

    /// Where members and filters end.
    fn mark(&self) -> (usize, usize) {
        (self.members.len(), self.filters.len())
    }

    /// Makes the one member that was read since `before` one whose rows do not show, met by `parts`.
    fn aside(&mut self, before: (usize, usize), parts: &[Expr]) -> Result<(), Refusal> {
        let (member, filters) = before;
        if self.members.len() != member.saturating_add(1) {
            return Err(form("several products together within a semi join"));
        }
        let links = parts.iter().map(|part| self.same_unit(part));
        let links: Option<Vec<(usize, usize)>> = links.collect();
        let to_it = |links: &Vec<(usize, usize)>| {
            !links.is_empty() && links.iter().all(|(a, b)| (*a == member) != (*b == member))
        };
        let Some(links) = links
            .filter(to_it)
            .filter(|_| self.filters.len() == filters)
        else {
            return Err(form(
                "a semi join on anything but the unit, or with conditions of its own",
            ));
        };
        self.links.extend(links);
        if let Some(draft) = self.members.get_mut(member) {
            draft.presence = Presence::Some;
        }
        Ok(())
    }

    /// The member whose unit `e` is, as it is: cast to another type it may be another unit's.
    pub(super) fn unit(&self, e: &Expr) -> Option<usize> {
        let column = match e {
            Expr::Column(column) => column,
            Expr::Alias(alias) => return self.unit(&alias.expr),
            _ => return None,
        };
        let of = |m: &Draft| {
            let own = &m.product.product;
            let unit = own.unit.as_ref().and_then(|u| united_name(own, u).ok());
            unit.is_some_and(|u| u.as_str() == column.name)
        };
        self.members.iter().position(of)
    }

    /// The members whose units `e` says to be the same.
    fn same_unit(&self, e: &Expr) -> Option<(usize, usize)> {
        match e {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Eq,
                right,
            }) => Some((self.unit(left)?, self.unit(right)?)),
            _ => None,
        }
    }

    /// The members in the order of their names. Fails unless all are joined on their units.
    pub(super) fn settled(mut self) -> Result<Self, Refusal> {
        let mut reached = BTreeSet::from([0_usize]);
        for _ in 0..self.members.len() {
            let next = self.links.iter();
            let next = next.filter(|(a, b)| reached.contains(a) || reached.contains(b));
            let next: Vec<usize> = next.flat_map(|(a, b)| [*a, *b]).collect();
            reached.extend(next);
        }
        if reached.len() != self.members.len() {
            return Err(form("products that are not joined on their unit"));
        }
        self.members
            .sort_by_key(|m| m.product.product.product_ref());
        Ok(self)
    }

    /// What the members are offered as.
    pub(super) fn offered(&self) -> Offered {
        Offered(
            self.members
                .iter()
                .map(|m| Arc::clone(&m.product))
                .collect(),
        )
    }
}

/// `e` with what each column stands for in its place, without aliases.
pub(super) fn written(e: &Expr, schema: &DFSchema, columns: &[Expr]) -> Result<Expr, Refusal> {
    let written = e.clone().transform_up(|e| {
        Ok(match e {
            Expr::Alias(a) => Transformed::yes(*a.expr),
            Expr::Column(c) => {
                let at = schema.index_of_column(&c)?;
                let by = columns.get(at).cloned();
                let by = by.ok_or_else(|| {
                    DataFusionError::Internal("a column beyond its relation".to_owned())
                })?;
                Transformed::yes(by)
            }
            other => Transformed::no(other),
        })
    });
    written
        .map(|w| w.data)
        .map_err(|_| form("a column that cannot be told"))
}
