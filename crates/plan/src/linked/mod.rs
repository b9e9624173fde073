//! Linked questions: cells of units whose rows lie at several departments and meet on the unit.
//!
//! A [`LinkedQuery`] is a question of a cube like any other, asked of the rows that meet as if they were one product
//! ([`United`]): its dimensions and measures are those of its members, its privacy unit is theirs, and its limits are the
//! strictest of theirs. Beside it stands what it takes at each member for a unit's rows to be in the answer ([`Presence`]).
//! So the closed grammar of the cube is the grammar of linked questions, and so is what is refused.
//!
//! The gateway reads one from a statement. Each member's node is asked a question of its own product
//! ([`LinkedQuery::part`]), which it admits like any other; the clean room reads the whole from bytes whose digest is in
//! every grant ([`decode`]).
//!
//! What may be joined: products of class `aggregate` of one council whose owners agree ([`Product::links_with`]), each on
//! its privacy unit, by `JOIN`, `LEFT SEMI JOIN` or `IN` over a sub-query; up to four of them.
//!
//! Not offered: free questions (the ad hoc lane), joins on anything else, a product joined with itself. Nor outer and anti
//! joins, nor conditions within a semi join: what they tell of those who are *not* at a department, or of some who are, is the
//! difference of cells that are told, and no lattice beside the answer would hold it back yet.

mod read;
mod recognise;
mod wire;

pub use recognise::Offered;
pub(crate) use recognise::{Meeting, meeting};
pub use wire::{LinkedError, decode, encode};

use crate::cube::{CubeAgg, CubeAggregate, CubeQuery, Refusal};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use guildhall_grant::product::{Column, Dimension, Measure, Product};
use guildhall_model::{ColumnName, DepartmentName, ProductRef, ReleaseClass};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How many members a linked question has.
pub const MEMBERS: std::ops::RangeInclusive<usize> = 2..=4;

/// What it takes, at a member, for a unit's rows to be in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Rows, each of which meets each of the others'.
    Required,
    /// A row at least; which does not show.
    Some,
}

impl Presence {
    /// Whether columns of the member are in the rows that meet.
    #[must_use]
    pub fn shows(self) -> bool {
        self == Self::Required
    }

    /// The word for it in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "join",
            Self::Some => "semi join",
        }
    }
}

/// One of the products whose rows meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedMember {
    /// Which.
    pub product: ProductRef,
    /// What it takes there.
    pub presence: Presence,
}

/// A question of cells over rows of several products that meet on their unit.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkedQuery {
    /// Whose rows, in the order of their names: one question has one form, whichever way it is written, and so one pattern
    /// of what is withheld.
    pub members: Vec<LinkedMember>,
    /// The cells, in terms of the [united](United) product.
    pub cells: CubeQuery,
}

/// A member as its department registered it, with the columns of its view.
#[derive(Debug, Clone, Copy)]
pub struct Registered<'a> {
    /// What was registered.
    pub product: &'a Product,
    /// The view's columns.
    pub schema: &'a SchemaRef,
}

/// The rows that meet, as if they were one product.
#[derive(Debug, Clone, PartialEq)]
pub struct United {
    /// Its registered form: columns are called `department/product/column`.
    pub product: Product,
    /// Its columns; any may be NULL.
    pub schema: SchemaRef,
}

impl United {
    /// The members that [show](Presence::shows) united, with the strictest limits of all: the largest minimum group, and
    /// as many rows of a unit as there can be where each row meets each of the others'.
    ///
    /// Fails for members that are no products of cells, or whose names together are too long for a column.
    pub fn of(members: &[(Registered<'_>, Presence)]) -> Result<Self, Refusal> {
        let mut shown = members.iter().filter(|(_, p)| p.shows());
        let Some((first, _)) = shown.next() else {
            return Err(form("no product whose rows show"));
        };
        let (mut columns, mut dimensions, mut measures) = (vec![], vec![], vec![]);
        let (mut fields, mut most) = (vec![], 1_u32);
        for (member, _) in members.iter().filter(|(_, p)| p.shows()) {
            let product = member.product;
            most = most.saturating_mul(product.max_rows_per_unit.max(1));
            for column in &product.columns {
                columns.push(Column {
                    name: united_name(product, &column.name)?,
                    ..column.clone()
                });
            }
            for dimension in &product.dimensions {
                let within = dimension.within.as_ref();
                dimensions.push(Dimension {
                    column: united_name(product, &dimension.column)?,
                    within: within.map(|w| united_name(product, w)).transpose()?,
                    ..dimension.clone()
                });
            }
            for measure in &product.measures {
                // Each of its rows counts once for each row that it meets.
                let times = f64::from(fan_out(product, members));
                measures.push(Measure {
                    column: united_name(product, &measure.column)?,
                    lower: measure.lower * times,
                    upper: measure.upper * times,
                });
            }
            for field in member.schema.fields() {
                let name = field
                    .name()
                    .parse()
                    .map_err(|_| form("a column without a name"))?;
                let name = united_name(product, &name)?;
                fields.push(Field::new(name.as_str(), field.data_type().clone(), true));
            }
        }
        let minimum = members.iter().map(|(m, _)| m.product.minimum_group).max();
        let unit = unit_of(first.product)?;
        let product = Product {
            department: DepartmentName::COUNCIL
                .parse()
                .map_err(|_| form("a council without a name"))?,
            name: "linked"
                .parse()
                .map_err(|_| form("a product without a name"))?,
            class: ReleaseClass::Aggregate,
            conforms_to: None,
            unit: Some(united_name(first.product, unit)?),
            minimum_group: minimum.unwrap_or(u32::MAX),
            max_rows_per_unit: most,
            columns,
            dimensions,
            measures,
            budgets: vec![],
            joint_with: BTreeSet::new(),
            linkable: None,
            ..first.product.clone()
        };
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { product, schema })
    }
}

/// How many rows of other members one of `product`'s can meet, as far as the owners let them count.
fn fan_out(product: &Product, members: &[(Registered<'_>, Presence)]) -> u32 {
    let shown = members.iter().filter(|(_, p)| p.shows());
    let others = shown.filter(|(m, _)| m.product.product_ref() != product.product_ref());
    let rows = others.map(|(m, _)| m.product.max_rows_per_unit.max(1));
    rows.fold(1, u32::saturating_mul)
}

/// What a member's column is called where rows meet.
pub fn united_name(product: &Product, column: &ColumnName) -> Result<ColumnName, Refusal> {
    let name = format!("{}/{}/{column}", product.department, product.name);
    name.parse().map_err(|_| {
        Refusal::new(
            RULE,
            format!(
                "`{column}` of `{}` has too long a name to be linked",
                product.product_ref()
            ),
            "ask the department for a shorter name of the product or the column",
        )
    })
}

/// The member's own name of a column, if it is that member's.
#[must_use]
pub fn own_name(product: &ProductRef, united: &ColumnName) -> Option<ColumnName> {
    let rest = united.as_str().strip_prefix(product.department.as_str())?;
    let rest = rest
        .strip_prefix('/')?
        .strip_prefix(product.product.as_str())?;
    rest.strip_prefix('/')?.parse().ok()
}

/// The rule that linked questions are refused under where the cube's own rules have no word.
const RULE: &str = "linked";

fn form(what: &str) -> Refusal {
    Refusal::new(
        RULE,
        format!("rows of several departments are asked for with {what}"),
        "join products of cells on the unit that they have in common, and aggregate: count(*), count(DISTINCT unit), sum and \
         avg of their measures, grouped by their dimensions",
    )
}

fn unit_of(product: &Product) -> Result<&ColumnName, Refusal> {
    let unit = product.unit.as_ref();
    unit.filter(|_| product.class == ReleaseClass::Aggregate)
        .ok_or_else(|| form("a product that does not release cells"))
}

impl LinkedQuery {
    /// What the node of the member of that number is asked: a question of cells of its own product, from whose rows the
    /// answer is made. None if there is no such member.
    ///
    /// Its cells are those of the whole as far as they are told apart by this member's dimensions.
    #[must_use]
    pub fn part(&self, member: usize, registered: Registered<'_>) -> Option<CubeQuery> {
        let of = self.members.get(member)?;
        let own = |name: &ColumnName| {
            let shows = of.presence.shows();
            own_name(&of.product, name).filter(|_| shows)
        };
        let mut query = CubeQuery {
            product: of.product.clone(),
            unit: registered.product.unit.clone()?,
            keys: vec![],
            filters: vec![],
            aggregates: vec![],
        };
        for key in &self.cells.keys {
            if let Some(column) = own(&key.column) {
                let mut key = key.clone();
                (key.name, key.column) = (format!("k{}", query.keys.len()), column);
                query.keys.push(key);
            }
        }
        for filter in &self.cells.filters {
            if let Some(column) = own(filter.column()) {
                query.filters.push(filter.renamed(column));
            }
        }
        for told in &self.cells.aggregates {
            if let Some(column) = told.aggregate.measure().and_then(own) {
                let mut told = told.clone();
                told.name = format!("a{}", query.aggregates.len());
                told.aggregate = told.aggregate.renamed(column);
                query.aggregates.push(told);
            }
        }
        if query.aggregates.is_empty() {
            query.aggregates.push(CubeAggregate {
                name: "units".to_owned(),
                aggregate: CubeAgg::CountUnits,
                argument: None,
                data_type: DataType::Int64,
            });
        }
        Some(query)
    }

    /// Whether the members could be what they are called: as many as may meet, in the order of their names, none twice, and
    /// one at least whose rows show.
    pub fn check(&self) -> Result<(), Refusal> {
        let members = &self.members;
        if !MEMBERS.contains(&members.len()) {
            let count = members.len();
            return Err(form(&format!(
                "{count} products; {} at most",
                MEMBERS.end()
            )));
        }
        if !members.is_sorted_by(|a, b| a.product < b.product) {
            return Err(form("a product that is joined with itself, or in no order"));
        }
        match members.iter().any(|m| m.presence.shows()) {
            true => Ok(()),
            false => Err(form("no product whose rows show")),
        }
    }
}

/// Whether the owners of these products agree that their rows meet.
pub fn agreed<'a>(products: &[&'a Product]) -> Result<(), (&'a Product, &'a Product)> {
    for (at, one) in products.iter().enumerate() {
        let mut others = products.iter().skip(at.saturating_add(1));
        if let Some(other) = others.find(|other| !one.links_with(other)) {
            return Err((one, other));
        }
    }
    Ok(())
}

impl fmt::Display for LinkedMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.presence.as_str(), self.product)
    }
}
