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
    /// What its rows are limited to before they meet others, by the united product's columns.
    pub(super) conditions: Vec<Expr>,
}

/// What has been read of a statement.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) members: Vec<Draft>,
    /// What rows that meet are limited to.
    pub(super) filters: Vec<Expr>,
    /// Members whose units are said to be the same of every row that is left.
    links: Vec<(usize, usize)>,
    /// Members that have been joined to another one, which comes first, by a left, semi or anti join.
    joined: Vec<(usize, usize)>,
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
            conditions: vec![],
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

    /// `unit IN (SELECT unit FROM member)`, and `NOT IN`.
    fn within(
        &mut self,
        within: &InSubquery,
        schema: &DFSchema,
        columns: &[Expr],
    ) -> Result<(), Refusal> {
        let of = written(&within.expr, schema, columns)?;
        let before = self.mark();
        let units = self.rows(&within.subquery.subquery)?;
        let presence = match within.negated {
            true => Presence::None,
            false => Presence::Some,
        };
        let [unit] = units.as_slice() else {
            return Err(form("IN over a sub-query of several columns"));
        };
        let same = of.eq(unit.clone());
        self.aside(before, presence, &[same])
    }

    fn join(&mut self, join: &Join) -> Result<Vec<Expr>, Refusal> {
        let (first, second, presence) = match join.join_type {
            JoinType::Inner => return self.inner(join),
            JoinType::Left => (&join.left, &join.right, Presence::Optional),
            JoinType::Right => (&join.right, &join.left, Presence::Optional),
            JoinType::LeftSemi => (&join.left, &join.right, Presence::Some),
            JoinType::RightSemi => (&join.right, &join.left, Presence::Some),
            JoinType::LeftAnti => (&join.left, &join.right, Presence::None),
            JoinType::RightAnti => (&join.right, &join.left, Presence::None),
            JoinType::Full | JoinType::LeftMark | JoinType::RightMark => {
                return Err(form("a full join"));
            }
        };
        let columns = self.rows(first)?;
        let before = self.mark();
        let added = self.rows(second)?;
        let flipped = Arc::ptr_eq(first, &join.right);
        let both = |a: Vec<Expr>, b: Vec<Expr>| -> Vec<Expr> {
            let (a, b) = if flipped { (b, a) } else { (a, b) };
            a.into_iter().chain(b).collect()
        };
        let all = both(columns.clone(), added);
        let parts = self.conditions(join, &all)?;
        self.aside(before, presence, &parts)?;
        Ok(if presence.shows() { all } else { columns })
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

    /// Makes the one member that was read since `before` one of that presence, joined by `parts`; what limits its rows
    /// limits them before they meet others.
    fn aside(
        &mut self,
        before: (usize, usize),
        presence: Presence,
        parts: &[Expr],
    ) -> Result<(), Refusal> {
        let (member, filters) = before;
        if self.members.len() != member.saturating_add(1) {
            return Err(form(
                "several products together on the other side of a left, semi or anti join",
            ));
        }
        let mut conditions = self.filters.split_off(filters);
        let mut linked = false;
        for part in parts {
            match self.same_unit(part) {
                Some((a, b)) if (a == member) != (b == member) => {
                    let other = if a == member { b } else { a };
                    linked = true;
                    // Its rows are met by those of the other, which has to be there for that.
                    self.joined.push((other, member));
                }
                _ => conditions.push(part.clone()),
            }
        }
        let own = |part: &Expr| {
            part.column_refs()
                .into_iter()
                .all(|c| self.member_of(&c.name) == Some(member))
        };
        if !linked || !conditions.iter().all(own) {
            return Err(form(
                "a left, semi or anti join on anything but the unit and conditions of the other side",
            ));
        }
        if let Some(draft) = self.members.get_mut(member) {
            draft.presence = presence;
            draft.conditions.extend(conditions);
        }
        Ok(())
    }

    /// The member that a column of the united product is of.
    fn member_of(&self, united: &str) -> Option<usize> {
        let of = |m: &Draft| {
            let own = &m.product.product;
            let columns = own.columns.iter();
            let mut names = columns.filter_map(|c| united_name(own, &c.name).ok());
            names.any(|n| n.as_str() == united)
        };
        self.members.iter().position(of)
    }

    /// The member whose unit `e` is, perhaps cast to another type.
    pub(super) fn unit(&self, e: &Expr) -> Option<usize> {
        let column = match e {
            Expr::Column(column) => column,
            Expr::Cast(cast) => return self.unit(&cast.expr),
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

    /// The members, once it is known of which of them rows have to be there.
    ///
    /// Fails unless all are joined on their units, each to one whose rows are there.
    pub(super) fn settled(mut self) -> Result<Self, Refusal> {
        for (a, b) in &self.links {
            // A unit that is compared is there.
            for at in [*a, *b] {
                if let Some(member) = self.members.get_mut(at) {
                    member.presence = Presence::Required;
                    self.filters.append(&mut member.conditions);
                }
            }
        }
        let there = |at: &usize| {
            let member = self.members.get(*at);
            member.is_some_and(|m| m.presence == Presence::Required)
        };
        if !self.joined.iter().all(|(other, _)| there(other)) {
            return Err(form("rows joined to such as may not be there"));
        }
        let pairs = || self.links.iter().chain(&self.joined);
        let mut reached = BTreeSet::from([0_usize]);
        for _ in 0..self.members.len() {
            let next = pairs().filter(|(a, b)| reached.contains(a) || reached.contains(b));
            let next: Vec<usize> = next.flat_map(|(a, b)| [*a, *b]).collect();
            reached.extend(next);
        }
        match reached.len() == self.members.len() {
            true => Ok(self),
            false => Err(form("products that are not joined on their unit")),
        }
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
